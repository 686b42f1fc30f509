"""How a row lies in embedded Qdrant.

A text of a payload, whatever its length, takes the binding 2 to 4 µs, a list or an object 7 and that for each of its
parts: so what is only read back is one text. What filters ask for are the terms that follow from nothing else, and a
number for each number; kinds are found by how a term begins.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...core.errors import StoreUnavailableError
from .comparison import row_from
from .engine import FOREIGN_ROW, Found, metadata_object
from .payload import Row
from .qdrant_payload import parts, path_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXT: Final = "text"
ROW: Final = "row"
"""Its id, the document's, when it was embedded, and the metadata as JSON; between them U+0000, which is in none."""
TERMS: Final = "terms"

SHOWN: Final[Any] = [TEXT, ROW]
_BETWEEN: Final = "\0"
_KEYS: Final = frozenset({TEXT, ROW, TERMS})


def row_payload(row: Row, embedded_at: str) -> dict[str, Any]:
    """The engine reads a float back from the disk with its last bit wrong now and then; an integer that a float64 has
    room for is safe. So a number is one such integer, of the same order, and where that has not said all another.
    """
    own, _, numbers = row.terms()
    own.append(document_term(row.document_id))
    payload: dict[str, Any] = {TEXT: row.text, ROW: _row_text(row, embedded_at), TERMS: own}
    for path, value in numbers.items():
        key = path_key(path)
        payload[f"n{key}"], low = parts(value)
        if low:
            payload[f"m{key}"] = low
    return payload


def embedded_anew(found: Found, embedded_at: str) -> dict[str, Any]:
    """What changes in a payload when its text is embedded again."""
    return {ROW: _row_text(row_from(found), embedded_at)}


def _row_text(row: Row, embedded_at: str) -> str:
    return _BETWEEN.join((row.id, row.document_id, embedded_at, row.metadata))


def document_term(document_id: str) -> str:
    """Other terms begin with a path, which is never empty."""
    return f"={document_id}"


def number_field(path: str) -> str:
    """Where the engine compares the numbers at a path: what to index for it."""
    return f"n{path_key(path)}"


def low_field(path: str) -> str:
    return f"m{path_key(path)}"


def read_row(payload: Mapping[str, Any], score: float = 0.0, vector: "NDArray[np.float32] | None" = None) -> Found:
    try:
        row_id, document_id, embedded_at, text = payload[ROW].split(_BETWEEN)
        metadata = metadata_object(json.loads(text))
        return Found(row_id, document_id, payload[TEXT], metadata, embedded_at, score, vector)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreUnavailableError(FOREIGN_ROW) from error


def stored_row(payload: Mapping[str, Any]) -> Found | None:
    """None of what our vector stores did not write."""
    ours = payload.keys() >= _KEYS and isinstance(payload[ROW], str)
    return read_row(payload) if ours else None
