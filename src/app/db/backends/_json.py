"""Nested values as JSON text that gives back every type: what JSON has not is an object with one `$` key.

`{"$datetime": "2026-01-10T12:00:00.000+00:00"}`. A caller's own key that begins with `$` has one more in the text, so
the two cannot be confused. Times have one length, so that their text sorts as they do.
"""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from ..query.evaluate import holds, resolve
from ..query.predicates import Op

_DURATION: Final = TypeAdapter(timedelta)


def _precision(value: datetime) -> str:
    """Milliseconds, but of what a session wrote into a mapped class's column with more."""
    return "microseconds" if value.microsecond % 1000 else "milliseconds"


_TAGS: Final[Mapping[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]]] = {
    datetime: ("$datetime", lambda value: value.isoformat(timespec=_precision(value)), datetime.fromisoformat),
    date: ("$date", date.isoformat, date.fromisoformat),
    time: ("$time", time.isoformat, time.fromisoformat),
    timedelta: ("$duration", lambda value: _DURATION.dump_python(value, mode="json"), _DURATION.validate_python),
    Decimal: ("$decimal", str, Decimal),
    UUID: ("$uuid", str, UUID),
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode(), base64.b64decode),
}
_DECODERS: Final = {tag: decode for tag, _, decode in _TAGS.values()}


def encode_json(value: Any) -> str:
    """`value` is made of what `storable` returns."""
    try:
        # Most lists are of text, and have no need of the rest of the encoder.
        text = f"[{','.join(map(encode_basestring, value))}]" if type(value) is list else _encode(value)
    except TypeError:  # a type that JSON has not, or in a list another than text
        return _encode(tagged(value))
    return _encode(tagged(value)) if '"$' in text else text


def decode_json(text: str) -> Any:
    # The hook is called for each object, so do without it where there cannot be a tag.
    if '"$' in text:
        return _decode_tagged(text)
    try:
        value, end = _decode_first(text)
    except ValueError:
        end = -1
    # What is not to the letter as we write it takes the long way.
    return value if end == len(text) else _decode(text)


def scalar_text(value: Any) -> str:
    """The text inside the tag of a value that JSON has no type for."""
    _, encode, _ = _TAGS[type(value)]
    return encode(value)


def json_holds(text: str | float | None, path: str, op: str, operand: str) -> bool:
    """A comparison inside a JSON column by its definition, for what a store's own functions cannot say exactly.

    A number that is all of the JSON is no text in the columns that SQLAlchemy makes on SQLite.
    """
    document = decode_json(text) if isinstance(text, str) else text
    return holds(Op(op), resolve(document, path) if path else document, _operand(operand))


@lru_cache(maxsize=256)
def _operand(text: str) -> Any:
    return decode_json(text)


def tagged(value: Any) -> Any:
    """The value as JSON has it, each type it has not as an object with its tag."""
    if isinstance(value, dict):
        return {f"${key}" if key.startswith("$") else key: tagged(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tagged(item) for item in value]
    entry = _TAGS.get(type(value))
    return value if entry is None else {entry[0]: entry[1](value)}


def untagged(value: Any) -> Any:
    """The value that `tagged` made this of."""
    if isinstance(value, dict):
        return _untagged({key: untagged(item) for key, item in value.items()})
    return [untagged(item) for item in value] if isinstance(value, list) else value


def _untagged(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        [(key, item)] = value.items()
        decode = _DECODERS.get(key)
        if decode is not None:
            return decode(item)
    return {key.removeprefix("$"): item for key, item in value.items()}


# Made once: `json.dumps` and `json.loads` with options make another at each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode
_decode_first = json.JSONDecoder().raw_decode
_decode_tagged = json.JSONDecoder(object_hook=_untagged).decode
