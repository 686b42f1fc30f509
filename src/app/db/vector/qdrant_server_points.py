"""Rows as points of a Qdrant server: what is sent in one request, what comes back, and how wide a search is."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from qdrant_client import models

from .engine import Found
from .payload import Row
from .qdrant_payload import point_id
from .qdrant_server_filter import both, field_is, has_ids
from .qdrant_server_rows import SHOWN, read_metadata, read_row, row_payload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

BATCH: Final = 128
"""Points in one request: to write them as JSON holds the event loop for 7 ms at 384 dimensions."""
PAGE: Final = 500
PAGE_WITH_VECTORS: Final = 100
STAMP: Final = ["at", "write"]
PAYLOAD: Final = list(SHOWN)

_BYTES: Final = 8 * 2**20  # a server takes 32 MB, and a text can grow as JSON
_NUMBER: Final = 22  # the longest that a float32 is as text
_EXACT: Final = models.SearchParams(exact=True)
_WIDEST: Final = 4_096


def batches(rows: Sequence[Row], dimension: int) -> Iterator[slice]:
    """What goes into one request each, in order."""
    start = size = 0
    for number, row in enumerate(rows):
        own = len(row.text) + len(row.metadata) + sum(map(len, row.terms().all)) + dimension * _NUMBER
        if number > start and (number - start == BATCH or size + own > _BYTES):
            yield slice(start, number)
            start, size = number, 0
        size += own
    if rows:
        yield slice(start, len(rows))


def points_of(rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> list[models.PointStruct]:
    written = stamp(embedded_at)
    return [
        models.PointStruct(id=point_of(row.id), vector=vector, payload={**row_payload(row, embedded_at), **written})
        for row, vector in zip(rows, vectors.tolist(), strict=True)
    ]


def stamp(embedded_at: str) -> dict[str, str]:
    """When a row was embedded, and by which write: two of them may have one time."""
    return {"at": embedded_at, "write": uuid.uuid4().hex}


def new_vectors(
    vectors: Mapping[str, list[float]], condition: models.Filter, written: Mapping[str, str]
) -> list[models.UpdateOperation]:
    """Give the points that meet the condition other vectors, and the stamp of the write."""
    points = [models.PointVectors(id=point, vector=vector) for point, vector in vectors.items()]
    return [
        models.UpdateVectorsOperation(
            update_vectors=models.UpdateVectors(points=points, update_filter=condition),
        ),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload=dict(written), filter=condition)),
    ]


def point_of(row_id: str) -> str:
    return str(point_id(row_id))


def found_of(point: models.Record | models.ScoredPoint) -> Found:
    import numpy as np  # noqa: PLC0415 - loaded by what made the vectors

    vector = None if point.vector is None else np.asarray(point.vector, dtype=np.float32)
    score = point.score if isinstance(point, models.ScoredPoint) else 0.0
    return read_row(payload_of(point), score, vector)


def payload_of(point: models.Record | models.ScoredPoint) -> dict[str, Any]:
    return point.payload or {}


def metadata_of(point: models.Record) -> dict[str, Any]:
    return read_metadata(payload_of(point))


def as_read(points: Sequence[models.Record]) -> models.Filter:
    """These rows, as long as nobody has embedded anything in their place."""
    kept = [payload_of(each) for each in points]
    key = "write" if all("write" in each for each in kept) else "at"
    return both(has_ids([str(each.id) for each in points]), field_is(key, *sorted({each[key] for each in kept})))


def search_width(recall: float, k: int) -> models.SearchParams:
    """How much of its graph the server looks at. What misses one neighbour in 20 looks at 256 points: data whose
    dimensions all count need that many, other data far fewer. A recall of 1 compares with everything.
    """
    if recall == 1:
        return _EXACT
    return models.SearchParams(hnsw_ef=max(k, min(_WIDEST, round(12.8 / (1 - recall)))))


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
