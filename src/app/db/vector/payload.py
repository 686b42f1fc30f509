"""What a row keeps of a document, and the terms by which a filter finds it exactly.

Engines compare loosely: `= 1` meets `[1]` and `true`, a null is no value, lists are searched where nobody asked. So a
row keeps its metadata as JSON text, which comes back as it went in, and beside it a list of terms, one for everything
a filter can ask to be equal: `city=t:Paris`, `year=n:2024.0`, `done=b:1`, `tags~t:new` for an element of a list, and
`city^t` for the kind of what is there. A comparison then is a look-up of one word.

Some of them follow from the others and from the numbers: that `city` is a text from there being a term that begins with
`city=t:`. An engine that can look for that needs only the rest, which is less to store.
"""

import asyncio
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ...core.errors import InvalidChangeError
from ..models.values import INT64, check_float, check_integer, check_text
from .embeddings.model import check_embeddable

MAX_DEPTH: Final = 32
PLAIN: Final = 256
"""Characters of a text that its term has in plain; a longer text has its hash behind them."""

EXACT_INTEGERS: Final = 2**53
"""Up to here each integer has a float64 of its own, which is what the engines' ranges compare."""

_FEW = 64
_NAME = re.compile(r"\w[\w \-]*")  # what a field path can name, as in the grammar of filters
_PLAIN_INTEGERS = range(-EXACT_INTEGERS, EXACT_INTEGERS)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Terms(NamedTuple):
    """What a filter can find a row by."""

    own: list[str]
    """The terms that follow from nothing else."""
    following: list[str]
    numbers: dict[str, float]
    """Those at each path, as engines compare them."""

    @property
    def all(self) -> list[str]:
        return [*self.own, *self.following]


class Row(NamedTuple):
    """`values` is the metadata, and `metadata` its JSON.

    One object: of a load of many rows each other one would bring the next collection of garbage nearer, which the
    event loop stands still for.
    """

    id: str
    document_id: str
    text: str
    metadata: str
    values: Mapping[str, Any]

    def terms(self) -> Terms:
        """Made anew each time: a load of many rows wants them once, for some rows at a time."""
        found = Terms([], [], {})
        _collect(self.values, "", found)
        return found


def to_row(document: Any, *, row_id: str | None = None, document_id: str | None = None) -> Row:
    """Read a document; InvalidChangeError for what cannot be stored as it is.

    The two ids stand in for what the document does not have.
    """
    try:
        text, metadata, own_id = document.page_content, document.metadata, getattr(document, "id", None)
    except AttributeError:
        raise InvalidChangeError(
            f"a document has page_content and metadata, and {type(document).__name__} has not"
        ) from None
    check_embeddable([text])
    metadata = check_metadata(metadata or {})
    row_id = _id("id", (str(uuid.uuid4()) if row_id is None else row_id) if own_id is None else own_id)
    given = metadata.get("document_id")
    if given is None:
        given = row_id if document_id is None else document_id
    return make_row(row_id, _id("document_id", given), text, metadata)


def make_row(row_id: str, document_id: str, text: str, metadata: Mapping[str, Any]) -> Row:
    """A row of what was checked before."""
    return Row(row_id, document_id, text, _encode(metadata), metadata)


def check_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy; InvalidChangeError for what would not come back as it went in."""
    checked: dict[str, Any] = _checked(dict(metadata), "metadata", MAX_DEPTH)
    return checked


def row_of(document_id: str, document: Any, *, row_id: str | None = None) -> Row:
    """Read a document that is, or is a part of, the document with this id; its metadata may not say otherwise."""
    row = to_row(document, row_id=row_id, document_id=document_id)
    if row.document_id != document_id:
        raise InvalidChangeError(f"the metadata names the document {row.document_id!r}, and not {document_id!r}")
    return row


async def read_rows(documents: Sequence[Any], document_id: str | None = None) -> list[Row]:
    """Read documents, all before any is embedded; many of them in a thread, since 20,000 take half a second."""

    def read() -> list[Row]:
        if document_id is None:
            return [to_row(document) for document in documents]
        return [row_of(document_id, document) for document in documents]

    return read() if len(documents) <= _FEW else await asyncio.to_thread(read)


def equality_term(path: str, value: Any) -> str | None:
    """The word a row has when the value at the path equals this one; None when no row can."""
    term = _term(value)
    return None if term is None else f"{path}={term}"


def element_term(path: str, value: Any) -> str | None:
    """The word a row has when a list at the path has such an element; None when no row can."""
    term = _term(value)
    return None if term is None else f"{path}~{term}"


def kind_term(path: str, kind: str) -> str:
    return f"{path}^{kind}"


KINDS: Final = ("b", "n", "t", "l", "d")
"""Boolean, number, text, list, dict. A null has no kind, as if it were missing."""


def _id(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidChangeError(f"{name} is text, and not a {type(given).__name__}")
    try:
        return check_text(given)
    except ValueError as error:
        raise InvalidChangeError(f"{name}: {error}") from None


def _checked(value: Any, place: str, depth: int) -> Any:
    """A copy of what comes back as it went in; anything else is refused."""
    if depth == 0:
        raise InvalidChangeError(f"{place}: nested deeper than {MAX_DEPTH} levels")
    try:
        match value:
            case None | bool():
                return value
            case str():
                return check_text(str.__str__(value))
            case int():
                return check_integer(int(value))
            case float():
                return check_float(float(value))
            case list():
                return [_checked(item, f"{place}[{number}]", depth - 1) for number, item in enumerate(value)]
            case dict():
                return {
                    _key(key, place): item if _is_plain(item) else _checked(item, f"{place}.{key}", depth - 1)
                    for key, item in value.items()
                }
    except InvalidChangeError:
        raise
    except ValueError as error:
        raise InvalidChangeError(f"{place}: {error}") from None
    raise InvalidChangeError(
        f"{place}: a {type(value).__name__} is not JSON and would not come back as it went in; "
        "give text, numbers, booleans, None, lists and dicts"
    )


def _is_plain(value: Any) -> bool:
    """Whether there is nothing to check: most values of most metadata."""
    kind = type(value)
    if kind is str:
        return value.isascii() and "\0" not in value
    return value is None or kind is bool or (kind is int and value in INT64)


@lru_cache(maxsize=1_000)
def _can_be_named(key: str) -> bool:
    """Documents have mostly the same keys."""
    return _NAME.fullmatch(key) is not None


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise InvalidChangeError(f"{place}: a key is text, and not the {type(key).__name__} {key!r}")
    return check_text(key)


def _collect(metadata: Mapping[str, Any], prefix: str, found: Terms) -> None:
    own, following, numbers = found
    for name, value in metadata.items():
        if value is None or not _can_be_named(name):
            continue
        path = f"{prefix}{name}"
        match value:
            case str():
                own.append(f"{path}={_term(value)}")
                following.append(f"{path}^t")
            case bool():
                own.append(f"{path}={_term(value)}")
                following.append(f"{path}^b")
            case int() | float():
                number = numbers[path] = float(value)
                # Beyond, two integers may be one float64.
                (following if abs(number) < EXACT_INTEGERS else own).append(f"{path}={_term(value)}")
                following.append(f"{path}^n")
            case list():
                own.append(f"{path}^l")
                own += dict.fromkeys(f"{path}~{term}" for item in value if (term := _term(item)) is not None)
            case dict():
                own.append(f"{path}^d")
                _collect(value, f"{path}.", found)


def _term(value: Any) -> str | None:
    match value:
        case str():
            if len(value) <= PLAIN:
                return f"t:{value}"
            # U+0000 is in no stored text, so no short text looks like this.
            return f"t:{value[:PLAIN]}\0{sha256(value.encode()).hexdigest()}"
        case None:
            return "z"
        case bool():
            return f"b:{value:d}"
        case int() if value in _PLAIN_INTEGERS:
            return f"n:{value}.0"
        case int() | float() | Decimal():
            number = _canonical(value)
            return None if number is None else f"n:{number}"
    return None


def _canonical(value: float | Decimal) -> str | None:
    """One spelling for all numbers that are equal, whatever their type; None for what no JSON number equals."""
    near = float(value)
    if math.isfinite(near) and near == value:
        return repr(near + 0.0)  # -0.0 is 0.0
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal) and abs(value) < 2**64 and value == value.to_integral_value():
        return str(int(value))
    return None
