"""A collection of embedded Qdrant: each operation is one job of the engine's thread, its contract checked there."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ...connections._qdrant_embedded import Collections, check_collection_name
from ...connections.qdrant import QdrantConnectionManager
from ...core.constants import Distance
from ..query import ALL, Predicate
from ..query.evaluate import matches
from .contract import CollectionContract
from .engine import Asked, Found, VectorEngine, check_dimension
from .payload import Row
from .qdrant_collection import BATCH, PAGE, QdrantCollection, stored_contract
from .qdrant_filter import Condition, compile_filter, document_is, has_ids
from .qdrant_payload import point_id
from .term_filter import Compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

R = TypeVar("R")

_NO_ROWS: list[Found] = []
_NO_PAGE: tuple[list[Found], uuid.UUID | None] = (_NO_ROWS, None)


class QdrantEdgeEngine(VectorEngine):
    most = 1_000_000

    def __init__(
        self,
        manager: QdrantConnectionManager,
        collection: str,
        distance: Distance,
        asked: Asked,
        *,
        filterable: Sequence[str] = (),
    ) -> None:
        super().__init__(manager, check_collection_name(collection), distance, asked)
        self._manager = manager
        self._filterable = frozenset(filterable)

    async def open(self) -> CollectionContract | None:
        return await self._read(lambda collection: collection.contract, None)

    async def upsert(self, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> None:
        for start in range(0, len(rows), BATCH):
            part, part_vectors = rows[start : start + BATCH], vectors[start : start + BATCH]
            await self._write(part_vectors, lambda c, r=part, v=part_vectors: c.upsert(r, v, embedded_at))  # type: ignore[misc]

    async def replace(
        self,
        document_id: str,
        rows: Sequence[Row],
        vectors: "NDArray[np.float32]",
        embedded_at: str,
        *,
        only_present: bool = False,
    ) -> bool:
        return await self._write(
            vectors, lambda each: each.replace(document_id, rows, vectors, embedded_at, only_present=only_present)
        )

    async def re_embed(self, texts: Mapping[str, str], vectors: "NDArray[np.float32]", embedded_at: str) -> list[str]:
        return await self._write(vectors, lambda collection: collection.re_embed(texts, vectors, embedded_at))

    async def nearest(
        self, vector: "NDArray[np.float32]", k: int, predicate: Predicate, *, vectors: bool = False
    ) -> list[Found]:
        asked = vector.tolist()

        def search(collection: QdrantCollection, condition: Condition | None) -> list[Found]:
            check_dimension(self.collection, collection.dimension, vector)
            return collection.search(asked, k, condition, vectors=vectors)

        return await self._search(predicate, search)

    async def matching_text(self, text: str, k: int, predicate: Predicate) -> list[Found]:
        return await self._search(predicate, lambda collection, condition: collection.matching_text(text, k, condition))

    async def hybrid(
        self, vector: "NDArray[np.float32]", text: str, k: int, predicate: Predicate, *, candidates: int
    ) -> list[Found]:
        asked = vector.tolist()

        def search(collection: QdrantCollection, condition: Condition | None) -> list[Found]:
            check_dimension(self.collection, collection.dimension, vector)
            return collection.hybrid(asked, text, k, condition, candidates=candidates)

        return await self._search(predicate, search)

    async def retrieve(self, ids: Sequence[str], *, vectors: bool = False) -> list[Found]:
        return await self._read(lambda collection: collection.retrieve(ids, vectors=vectors), _NO_ROWS)

    async def pages(
        self, predicate: Predicate, *, document_id: str | None = None, vectors: bool = False
    ) -> AsyncIterator[list[Found]]:
        compiled = compile_filter(predicate) if document_id is None else Compiled(document_is(document_id), exact=True)
        async for page in self._matching(predicate, compiled, vectors=vectors):
            yield page

    async def count(self, predicate: Predicate) -> int:
        compiled = compile_filter(predicate)
        if compiled.exact:
            return await self._read(lambda collection: collection.count(compiled.condition), 0, compiled)
        return sum([len(page) async for page in self._matching(predicate, compiled)])

    async def delete(self, ids: Sequence[str]) -> int:
        return await self._change(lambda collection: collection.delete(ids), 0)

    async def delete_where(self, predicate: Predicate) -> int:
        compiled = compile_filter(predicate)
        if compiled.exact:
            return await self._change(lambda collection: collection.delete_where(compiled.condition), 0, compiled)
        total = 0
        ids = [found.id async for page in self._matching(predicate, compiled) for found in page]
        for start in range(0, len(ids), PAGE):
            part = ids[start : start + PAGE]
            total += await self._change(lambda collection, p=part: collection.delete(p, predicate), 0)  # type: ignore[misc]
        return total

    async def delete_document(self, document_id: str) -> int:
        return await self._change(lambda collection: collection.delete_where(document_is(document_id)), 0)

    async def update_metadata(self, predicate: Predicate, changes: Mapping[str, Any]) -> int:
        total = 0
        # What no longer matches after its change must not move the pages.
        ids = [found.id async for page in self.pages(predicate) for found in page]
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]

            def job(collection: QdrantCollection, part: Sequence[str] = part) -> int:
                found = [each for each in collection.retrieve(part) if matches(predicate, each.metadata)]
                return collection.update_metadata(found, changes)

            total += await self._change(job, 0)
        return total

    async def drop(self) -> bool:
        engine = await self._manager.engine()
        return await engine.write(lambda collections: collections.drop(self.collection))

    async def contract(self) -> CollectionContract | None:
        engine = await self._manager.engine()
        return await engine.read(lambda collections: stored_contract(collections, self.collection))

    async def amend(self, change: Callable[[CollectionContract], CollectionContract]) -> CollectionContract | None:
        def job(collections: Collections) -> CollectionContract | None:
            known = stored_contract(collections, self.collection)
            if known is None:
                return None
            known = change(known)
            collections.amend(self.collection, known.to_json())
            return known

        engine = await self._manager.engine()
        return await engine.write(job)

    async def replace_by(self, staged: str, run: str | None = None) -> None:
        def job(collections: Collections) -> None:
            known, old = stored_contract(collections, staged), stored_contract(collections, self.collection)
            if known is not None:
                if old is not None:
                    old.check_run(run, self.collection)
                contract = replace(known, replaces=None)
                collections.replace(self.collection, staged, contract.to_json())

        engine = await self._manager.engine()
        await engine.write(job)

    async def _search(
        self, predicate: Predicate, search: Callable[[QdrantCollection, Condition | None], list[Found]]
    ) -> list[Found]:
        """Search within what meets the predicate; where the engine cannot say it, within the rows that do."""
        compiled = compile_filter(predicate)
        condition = None if predicate == ALL else compiled.condition  # one that all meet is asked of each row
        if not compiled.exact:
            points = {point_id(found.id) async for page in self._matching(predicate, compiled) for found in page}
            if not points:
                return []
            condition = has_ids(points)

        def job(collection: QdrantCollection) -> list[Found]:
            found = search(collection, condition)
            if compiled.exact:
                return found
            # Between the two steps another caller may have changed a row.
            return [each for each in found if matches(predicate, each.metadata)]

        return await self._read(job, _NO_ROWS, compiled)

    async def _matching(
        self, predicate: Predicate, compiled: Compiled[Condition], *, vectors: bool = False
    ) -> AsyncIterator[list[Found]]:
        after: uuid.UUID | None = None
        while True:
            rows, after = await self._read(
                lambda collection, start=after: collection.page(compiled.condition, start, vectors=vectors),  # type: ignore[misc]
                _NO_PAGE,
                compiled,
            )
            met = rows if compiled.exact else [found for found in rows if matches(predicate, found.metadata)]
            if met:
                yield met
            if after is None:
                return

    async def _read(
        self,
        work: Callable[[QdrantCollection], R],
        absent: R,
        compiled: Compiled[Condition] | None = None,
        *,
        write: bool = False,
    ) -> R:
        contract = await self.asked(None)
        engine = await self._manager.engine()

        def job(collections: Collections) -> R:
            collection = QdrantCollection.find(collections, self.collection, contract, write=write)
            if collection is None:
                return absent
            if compiled is not None:
                collection.index(compiled.numbers)
            return work(collection)

        return await (engine.write(job) if write else engine.read(job))

    async def _change(
        self, work: Callable[[QdrantCollection], R], absent: R, compiled: Compiled[Condition] | None = None
    ) -> R:
        """Change what is there; a collection that does not exist has nothing to change."""
        return await self._read(work, absent, compiled, write=True)

    async def _write(self, vectors: "NDArray[np.float32]", work: Callable[[QdrantCollection], R]) -> R:
        contract = await self.asked(vectors.shape[1])
        engine = await self._manager.engine()

        def job(collections: Collections) -> R:
            collection = QdrantCollection.find_or_make(collections, self.collection, contract)
            collection.index(self._filterable)
            return work(collection)

        return await engine.write(job)
