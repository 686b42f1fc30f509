"""How a row lies in Qdrant, embedded or a server: its point's id, its payload, and the numbers that are compared."""

import struct
import uuid
from collections.abc import Mapping
from typing import Any, Final

from .payload import Row

TERMS: Final = "terms"
HIGH: Final = "high"
LOW: Final = "low"
"""Where a row has its numbers, by path: see `number_payload`."""

SHOWN: Final = ("id", "doc", "text", "metadata", "at")
"""What of a payload is read back."""

_UUID_LENGTH: Final = 36
_IDS: Final = uuid.UUID("b5a4d5de-5f0c-5c43-8a52-6d1f0f7e2c19")


def point_id(row_id: str) -> uuid.UUID:
    """A UUID in its usual spelling is itself; any other text has one made of it."""
    if len(row_id) == _UUID_LENGTH:
        try:
            same = uuid.UUID(row_id)
        except ValueError:
            pass
        else:
            if str(same) == row_id:
                return same
    return uuid.uuid5(_IDS, row_id)


def row_payload(row: Row, embedded_at: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "doc": row.document_id,
        "text": row.text,
        "metadata": row.metadata,
        "at": embedded_at,
        TERMS: row.terms,
        **number_payload(row.numbers),
    }


def number_field(path: str) -> str:
    """Where the engine compares the numbers at a path: what to index for it."""
    return f"{HIGH}.{path_key(path)}"


def number_payload(numbers: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """The numbers of a row for the engine to compare: each float64 as the two halves of an integer of the same order.

    The embedded engine reads a float back from the disk with its last bit wrong now and then; small integers are safe.
    """
    parts = {path_key(path): halves(value) for path, value in numbers.items()}
    return {
        HIGH: {key: high for key, (high, _) in parts.items()},
        LOW: {key: low for key, (_, low) in parts.items()},
    }


def path_key(path: str) -> str:
    """The path as one name without dots or spaces, which mean something in the engine's own paths."""
    return f"x{path.encode().hex()}"


def halves(value: float) -> tuple[int, int]:
    bits = int.from_bytes(struct.pack(">d", value + 0.0))  # -0.0 is 0.0
    ordered = bits ^ (2**64 - 1 if bits >> 63 else 2**63)
    return ordered >> 32, ordered & (2**32 - 1)
