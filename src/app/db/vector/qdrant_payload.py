"""How a row lies in Qdrant, embedded or a server: its point's id, its payload, and the numbers that are compared."""

import uuid
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from .payload import Row

TERMS: Final = "terms"
HIGH: Final = "high"
LOW: Final = "low"
"""Where a row has its numbers, by path: see `number_payload`."""

SHOWN: Final = ("id", "doc", "text", "metadata", "at")
"""What of a payload is read back."""

_UUID_LENGTH: Final = 36
_FLOAT: Final = Struct(">d")
_BITS: Final = Struct(">Q")
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
        **{name: numbers for name, numbers in number_payload(row.numbers).items() if numbers},
    }


def number_field(path: str) -> str:
    """Where the engine compares the numbers at a path: what to index for it."""
    return f"{HIGH}.{path_key(path)}"


def number_payload(numbers: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """The numbers of a row for the engine to compare: each float64 as the two parts of an integer of the same order.

    The embedded engine reads a float back from the disk with its last bit wrong now and then; an integer that a float64
    has room for is safe. Numbers of few digits have nothing in their low part, which is left out then. To write over
    what a row had before, both are needed, empty or not.
    """
    high, low = {}, {}
    for path, value in numbers.items():
        key = path_key(path)
        high[key], rest = parts(value)
        if rest:
            low[key] = rest
    return {HIGH: high, LOW: low}


@lru_cache(maxsize=1_000)
def path_key(path: str) -> str:
    """The path as one name without dots or spaces, which mean something in the engine's own paths."""
    return f"x{path.encode().hex()}"


def parts(value: float) -> tuple[int, int]:
    """The upper 52 bits, and the lower 12."""
    [bits] = _BITS.unpack(_FLOAT.pack(value + 0.0))  # -0.0 is 0.0
    ordered = bits ^ (2**64 - 1 if bits >> 63 else 2**63)
    return ordered >> 12, ordered & 0xFFF
