"""What a row is called as a point of Qdrant, embedded or on a server, and how Qdrant compares its numbers safely."""

import uuid
from functools import lru_cache
from struct import Struct
from typing import Final

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


@lru_cache(maxsize=1_000)
def path_key(path: str) -> str:
    """The path as one name without dots or spaces, which mean something in the engine's own paths."""
    return f"x{path.encode().hex()}"


def parts(value: float) -> tuple[int, int]:
    """The upper 52 bits and whether there is more, and the lower 12, which most numbers have not."""
    [bits] = _BITS.unpack(_FLOAT.pack(value + 0.0))  # -0.0 is 0.0
    ordered = bits ^ (2**64 - 1 if bits >> 63 else 2**63)
    low = ordered & 0xFFF
    return (ordered >> 12 << 1) | (low > 0), low
