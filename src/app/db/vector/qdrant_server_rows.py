"""How a row lies on a Qdrant server.

It has all its terms: before 1.19 a server could not say how one begins, and a number need not be indexed to be found.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...core.errors import StoreUnavailableError
from .engine import FOREIGN_ROW, Found, metadata_object
from .payload import Row
from .qdrant_payload import parts, path_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TERMS: Final = "terms"
HIGH: Final = "high"
LOW: Final = "low"
"""Where a row has the two parts of its numbers, by path; of most numbers there is only the first."""

SHOWN: Final = ("id", "doc", "text", "metadata", "at")
"""What of a payload is read back."""
_KEYS: Final = frozenset({*SHOWN, TERMS})


def row_payload(row: Row, embedded_at: str) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "id": row.id,
        "doc": row.document_id,
        "text": row.text,
        "metadata": row.metadata,
        "at": embedded_at,
    }
    return payload | {name: part for name, part in term_payload(row).items() if part or name == TERMS}


def term_payload(row: Row) -> dict[str, Any]:
    """What filters compare. To write over what a row had before all of it is needed, empty or not."""
    terms = row.terms()
    high, low = {}, {}
    for path, value in terms.numbers.items():
        key = path_key(path)
        high[key], rest = parts(value)
        if rest:
            low[key] = rest
    return {TERMS: terms.all, HIGH: high, LOW: low}


def number_field(path: str) -> str:
    """Where the server compares the numbers at a path: what to index for it."""
    return f"{HIGH}.{path_key(path)}"


def low_field(path: str) -> str:
    return f"{LOW}.{path_key(path)}"


def read_row(payload: Mapping[str, Any], score: float = 0.0, vector: "NDArray[np.float32] | None" = None) -> Found:
    metadata = read_metadata(payload)
    try:
        return Found(payload["id"], payload["doc"], payload["text"], metadata, payload["at"], score, vector)
    except KeyError as error:
        raise StoreUnavailableError(FOREIGN_ROW) from error


def read_metadata(payload: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return metadata_object(json.loads(payload["metadata"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreUnavailableError(FOREIGN_ROW) from error


def stored_row(payload: Mapping[str, Any]) -> Found | None:
    """None of what our vector stores did not write."""
    ours = payload.keys() >= _KEYS and isinstance(payload["metadata"], str)
    return read_row(payload) if ours else None
