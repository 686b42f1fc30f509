"""Which values every store can hold, whatever the store: one answer for all of them."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

INT64 = range(-(2**63), 2**63)


def utc_now() -> datetime:
    """The time, aware and in the precision that every store keeps (milliseconds)."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(value: datetime) -> datetime:
    """Return an aware datetime in UTC, cut to milliseconds; a naive one is refused, since its instant is unknown."""
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError("a datetime needs a time zone, such as datetime.now(UTC)")
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a datetime must lie between the years 1 and 9999 in UTC") from None
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def check_text(value: str) -> str:
    """Refuse what one store or another cannot keep: U+0000 (cut by SQLite, refused by PostgreSQL), half characters."""
    if "\0" in value:
        raise ValueError("text may not contain U+0000")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("text may not contain a lone surrogate") from None
    return value


def check_integer(value: int) -> int:
    if value not in INT64:
        raise ValueError("an integer may not exceed 64 bits")
    return value


def check_number(value: float | Decimal) -> float | Decimal:
    if not math.isfinite(value):
        raise ValueError("a number may not be NaN or infinite")
    return value


def storable(value: Any) -> Any:
    """Return the value as every store keeps it, nested models as dicts; ValueError for what some store cannot keep."""
    match value:
        case None | bool() | UUID() | bytes() | timedelta():
            return value
        case Enum():
            storable(value.value)
            return value
        case str():
            return check_text(value)
        case int():
            return check_integer(value)
        case float() | Decimal():
            return check_number(value)
        case datetime():
            return to_milliseconds(value)
        case date() | time():
            return value
        case BaseModel():
            fields = {**value.__dict__, **(value.__pydantic_extra__ or {})}
            return {name: storable(item) for name, item in fields.items()}
        case Mapping():
            return {check_text(key) if isinstance(key, str) else key: storable(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return type(value)(storable(item) for item in value)
    return value
