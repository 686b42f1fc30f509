"""Rows with their vectors in PostgreSQL's binary formats, for COPY and for arrays. No vector ever becomes text.

A vector is its number of dimensions, two bytes of nothing, and big-endian float4s (pgvector's `vector_recv`); a
halfvec the same with half-precision floats.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from ...connections._postgres_binary import Binary
from ...core.constants import Distance
from ...core.errors import StoreUnavailableError
from ..backends._json import decode_json
from ..backends._postgres_json import encode_nested
from .engine import FOREIGN_ROW, Found
from .payload import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS: Final = ("id", "document_id", "content", "source", "embedded_at", "embedding")
"""In this order everywhere. `source` is the metadata as JSON text; the column `metadata` is generated from it."""

_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_length = struct.Struct("!i").pack
_BLOCK = 1_000
_TEXT_OID = 25
_MOMENT_OID = 1184


def vector_parameter(vector: "NDArray[np.float32]", *, half: bool) -> Binary:
    return Binary(_head(len(vector)) + _numbers(vector, half=half))


def encode_vectors(vectors: "NDArray[np.float32]", *, half: bool) -> list[bytes]:
    number, dimension = vectors.shape
    data, head = _numbers(vectors, half=half), _head(dimension)
    size = len(data) // max(number, 1)
    return [head + data[start : start + size] for start in range(0, len(data), size)]


def _head(dimension: int) -> bytes:
    return struct.pack("!hh", dimension, 0)


def _numbers(vectors: "NDArray[np.float32]", *, half: bool) -> bytes:
    return vectors.astype(">f2" if half else ">f4").tobytes()


def decode_vector(data: bytes, *, half: bool) -> "NDArray[np.float32]":
    import numpy as np  # noqa: PLC0415 - loaded by what made the vectors

    return np.frombuffer(data, dtype=">f2" if half else ">f4", offset=4).astype(np.float32)


def encode_source(metadata: str) -> str:
    """A row's metadata as the records have nested values: no key is taken for a tag, and no float for an integer."""
    return encode_nested(json.loads(metadata)) if '"$' in metadata or "e+" in metadata else metadata


def copy_blocks(
    rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str, *, half: bool
) -> Iterator[bytes]:
    """What COPY … (FORMAT BINARY) reads; https://www.postgresql.org/docs/current/sql-copy.html."""
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    fields = struct.pack("!h", len(COLUMNS))
    moment = _length(8) + _micros(embedded_at)
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        encoded = encode_vectors(vectors[start : start + _BLOCK], half=half)
        pieces: list[bytes] = []
        for row, vector in zip(part, encoded, strict=True):
            key, document = row.id.encode(), row.document_id.encode()
            text, source = row.text.encode(), encode_source(row.metadata).encode()
            pieces += (
                fields,
                _length(len(key)),
                key,
                _length(len(document)),
                document,
                _length(len(text)),
                text,
                _length(len(source)),
                source,
                moment,
                _length(len(vector)),
                vector,
            )
        yield b"".join(pieces)
    yield struct.pack("!h", -1)


def arrays(
    rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str, *, half: bool, oid: int
) -> list[Binary]:
    """One for each column. `oid` is that of the vectors' type in this database."""
    return [
        text_array([row.id for row in rows]),
        text_array([row.document_id for row in rows]),
        text_array([row.text for row in rows]),
        text_array([encode_source(row.metadata) for row in rows]),
        _array(_MOMENT_OID, [_micros(embedded_at)] * len(rows)),
        vector_array(vectors, half=half, oid=oid),
    ]


def text_array(texts: Sequence[str]) -> Binary:
    return _array(_TEXT_OID, [text.encode() for text in texts])


def vector_array(vectors: "NDArray[np.float32]", *, half: bool, oid: int) -> Binary:
    return _array(oid, encode_vectors(vectors, half=half))


def _array(oid: int, values: Sequence[bytes]) -> Binary:
    head = struct.pack("!iiiii", 1, 0, oid, len(values), 1)
    return Binary(head + b"".join(part for value in values for part in (_length(len(value)), value)))


def _micros(moment: str) -> bytes:
    past = datetime.fromisoformat(moment) - _ZERO
    return struct.pack("!q", (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds)


distance_of: Final = itemgetter(5)


def decode_sources(sources: Sequence[str]) -> list[dict[str, Any]]:
    """In one call, which takes a third of the time."""
    decoded: list[dict[str, Any]] = decode_json(f"[{','.join(sources)}]")
    if {type(each) for each in decoded} - {dict}:
        raise StoreUnavailableError(FOREIGN_ROW)
    return decoded


def found(rows: Sequence[Sequence[Any]], distance: Distance | None, *, half: bool = False) -> list[Found]:
    """Rows with what pgvector's operator gives in their sixth column, as the cosine, the distance or the inner product;
    without a `distance` it is the score itself. Their seventh, if there is one, is the vector.
    """
    begin, factor = _MEASURES[distance]
    metadatas = decode_sources([row[3] for row in rows])
    return [
        Found(
            row[0],
            row[1],
            row[2],
            metadata,
            f"{row[4].isoformat()}+00:00",
            begin + factor * row[5],
            decode_vector(row[6], half=half) if len(row) > len(COLUMNS) else None,
        )
        for row, metadata in zip(rows, metadatas, strict=True)
    ]


_MEASURES: Final[dict[Distance | None, tuple[float, float]]] = {
    Distance.COSINE: (1.0, -1.0),
    Distance.INNER_PRODUCT: (0.0, -1.0),
    Distance.L2: (0.0, 1.0),
    None: (0.0, 1.0),
}
