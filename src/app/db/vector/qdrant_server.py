"""A collection on a Qdrant server: each operation is a request, or some of them that another may come between.

So a write says what it expects to overwrite, and the server leaves alone what has changed since it was read.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ...connections._qdrant_embedded import check_collection_name
from ...connections.qdrant import QdrantConnectionManager
from ...core.constants import Distance
from ...core.errors import MissingDependencyError
from ..query import ALL, Op, Predicate
from ..query.evaluate import matches
from ..query.predicates import comparisons
from .contract import CollectionContract
from .engine import Asked, Found, VectorEngine, check_dimension
from .fusion import RANK_CONSTANT
from .payload import Row, make_row
from .term_filter import Compiled

try:
    from qdrant_client import models
except ImportError as error:
    raise MissingDependencyError.for_extra("qdrant-client", "qdrant") from error

from .qdrant_server_access import CollectionAccess
from .qdrant_server_collections import ServerCollection, ServerCollections
from .qdrant_server_filter import both, compile_filter, document_is, has_ids, has_metadata
from .qdrant_server_points import (
    BATCH,
    PAGE,
    PAGE_WITH_VECTORS,
    PAYLOAD,
    STAMP,
    as_read,
    batches,
    found_of,
    metadata_of,
    new_vectors,
    parts,
    payload_of,
    point_of,
    points_of,
    search_width,
    stamp,
)
from .qdrant_server_rows import term_payload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Search = Callable[[ServerCollection, models.Filter | None, models.SearchParams], Awaitable[list[Found]]]
Read = models.Record

_IDS: Final = 10_000
"""Rows among which one search looks where the server cannot say what is asked for."""
_NO_PAGE: tuple[list[Read], models.ExtendedPointId | None] = ([], None)
_ATTEMPTS: Final = 3
_ORDERING: Final = models.WriteOrdering.MEDIUM  # without it replicas may apply two writes each in its own order


class QdrantServerEngine(VectorEngine):
    most = 10_000

    def __init__(
        self,
        manager: QdrantConnectionManager,
        collection: str,
        distance: Distance,
        asked: Asked,
        *,
        recall: float = 0.95,
    ) -> None:
        super().__init__(manager, check_collection_name(collection), distance, asked)
        self._recall = recall
        self._collections = ServerCollections(manager)
        self._access = CollectionAccess(self._collections, self.collection, asked, manager.settings.timeout)
        self.settles = self._access.settles

    async def open(self) -> CollectionContract | None:
        there = await self._access.found(again=True)
        return None if there is None else there.contract

    async def contract(self) -> CollectionContract | None:
        there = await self._access.look()
        return None if there is None else there.contract

    async def amend(self, change: Callable[[CollectionContract], CollectionContract]) -> CollectionContract | None:
        """In one step for each thing that is changed: others may change other things at the same time."""
        return await self._access.amend(change)

    async def replace_by(self, staged: str, run: str | None = None) -> None:
        await self._collections.replace(self.collection, staged, run)
        self._access.forget()

    async def drop(self) -> bool:
        dropped = await self._collections.drop(self.collection)
        self._access.forget()
        return dropped

    async def upsert(self, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> None:
        dimension = vectors.shape[1]
        for part in batches(rows, dimension):
            points = points_of(rows[part], vectors[part], embedded_at)
            await self._access.write(
                lambda client, name, p=points: client.upsert(name, p, ordering=_ORDERING),  # type: ignore[misc]
                dimension,
                make=True,
            )

    async def replace(
        self,
        document_id: str,
        rows: Sequence[Row],
        vectors: "NDArray[np.float32]",
        embedded_at: str,
        *,
        only_present: bool = False,
    ) -> bool:
        """Of two that replace a document at the same time neither removes what the other has written."""
        old = {str(each.id): each async for page in self._scroll(document_is(document_id), STAMP) for each in page}
        if only_present and not old:
            return False
        await self.upsert(rows, vectors, embedded_at)
        kept = {point_of(row.id) for row in rows}
        for part in parts([point for point in old if point not in kept], PAGE):
            await self._delete(both(document_is(document_id), as_read([old[point] for point in part])))
        return True

    async def re_embed(self, texts: Mapping[str, str], vectors: "NDArray[np.float32]", embedded_at: str) -> list[str]:
        written, done = stamp(embedded_at), list[str]()
        ids = list(texts)
        for start in range(0, len(ids), BATCH):
            wanted = {point_of(row_id): number for number, row_id in enumerate(ids[start : start + BATCH], start)}
            for _ in range(_ATTEMPTS):
                read = await self._records(list(wanted), ["text", *STAMP])
                fresh = [each for each in read if payload_of(each)["text"] == texts[ids[wanted[str(each.id)]]]]
                made = {str(each.id): vectors[wanted[str(each.id)]].tolist() for each in fresh}
                # Nothing is written where a row has gone meanwhile, which no condition lets the server overlook.
                if not fresh or await self._batch(new_vectors(made, as_read(fresh), written), vectors.shape[1]):
                    break
            now = await self._records(list(wanted), STAMP)
            ours = {str(each.id) for each in now if payload_of(each).get("write") == written["write"]}
            done += [ids[number] for point, number in wanted.items() if point in ours]
        return done

    async def nearest(
        self, vector: "NDArray[np.float32]", k: int, predicate: Predicate, *, vectors: bool = False
    ) -> list[Found]:
        """By the graph; where that gives less than k rows that meet a filter, by comparing with all that do."""
        given = vector.tolist()

        async def search(
            there: ServerCollection, condition: models.Filter | None, width: models.SearchParams
        ) -> list[Found]:
            check_dimension(self.collection, there.contract.dimension, vector)
            return await self._query(
                there, k, query=given, query_filter=condition, search_params=width, vectors=vectors
            )

        found = await self._search(predicate, k, search)
        return sorted(found, key=_score, reverse=self.distance is not Distance.L2)[:k]

    async def matching_text(self, text: str, k: int, predicate: Predicate) -> list[Found]:
        async def search(
            there: ServerCollection, condition: models.Filter | None, width: models.SearchParams
        ) -> list[Found]:
            del width
            await self._access.index_words(there)
            return await self._query(there, k, query=models.TextQuery(text=text), using="text", query_filter=condition)

        return sorted(await self._search(predicate, k, search, again=False), key=_score, reverse=True)[:k]

    async def hybrid(
        self, vector: "NDArray[np.float32]", text: str, k: int, predicate: Predicate, *, candidates: int
    ) -> list[Found]:
        compiled = await self._compiled(predicate)
        if not compiled.exact:
            return await super().hybrid(vector, text, k, predicate, candidates=candidates)
        condition = None if predicate == ALL else compiled.condition
        width = search_width(self._recall, candidates)
        stages = [
            models.Prefetch(query=vector.tolist(), filter=condition, limit=candidates, params=width),
            models.Prefetch(query=models.TextQuery(text=text), using="text", filter=condition, limit=candidates),
        ]
        # The server counts ranks from 0, and the paper from 1.
        fusion = models.RrfQuery(rrf=models.Rrf(k=RANK_CONSTANT + 1))

        async def search(there: ServerCollection) -> list[Found]:
            check_dimension(self.collection, there.contract.dimension, vector)
            await self._access.index_words(there)
            await self._access.index_numbers(there, compiled.numbers)
            return await self._query(there, k, query=fusion, prefetch=stages)

        return await self._access.read(search, [])

    async def retrieve(self, ids: Sequence[str], *, vectors: bool = False) -> list[Found]:
        there: dict[str, Found] = {}
        for part in parts(list(dict.fromkeys(ids)), PAGE_WITH_VECTORS if vectors else PAGE):
            for record in await self._records([point_of(each) for each in part], PAYLOAD, vectors=vectors):
                found = found_of(record)
                there[found.id] = found
        return [there[each] for each in ids if each in there]

    async def pages(
        self, predicate: Predicate, *, document_id: str | None = None, vectors: bool = False
    ) -> AsyncIterator[list[Found]]:
        compiled = Compiled(document_is(document_id or ""), exact=True)
        if document_id is None:
            compiled = await self._compiled(predicate)
        async for page in self._scroll(compiled.condition, PAYLOAD, vectors=vectors, compiled=compiled):
            found = [found_of(each) for each in page]
            met = found if compiled.exact else [each for each in found if matches(predicate, each.metadata)]
            if met:
                yield met

    async def count(self, predicate: Predicate) -> int:
        compiled = await self._compiled(predicate)
        if not compiled.exact:
            return sum([len(page) async for page in self.pages(predicate)])

        async def work(there: ServerCollection) -> int:
            await self._access.index_numbers(there, compiled.numbers)
            counted = await self._collections.read(
                lambda client: client.count(there.name, count_filter=compiled.condition, exact=True)
            )
            return counted.count

        return await self._access.read(work, 0)

    async def delete(self, ids: Sequence[str]) -> int:
        total = 0
        for part in parts([point_of(each) for each in dict.fromkeys(ids)], PAGE):
            there = [str(each.id) for each in await self._records(part, ["id"])]
            if there and await self._delete(has_ids(there)):
                total += len(there)
        return total

    async def delete_where(self, predicate: Predicate) -> int:
        compiled = await self._compiled(predicate)
        if compiled.exact:
            return await self._delete_all(compiled.condition, compiled)
        total = 0
        async for page in self._scroll(compiled.condition, ["metadata"], compiled=compiled):
            met = {str(each.id): payload_of(each)["metadata"] for each in page if matches(predicate, metadata_of(each))}
            for part in parts(list(met), BATCH):
                if await self._delete(models.Filter(should=[has_metadata(point, met[point]) for point in part])):
                    total += len(part)
        return total

    async def delete_document(self, document_id: str) -> int:
        return await self._delete_all(document_is(document_id))

    async def update_metadata(self, predicate: Predicate, changes: Mapping[str, Any]) -> int:
        total = 0
        # What no longer matches after its change must not move the pages.
        ids = [found.id async for page in self.pages(predicate) for found in page]
        for part in parts(ids, BATCH):
            left = [point_of(each) for each in part]
            while left:
                total, left = await self._change(left, predicate, changes, total)
        return total

    async def _change(
        self, points: list[str], predicate: Predicate, changes: Mapping[str, Any], total: int
    ) -> tuple[int, list[str]]:
        """Change what matches and is as it was read; return which others are to be read again."""
        wanted: dict[str, str] = {}
        operations: list[models.UpdateOperation] = []
        for record in await self._records(points, PAYLOAD):
            found, text = found_of(record), payload_of(record)["metadata"]
            if not matches(predicate, found.metadata):
                continue
            row = make_row(found.id, found.document_id, found.text, {**found.metadata, **changes})
            wanted[str(record.id)] = row.metadata
            payload = {"metadata": row.metadata, **term_payload(row)}
            same = has_metadata(str(record.id), text)
            operations.append(models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, filter=same)))
        if not operations or not await self._batch(operations):
            return total, []
        now = {str(each.id): payload_of(each)["metadata"] for each in await self._records(list(wanted), ["metadata"])}
        overtaken = [point for point, text in now.items() if text != wanted[point]]
        return total + len(now) - len(overtaken), overtaken

    async def _search(self, predicate: Predicate, k: int, search: Search, *, again: bool = True) -> list[Found]:
        """Search within what meets the predicate; where the server cannot say it, within the rows that do.

        `again`, by comparing with all of them, where the graph has led to less than k.
        """
        compiled = await self._compiled(predicate)
        everything = search_width(1, k)
        if not compiled.exact:
            ids = [found.id async for page in self.pages(predicate) for found in page]
            best: list[Found] = []
            for part in parts(ids, _IDS):
                these = has_ids([point_of(each) for each in part])
                best += await self._access.read(lambda there, c=these: search(there, c, everything), [])  # type: ignore[misc]
            # Between the two steps another caller may have changed a row.
            return [each for each in best if matches(predicate, each.metadata)]
        condition = None if predicate == ALL else compiled.condition

        async def work(there: ServerCollection) -> list[Found]:
            await self._access.index_numbers(there, compiled.numbers)
            width = search_width(self._recall, k)
            found = await search(there, condition, width)
            if again and len(found) < k and predicate != ALL and width != everything:
                found = await search(there, condition, everything)
            return found

        return await self._access.read(work, [])

    async def _query(self, there: ServerCollection, k: int, *, vectors: bool = False, **asked: Any) -> list[Found]:
        answer = await self._collections.read(
            lambda client: client.query_points(there.name, limit=k, with_payload=PAYLOAD, with_vectors=vectors, **asked)
        )
        return [found_of(point) for point in answer.points]

    async def _scroll(
        self,
        condition: models.Filter,
        fields: list[str],
        *,
        vectors: bool = False,
        compiled: Compiled[models.Filter] | None = None,
    ) -> AsyncIterator[list[Read]]:
        after: models.ExtendedPointId | None = None
        while True:

            async def page(
                there: ServerCollection, start: models.ExtendedPointId | None = after
            ) -> tuple[list[Read], models.ExtendedPointId | None]:
                if compiled is not None:
                    await self._access.index_numbers(there, compiled.numbers)
                return await self._collections.read(
                    lambda client: client.scroll(
                        there.name,
                        scroll_filter=condition,
                        limit=PAGE_WITH_VECTORS if vectors else PAGE,
                        offset=start,
                        with_payload=fields,
                        with_vectors=vectors,
                    )
                )

            records, after = await self._access.read(page, _NO_PAGE)
            if records:
                yield records
            if after is None:
                return

    async def _records(self, points: Sequence[str], fields: list[str], *, vectors: bool = False) -> list[Read]:
        async def work(there: ServerCollection) -> list[Read]:
            return await self._collections.read(
                lambda client: client.retrieve(there.name, points, with_payload=fields, with_vectors=vectors)
            )

        return await self._access.read(work, [])

    async def _delete_all(self, condition: models.Filter, compiled: Compiled[models.Filter] | None = None) -> int:
        """Some hundreds at a time: they are counted, which a server does not do, and each request ends in time."""
        total = 0
        async for page in self._scroll(condition, ["id"], compiled=compiled):
            if await self._delete(both(has_ids([str(each.id) for each in page]), condition)):
                total += len(page)
        return total

    async def _delete(self, condition: models.Filter) -> bool:
        selector = models.FilterSelector(filter=condition)
        return await self._access.write(lambda client, name: client.delete(name, selector, ordering=_ORDERING))

    async def _batch(self, operations: Sequence[models.UpdateOperation], dimension: int | None = None) -> bool:
        return await self._access.write(
            lambda client, name: client.batch_update_points(name, operations, ordering=_ORDERING), dimension
        )

    async def _compiled(self, predicate: Predicate) -> Compiled[models.Filter]:
        begins = any(each.op is Op.STARTSWITH for each in comparisons(predicate))
        return compile_filter(predicate, prefixes=begins and await self._collections.finds_prefixes())


def _score(found: Found) -> float:
    return found.score
