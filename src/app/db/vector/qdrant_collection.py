"""One Qdrant collection as its owner thread sees it: rows in, rows out, in steps that nobody else can see half of."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ...core.constants import Distance
from ...core.errors import EmbeddingMismatchError, MissingDependencyError, StoreUnavailableError
from ..query import Predicate
from ..query.evaluate import matches
from .contract import CollectionContract
from .engine import Found
from .fusion import RANK_CONSTANT
from .payload import Row, make_row

try:
    import qdrant_edge as engine
except ImportError as error:
    raise MissingDependencyError.for_extra("qdrant-edge-py", "embedded") from error

from .qdrant_filter import document_is
from .qdrant_payload import point_id
from .qdrant_rows import SHOWN, TERMS, TEXT, embedded_anew, number_field, read_row, row_payload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...connections._qdrant_embedded import Collections

T = TypeVar("T")

BATCH: Final = 64  # points in one call: it holds the interpreter's lock for 6 ms at most, where 1,000 hold it for 40
PAGE: Final = 500
MAX_INDEXES: Final = 32

_DISTANCES = {
    Distance.COSINE: engine.Distance.Cosine,
    Distance.L2: engine.Distance.Euclid,
    Distance.INNER_PRODUCT: engine.Distance.Dot,
}


class QdrantCollection:
    def __init__(self, collections: "Collections", name: str, contract: CollectionContract) -> None:
        self.contract = contract
        self.dimension = contract.dimension
        self._collections = collections
        self._name = name
        self._shard = collections.shard(name)
        self._indexed = collections.kept(name).indexed

    @classmethod
    def find(
        cls, collections: "Collections", name: str, asked: CollectionContract, *, write: bool = False
    ) -> "QdrantCollection | None":
        """The collection, its contract checked; None when there is none."""
        contract = stored_contract(collections, name)
        if contract is None:
            return None
        contract.check(asked, _place(collections, name), write=write)
        return cls(collections, name, contract)

    @classmethod
    def find_or_make(cls, collections: "Collections", name: str, asked: CollectionContract) -> "QdrantCollection":
        collection = cls.find(collections, name, asked, write=True)
        if collection is None:
            collections.create(name, asked.to_json(), partial(_make_shard, asked))
            return cls(collections, name, asked)
        if asked.provider is not None and collection.contract.provider is None:
            collection.contract = replace(collection.contract, provider=asked.provider, model=asked.model)
            collections.amend(name, collection.contract.to_json())
        return collection

    def upsert(self, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> None:
        for start in range(0, len(rows), BATCH):
            points = [
                engine.Point(point_id(row.id), vector, row_payload(row, embedded_at))
                for row, vector in zip(
                    rows[start : start + BATCH], vectors[start : start + BATCH].tolist(), strict=True
                )
            ]
            self._shard.update(engine.UpdateOperation.upsert_points(points))
            self._collections.wrote(self._name, len(points))

    def replace(
        self,
        document_id: str,
        rows: Sequence[Row],
        vectors: "NDArray[np.float32]",
        embedded_at: str,
        *,
        only_present: bool,
    ) -> bool:
        """Write the new rows of a document, then remove its others."""
        if only_present and not self.count(document_is(document_id)):
            return False
        self.upsert(rows, vectors, embedded_at)
        kept = engine.HasIdCondition({point_id(row.id) for row in rows})
        self._delete(engine.Filter(must=[document_is(document_id)], must_not=[kept]))
        return True

    def re_embed(self, texts: Mapping[str, str], vectors: "NDArray[np.float32]", embedded_at: str) -> list[str]:
        """Give rows new vectors where their text is still the one that was embedded; return their ids."""
        done: list[str] = []
        for start in range(0, len(texts), BATCH):
            ids = list(texts)[start : start + BATCH]
            now = {found.id: found for found in self.retrieve(ids)}
            fresh = [
                (row_id, vector)
                for row_id, vector in zip(ids, vectors[start : start + BATCH].tolist(), strict=True)
                if row_id in now and now[row_id].text == texts[row_id]
            ]
            if fresh:
                self._shard.update(
                    engine.UpdateOperation.update_vectors([engine.PointVectors(point_id(each), v) for each, v in fresh])
                )
                for row_id, _ in fresh:
                    changed = embedded_anew(now[row_id], embedded_at)
                    self._shard.update(engine.UpdateOperation.set_payload([point_id(row_id)], changed))
                self._collections.wrote(self._name, 2 * len(fresh))
                done += [row_id for row_id, _ in fresh]
        return done

    def index(self, paths: frozenset[str]) -> None:
        """Index numbers, once. Past MAX_INDEXES they are found all the same, by reading."""
        fields = {number_field(path) for path in paths}
        if fields <= self._indexed:
            return
        self._indexed |= self._shard.info().payload_schema.keys()
        for field in sorted(fields - self._indexed):
            if len(self._indexed) < MAX_INDEXES:
                params = engine.IntegerIndexParams(lookup=False, range=True)
                self._shard.update(engine.UpdateOperation.create_field_index(field, params))
            self._indexed.add(field)

    def update_metadata(self, found: Sequence[Found], changes: Mapping[str, Any]) -> int:
        """Change the metadata of rows that still have the one that was read; return how many."""
        total = 0
        for part in _parts(found, BATCH):
            now = {each.id: each.metadata for each in self.retrieve([each.id for each in part])}
            for each in part:
                if now.get(each.id) == each.metadata:
                    row = make_row(each.id, each.document_id, each.text, {**each.metadata, **changes})
                    payload = row_payload(row, each.embedded_at)
                    self._shard.update(engine.UpdateOperation.overwrite_payload([point_id(each.id)], payload))
                    total += 1
            self._collections.wrote(self._name, len(part))
        return total

    def search(self, vector: list[float], k: int, condition: engine.Filter | None, *, vectors: bool) -> list[Found]:
        request = engine.SearchRequest(
            engine.Query.Nearest(vector), k, filter=condition, with_payload=SHOWN, with_vector=vectors
        )
        return [_found(point, point.score) for point in self._shard.search(request)]

    def matching_text(self, text: str, k: int, condition: engine.Filter | None) -> list[Found]:
        self._index_text()
        request = engine.QueryRequest(k, query=engine.TextQuery(TEXT, text), filter=condition, with_payload=SHOWN)
        return [_found(point, point.score) for point in self._shard.query(request)]

    def hybrid(
        self, vector: list[float], text: str, k: int, condition: engine.Filter | None, *, candidates: int
    ) -> list[Found]:
        self._index_text()
        stages = [
            engine.Prefetch(candidates, query=engine.Query.Nearest(vector), filter=condition),
            engine.Prefetch(candidates, query=engine.TextQuery(TEXT, text), filter=condition),
        ]
        # The engine counts ranks from 0, and the paper from 1.
        request = engine.QueryRequest(
            k,
            query=engine.Fusion.Rrf(k=RANK_CONSTANT + 1),  # type: ignore[arg-type]  # the stubs have it in no union
            prefetches=stages,
            with_payload=SHOWN,
        )
        return [_found(point, point.score) for point in self._shard.query(request)]

    def _index_text(self) -> None:
        """On the first search by words; from then on the engine keeps it."""
        if TEXT in self._indexed:
            return
        if TEXT not in self._shard.info().payload_schema:
            params = engine.TextIndexParams(scoring=True, lowercase=True, ascii_folding=True)
            self._shard.update(engine.UpdateOperation.create_field_index(TEXT, params))
        self._indexed.add(TEXT)

    def page(
        self, condition: engine.Filter, after: uuid.UUID | None = None, *, vectors: bool = False
    ) -> tuple[list[Found], uuid.UUID | None]:
        """At most PAGE rows, and where the next page begins."""
        request = engine.ScrollRequest(
            offset=after, limit=PAGE, filter=condition, with_payload=SHOWN, with_vector=vectors
        )
        records, following = self._shard.scroll(request)
        return [_found(record) for record in records], following  # type: ignore[return-value]  # all ids are UUIDs

    def retrieve(self, ids: Sequence[str], *, vectors: bool = False) -> list[Found]:
        """The rows with these ids, in this order."""
        there: dict[str, Found] = {}
        for part in _parts(ids, PAGE):
            for record in self._shard.retrieve([point_id(each) for each in part], SHOWN, vectors):
                found = _found(record)
                there[found.id] = found
        return [there[each] for each in ids if each in there]

    def count(self, condition: engine.Filter) -> int:
        return self._shard.count(engine.CountRequest(exact=True, filter=condition))

    def delete(self, ids: Sequence[str], predicate: Predicate | None = None) -> int:
        """Delete rows, with a predicate only those that still meet it; return how many."""
        total = 0
        for part in _parts(list(dict.fromkeys(ids)), PAGE):
            points = [
                point_id(found.id)
                for found in self.retrieve(part)
                if predicate is None or matches(predicate, found.metadata)
            ]
            if points:
                self._shard.update(engine.UpdateOperation.delete_points(list(points)))
                self._collections.wrote(self._name, len(points))
            total += len(points)
        return total

    def delete_where(self, condition: engine.Filter) -> int:
        """Delete what meets the condition; return how many: counted first, since the engine does not say."""
        count = self.count(condition)
        if count:
            self._delete(condition)
        return count

    def _delete(self, condition: engine.Filter) -> None:
        self._shard.update(engine.UpdateOperation.delete_points_by_filter(condition))
        self._collections.wrote(self._name, 1)


def stored_contract(collections: "Collections", name: str) -> CollectionContract | None:
    kept: CollectionContract | None = collections.kept(name).contract
    if kept is not None:
        return kept
    stored = collections.contract(name)
    if stored is None:
        return None
    try:
        kept = collections.kept(name).contract = CollectionContract.from_json(stored)
    except (TypeError, KeyError, ValueError) as error:
        raise StoreUnavailableError(
            f"{_place(collections, name)} has a contract that cannot be read: {error!r}"
        ) from error
    return kept


def _place(collections: "Collections", name: str) -> str:
    return f"the collection {name!r} in {collections.path}"


def _make_shard(contract: CollectionContract, path: str) -> engine.EdgeShard:
    if contract.dimension is None:
        raise EmbeddingMismatchError("a collection is made with a dimension")
    vectors = engine.EdgeVectorParams(size=contract.dimension, distance=_DISTANCES[contract.distance])
    shard = engine.EdgeShard.create(path, engine.EdgeConfig(vectors=vectors))
    shard.update(engine.UpdateOperation.create_field_index(TERMS, engine.KeywordIndexParams(prefix=True)))
    return shard


def _found(record: Any, score: float = 0.0) -> Found:
    import numpy as np  # noqa: PLC0415 - loaded by what made the vectors

    vector = None if record.vector is None else np.asarray(record.vector, dtype=np.float32)
    return read_row(record.payload, score, vector)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
