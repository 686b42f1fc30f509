"""Pages of a query, and the cursor from one to the next."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ...core.errors import InvalidFilterError
from ..backends._json import decode_json, encode_json
from ..models.schema import FieldSchema
from ..query.operations import Order

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """`next` leads to the page behind this one, as `after`; None on the last. It is text that may go through a URL.

    It has the values that the page ended with, readable to whoever gets it, so order by nothing that is secret.
    """

    items: list[ItemT]
    next: str | None


def write_cursor(values: Sequence[Any], order_by: Sequence[Order]) -> str:
    text = f"[{encode_json(_signature(order_by))},{encode_json(list(values))}]"  # each by itself, which takes a third
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: object, order_by: Sequence[Order], fields: Sequence[FieldSchema]) -> list[Any]:
    """The values, in the types of their fields. InvalidFilterError for what no page of this order gave."""
    error = InvalidFilterError("after: this is no cursor of a page in this order; begin with the first page")
    if not isinstance(cursor, str) or len(cursor) > _LONGEST:
        raise error
    try:
        decoded = decode_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode())
    except (binascii.Error, ValueError, TypeError, ArithmeticError, RecursionError):
        raise error from None
    match decoded:
        case [str(signature), list(values)] if signature == _signature(order_by) and len(values) == len(fields):
            pass
        case _:
            raise error
    try:
        return [field.accept(value) for field, value in zip(fields, values, strict=True)]
    except ValueError:
        raise error from None


_LONGEST = 100_000


def _signature(order_by: Sequence[Order]) -> str:
    return ",".join(f"{'-' if order.descending else ''}{order.field}" for order in order_by)
