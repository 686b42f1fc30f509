"""Which values every store can hold, whatever the store: one answer for all of them."""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

from pydantic import BaseModel, RootModel, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

INT64 = range(-(2**63), 2**63)
MAX_NESTING: Final = 90
"""Levels of lists and dicts in one value; MongoDB ends at 100, SQLite at 1,000, Python's own JSON at about as many."""

Scalar: TypeAlias = bool | int | float | Decimal | str | bytes | datetime | date | UUID | None
"""What a filter can compare with."""


def utc_now() -> datetime:
    """The time, aware and in the precision that every store keeps (milliseconds)."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(value: datetime) -> datetime:
    """Return an aware datetime in UTC, cut to milliseconds; a naive one is refused, since its instant is unknown."""
    if value.tzinfo is not UTC:
        if value.utcoffset() is None:
            raise ValueError("a datetime needs a time zone, such as datetime.now(UTC)")
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise ValueError("a datetime must lie between the years 1 and 9999 in UTC") from None
    rest = value.microsecond % 1000
    # A difference has no fold, and takes a third of the time of `replace`.
    return value - _MICROSECONDS[rest] if rest or value.fold else value


_MICROSECONDS: Final = tuple(timedelta(microseconds=each) for each in range(1000))


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


def check_float(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a number may not be NaN or infinite")
    return value


def check_decimal(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError("a number may not be NaN or infinite")
    return value


def _same(value: Any) -> Any:
    return value


_SCALARS: Mapping[type, Callable[[Any], Any]] = {
    str: check_text,
    int: check_integer,
    float: check_float,
    datetime: to_milliseconds,
    Decimal: check_decimal,
    **dict.fromkeys((type(None), bool, bytes, UUID, date, time, timedelta), _same),
}


# Subclasses of these may write themselves in another way.
_PLAIN: Mapping[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__}


def storable(value: Any, depth: int = MAX_NESTING) -> Any:
    """Return the value as every store keeps it; ValueError for what some store cannot keep.

    That is the types of `_SCALARS`, and lists and dicts with text as keys of these: models become dicts by field
    names, enum members their values, tuples lists, and sets lists that are in order. The model's own types make them
    again of that.
    """
    check = _SCALARS.get(type(value))
    if check is not None:
        return check(value)
    if type(value) is list and depth > 0:
        return [storable(item, depth - 1) for item in value]
    if isinstance(value, Enum):
        return _one(value.value)
    for base in type(value).__mro__:
        if base in _SCALARS:
            return _SCALARS[base](_PLAIN[base](value) if base in _PLAIN else value)
    if depth == 0:
        raise ValueError(f"lists and dicts may nest {MAX_NESTING} levels deep, no deeper")
    match value:
        case RootModel():
            return storable(value.root, depth)
        case BaseModel():
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            return _dict({**fields, **(value.__pydantic_extra__ or {})}, depth)
        case SecretStr() | SecretBytes():
            return storable(value.get_secret_value())
        case Mapping():
            return _dict(value, depth)
        case list() | tuple() | set() | frozenset() | deque():
            items = [storable(item, depth - 1) for item in value]
            return _in_order(items) if isinstance(value, set | frozenset) else items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dict({each.name: getattr(value, each.name) for each in dataclasses.fields(value)}, depth)
    return _text_of(value)


def _in_order(items: list[Any]) -> list[Any]:
    """Two sets that are equal may give their items in two orders; what is stored of them is one."""
    try:
        return sorted(items)
    except TypeError:  # of several types
        return sorted(items, key=lambda item: (type(item).__name__, repr(item)))


def _dict(values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    document = {_key(key): storable(item, depth - 1) for key, item in values.items()}
    if len(document) != len(values):
        raise ValueError("two keys of a dict have one spelling")
    return document


def _key(key: Any) -> str:
    """JSON's keys are text; the model's type of the keys reads them back."""
    plain = _one(key)
    match plain:
        case str():
            return plain
        case bool():
            return "true" if plain else "false"
        case datetime() | date() | time():
            return plain.isoformat()
        case int() | float() | Decimal() | UUID():
            return str(plain)
    raise ValueError(f"a {type(key).__name__} cannot be a key")


def _one(value: Any) -> Any:
    plain = storable(value)
    if isinstance(plain, list | dict):
        raise ValueError("an enum member or a key must be one value, not several")  # noqa: TRY004 - ours to refuse
    return plain


def _text_of(value: Any) -> str:
    """URLs, paths, network addresses and the like, which pydantic writes as text and reads again."""
    try:
        text = to_jsonable_python(value)
    except PydanticSerializationError:
        text = None
    if not isinstance(text, str):
        raise ValueError(f"a {type(value).__name__} cannot be stored")  # noqa: TRY004 - ours to refuse
    return check_text(text)
