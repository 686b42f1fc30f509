"""Values as BSON has them and back; what BSON has no type for is a document whose first key begins with `~`.

`{"~date": "2026-01-10"}`. MongoDB stores keys that begin with `$`, are empty or have dots, but cannot update or query
them, so these are escaped with `~` and a digit, and so is `~` itself.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from bson import Decimal128, Int64, ObjectId
from pydantic import TypeAdapter

from ..models.values import INT64
from ._mongodb_numbers import fits_decimal128, head_and_tail

DATE: Final = "~date"
HEAD: Final = "~head"
TAIL: Final = "~tail"
KEY: Final = "_id"
EXPIRES: Final = "_expires_at"
_TOP_LEVEL: Final = frozenset({KEY, EXPIRES})

_HEX_ID: Final = 24
NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - as BSON has it
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION: Final = TypeAdapter(timedelta)
_NATIVE: Final = frozenset({str, bool, float, type(None), datetime, UUID, bytes})
UNCHANGED: Final = frozenset({str, int, bool, float, type(None), UUID, bytes})


def encode_key(key: str) -> str:
    if "~" in key or "." in key:
        key = key.replace("~", "~0").replace(".", "~1")
    return key if key and key[0] != "$" else f"~2{key[1:]}" if key else "~3"


def decode_key(key: str) -> str:
    if "~" not in key:
        return key
    key = key.removeprefix("~4")
    return key.replace("~3", "").replace("~2", "$").replace("~1", ".").replace("~0", "~")


def encode_top_level(key: str) -> str:
    """A key of the document itself, where some names are ours."""
    return f"~4{key}" if key in _TOP_LEVEL else encode_key(key)


def encode_value(value: Any) -> Any:
    """`value` is made of what `storable` returns."""
    kind = type(value)
    if kind in _NATIVE:
        return value
    if kind is int:
        return value if value in INT64 else _number("~integer", value)
    if kind is dict:
        return {encode_key(key): encode_value(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return value if _NATIVE.issuperset(map(type, value)) else [encode_value(item) for item in value]
    if kind is Decimal:
        return Decimal128(value) if fits_decimal128(value) else _number("~decimal", value)
    for base, tag, encode in _TAGGED:
        if isinstance(value, base):
            return value if tag is None else {tag: encode(value)}
    raise TypeError(f"a {kind.__name__} cannot be stored")


def decode_value(value: Any) -> Any:
    kind = type(value)
    if kind in UNCHANGED:
        return value
    if kind is dict:
        for key in value:
            decode = _DECODERS.get(key)
            if decode is not None:
                return decode(value[key])
            break
        return {decode_key(key): decode_value(item) for key, item in value.items()}
    if kind is list:
        return value if UNCHANGED.issuperset(map(type, value)) else [decode_value(item) for item in value]
    other = _FOREIGN.get(kind)
    return value if other is None else other(value)


def encode_id(value: str) -> str | ObjectId:
    """As an ObjectId where that gives the very text back."""
    if len(value) == _HEX_ID:
        try:
            octets = bytes.fromhex(value)
        except ValueError:
            return value
        if octets.hex() == value:
            return ObjectId(octets)
    return value


def decode_id(value: Any) -> Any:
    return str(value) if type(value) is ObjectId else decode_value(value)


def aware(value: datetime) -> datetime:
    """Documents are read with naive datetimes, in UTC. To make them aware by `replace`, as the driver does, costs ten
    times as much.
    """
    return EPOCH + (value - NAIVE_EPOCH)


def naive(value: datetime) -> datetime:
    """As the driver would make it of an aware one, in a third of its time."""
    return NAIVE_EPOCH + (value - EPOCH)


def _number(tag: str, value: int | Decimal) -> dict[str, Any]:
    head, tail = head_and_tail(value)
    return {tag: str(value), HEAD: head} if tail is None else {tag: str(value), HEAD: head, TAIL: tail}


# In this order, since a datetime is a date.
_TAGGED: Final[tuple[tuple[type, str | None, Callable[[Any], Any]], ...]] = (
    (datetime, None, aware),
    (date, DATE, date.isoformat),
    (time, "~time", time.isoformat),
    (timedelta, "~duration", lambda value: _DURATION.dump_python(value, mode="json")),
)
_DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    DATE: date.fromisoformat,
    "~time": time.fromisoformat,
    "~duration": _DURATION.validate_python,
    "~decimal": Decimal,
    "~integer": int,
}
_FOREIGN: Final[Mapping[type, Callable[[Any], Any]]] = {
    Int64: int,
    datetime: aware,
    Decimal128: Decimal128.to_decimal,
    ObjectId: str,
}
