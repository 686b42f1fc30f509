"""A collection in Chroma, in a directory or on a server: which steps an operation takes."""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ...connections._chroma_embedded import ChromaEngine
from ...connections.chromadb import ChromaDBConnectionManager
from ...core.constants import Distance
from ...core.errors import AppError, OutcomeUnknownError, StoreUnavailableError
from ..query import ALL, Predicate
from ..query.evaluate import matches
from . import chroma_catalog as catalog
from .chroma_collection import BATCH, PAGE, SERVER_BATCH, ChromaCollection, Meets, parts
from .chroma_exact import Best
from .chroma_filter import Where, compile_filter
from .chroma_recall import MeasuredIndex, measure
from .chroma_steps import Call, Steps, chroma_errors, take, take_each
from .chroma_words import MOST_TEXTS, Ranking, pattern, words_of
from .contract import CollectionContract
from .engine import Asked, Found, VectorEngine, check_dimension
from .payload import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

R = TypeVar("R")
Work = Callable[[ChromaCollection], Steps[R]]

_NO_IDS: list[str] = []
_NO_ROWS: list[Found] = []
_NONE: tuple[list[Found], int | None] = (_NO_ROWS, 0)
_FEW: Final = 100
_MANY: Final = 1_600
"""How many of the nearest are read at first, and at most, to find those that meet what Chroma cannot say."""
_LOOK_AGAIN: Final = 10.0
"""Seconds for which a server's collection counts as it was found, and an index as it was measured."""


class ChromaVectorEngine(VectorEngine):
    most = 10_000

    def __init__(
        self,
        manager: ChromaDBConnectionManager,
        collection: str,
        distance: Distance,
        asked: Asked,
        *,
        recall: float = 0.95,
    ) -> None:
        super().__init__(manager, collection, distance, asked)
        self._manager = manager
        where = manager.address or manager.path
        self._place = f"the collection {collection!r} of Chroma at {where}"
        self._recall = recall
        # Nobody else has the directory open.
        self._remembers = math.inf if manager.address is None else _LOOK_AGAIN
        self.settles = 0.0 if manager.address is None else _LOOK_AGAIN + manager.settings.timeout
        self._batch = BATCH if manager.address is None else SERVER_BATCH
        self._index: MeasuredIndex | None = None
        self._counted = 0.0
        self._measuring = False

    async def open(self) -> CollectionContract | None:
        asked = await self.asked(None)

        def look(client: Any) -> Steps[CollectionContract | None]:
            catalog.forget(client, self.collection)
            found = yield from self._find(client, asked)
            return None if found is None else found.contract

        return await self._run(look)

    async def upsert(self, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> None:
        places = {row.id: place for place, row in enumerate(rows)}  # of two with one id the last
        for part in parts(list(places.values()), self._batch):
            chosen, array = [rows[place] for place in part], vectors[part]
            await self._write(vectors, lambda each, r=chosen, v=array: each.upsert(r, v, embedded_at))  # type: ignore[misc]

    async def replace(
        self,
        document_id: str,
        rows: Sequence[Row],
        vectors: "NDArray[np.float32]",
        embedded_at: str,
        *,
        only_present: bool = False,
    ) -> bool:
        places = list({row.id: place for place, row in enumerate(rows)}.values())
        chosen, array = [rows[place] for place in places], vectors[places]
        return await self._write(
            vectors, lambda each: each.replace(document_id, chosen, array, embedded_at, only_present=only_present)
        )

    async def re_embed(self, texts: Mapping[str, str], vectors: "NDArray[np.float32]", embedded_at: str) -> list[str]:
        return await self._write(vectors, lambda each: each.re_embed(texts, vectors, embedded_at))

    async def nearest(
        self, vector: "NDArray[np.float32]", k: int, predicate: Predicate, *, vectors: bool = False
    ) -> list[Found]:
        """By the index, of more and more rows where Chroma cannot say all of the filter. Where that finds fewer than k
        and there may be more, and under a recall of 1, all that can match are compared.
        """
        side = compile_filter(predicate)
        if side.where is False:
            return []
        if self._recall < 1:
            width = await self._width(k)
            number = k if side.exact else max(width, _FEW)
            while True:
                work = self._search(vector, number, width, side.where, vectors=vectors)
                rows, there = await self._read(work, _NONE)
                found = rows if side.exact else [each for each in rows if matches(predicate, each.metadata)]
                if len(found) >= k or (there is not None and len(rows) >= there):
                    return found[:k]
                if there is not None or side.exact or number >= _MANY:
                    break
                number *= 4
        best = Best(self.distance, vector, k)
        async for page in self._matching(predicate, vectors=True, query=vector):
            best.add(page)
        return best.found(vectors=vectors)

    def _search(
        self, vector: "NDArray[np.float32]", number: int, width: int, where: Where, *, vectors: bool
    ) -> Work[tuple[list[Found], int | None]]:
        """The nearest, and how many there are to be found, where the index gave fewer than it was asked for."""

        def work(collection: ChromaCollection) -> Steps[tuple[list[Found], int | None]]:
            check_dimension(self.collection, collection.contract.dimension, vector)
            found = yield from collection.nearest(vector, number, width, where, vectors=vectors)
            return found, None if len(found) >= number else (yield from collection.count(where))

        return work

    async def matching_text(self, text: str, k: int, predicate: Predicate) -> list[Found]:
        """Chroma says which texts have a word and does not rank them: BM25, over those with the rarest words."""
        side = compile_filter(predicate)
        where = side.where
        rows = await self.count(ALL)
        ranking = Ranking(rows)
        for word in words_of(text):
            ids = await self._read(lambda each, w=word: each.ids(where, pattern(w)), _NO_IDS)  # type: ignore[misc]
            ranking.add(word, ids)
        for part in parts(ranking.candidates(), PAGE):
            page = await self._read(lambda each, p=part: each.retrieve(p, where), _NO_ROWS)  # type: ignore[misc]
            if ranking.read([found for found in page if matches(predicate, found.metadata)]) >= MOST_TEXTS:
                break
        return ranking.best(k)

    async def retrieve(self, ids: Sequence[str], *, vectors: bool = False) -> list[Found]:
        return await self._read(lambda each: each.retrieve(ids, vectors=vectors), _NO_ROWS)

    async def pages(
        self, predicate: Predicate, *, document_id: str | None = None, vectors: bool = False
    ) -> AsyncIterator[list[Found]]:
        if document_id is None:
            pages = self._matching(predicate, vectors=vectors)
        else:
            ids = await self._read(lambda each: each.ids_of(document_id), _NO_IDS)
            pages = self._pages(ids, where=True, meets=lambda found: found.document_id == document_id, vectors=vectors)
        async for page in pages:
            yield page

    async def count(self, predicate: Predicate) -> int:
        side = compile_filter(predicate)
        if side.exact:
            return await self._read(lambda each: each.count(side.where), 0)
        return sum([len(page) async for page in self._matching(predicate)])

    async def delete(self, ids: Sequence[str]) -> int:
        total = 0
        for part in parts(ids, PAGE):
            total += await self._change(lambda each, p=part: each.delete(p), 0)  # type: ignore[misc]
        return total

    async def delete_where(self, predicate: Predicate) -> int:
        side = compile_filter(predicate)
        where, meets = side.where, None if side.exact else _meets(predicate)
        ids = await self._change(lambda each: each.ids(where), _NO_IDS)
        total = 0
        for part in parts(ids, PAGE):
            total += await self._change(lambda each, p=part: each.delete(p, where, meets), 0)  # type: ignore[misc]
        return total

    async def delete_document(self, document_id: str) -> int:
        def work(collection: ChromaCollection) -> Steps[int]:
            ids = yield from collection.ids_of(document_id)
            return (yield from collection.delete(ids, meets=lambda found: found.document_id == document_id))

        return await self._change(work, 0)

    async def update_metadata(self, predicate: Predicate, changes: Mapping[str, Any]) -> int:
        side = compile_filter(predicate)
        # What no longer matches after its change must not move the pages.
        ids = await self._change(lambda each: each.ids(side.where), _NO_IDS)
        total = 0
        for part in parts(ids, PAGE):
            total += await self._change(lambda each, p=part: each.update_metadata(p, predicate, changes), 0)  # type: ignore[misc]
        return total

    async def drop(self) -> bool:
        return await self._apart(lambda client: catalog.drop(client, self.collection))

    async def contract(self) -> CollectionContract | None:
        found = await self._run(lambda client: catalog.find(client, self.collection))
        return None if found is None else found.contract

    async def amend(self, change: Callable[[CollectionContract], CollectionContract]) -> CollectionContract | None:
        found = await self._apart(lambda client: catalog.amend(client, self.collection, change))
        return None if found is None else found.contract

    async def replace_by(self, staged: str, run: str | None = None) -> None:
        await self._apart(lambda client: catalog.replace_by(client, self.collection, staged, run))

    async def _matching(
        self, predicate: Predicate, *, vectors: bool = False, query: "NDArray[np.float32] | None" = None
    ) -> AsyncIterator[list[Found]]:
        side = compile_filter(predicate)

        def begin(collection: ChromaCollection) -> Steps[list[str]]:
            if query is not None:
                check_dimension(self.collection, collection.contract.dimension, query)
            return (yield from collection.ids(side.where))

        ids = await self._read(begin, _NO_IDS)
        meets = None if side.exact else _meets(predicate)
        async for page in self._pages(ids, side.where, meets, vectors=vectors):
            yield page

    async def _pages(
        self, ids: Sequence[str], where: Where, meets: Meets | None, *, vectors: bool
    ) -> AsyncIterator[list[Found]]:
        """Of these rows those that meet both when they are read."""
        for part in parts(ids, PAGE):
            rows = await self._read(lambda each, p=part: each.retrieve(p, where, vectors=vectors), _NO_ROWS)  # type: ignore[misc]
            met = rows if meets is None else [each for each in rows if meets(each)]
            if met:
                yield met

    async def _width(self, k: int) -> int:
        """How many the index is asked for, so that the best k have the recall that is wanted."""
        now = time.monotonic()
        if now - self._counted > _LOOK_AGAIN and not self._measuring:
            self._counted = now
            self._measuring = True
            try:
                rows = await self.count(ALL)
                if self._index is None or not self._index.rows / 2 <= rows <= self._index.rows * 2:
                    self._index = await measure(self._read, rows, self._recall)
            finally:
                self._measuring = False
        return k if self._index is None else self._index.width(self._recall, k)

    async def _read(self, work: Work[R], absent: R) -> R:
        asked = await self.asked(None)

        def steps(client: Any) -> Steps[R]:
            found = yield from self._find(client, asked)
            return absent if found is None else (yield from work(found))

        return await self._run(steps)

    async def _change(self, work: Work[R], absent: R) -> R:
        """Change what is there; a collection that does not exist has nothing to change."""
        asked = await self.asked(None)

        def steps(client: Any) -> Steps[R]:
            found = yield from self._find(client, asked, write=True)
            return absent if found is None else (yield from work(found))

        return await self._run(steps, write=True)

    async def _write(self, vectors: "NDArray[np.float32]", work: Work[R]) -> R:
        asked = await self.asked(vectors.shape[1])

        def steps(client: Any) -> Steps[R]:
            found = yield from self._find(client, asked, write=True)
            if found is None:
                found = yield from catalog.make(client, self.collection, asked)
                found.contract.check(asked, self._place, write=True)
            found.batch = self._batch
            if found.contract.provider is None and asked.provider is not None:
                provider, model, chunker = asked.provider, asked.model, asked.chunker
                yield from catalog.amend(
                    client, self.collection, lambda each: replace(each, provider=provider, model=model, chunker=chunker)
                )
            return (yield from work(found))

        self._counted = 0.0
        return await self._run(steps, write=True)

    def _find(self, client: Any, asked: CollectionContract, *, write: bool = False) -> Steps[ChromaCollection | None]:
        """The collection, its contract checked."""
        found = yield from catalog.remembered(client, self.collection, self._remembers)
        if found is not None:
            try:
                found.contract.check(asked, self._place, write=write)
            except AppError:
                catalog.forget(client, self.collection)  # it may be made anew as it is asked for
                raise
        return found

    async def _apart(self, steps: Callable[[Any], Steps[R]]) -> R:
        """Steps after which the collection is another."""
        try:
            return await self._run(steps, write=True)
        finally:
            self._index = None
            self._counted = 0.0

    async def _run(self, steps: Callable[[Any], Steps[R]], *, write: bool = False) -> R:
        def twice(client: Any) -> Steps[R]:
            try:
                return (yield from steps(client))
            except chroma_errors.ChromaError as error:
                # It was dropped, or another took its name, since it was found: by whatever process. A server tells who
                # reads in the middle of that of a part that is missing.
                if write and not isinstance(error, chroma_errors.NotFoundError):
                    raise
                catalog.forget(client, self.collection)
                return (yield from steps(client))

        client = self._manager.live or await self._manager.connect()
        try:
            return await self._taken(client, twice, write=write)
        except chroma_errors.ChromaError as error:
            # Not its text, which may have values of the user's.
            reason = f"{self._place}: Chroma refused it ({type(error).__name__}, {error.code()})"
            if write and error.code() >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise OutcomeUnknownError(reason) from error
            raise StoreUnavailableError(reason) from error

    async def _taken(self, client: Any, steps: Callable[[Any], Steps[R]], *, write: bool) -> R:
        if isinstance(client, ChromaEngine):
            submit = client.write if write else client.read
            return await submit(lambda owned: take(steps(owned)))

        def ask(call: Call) -> Awaitable[Any]:
            return (self._manager.write if call.write else self._manager.read)(lambda _: call())

        return await take_each(steps(client), ask)


def _meets(predicate: Predicate) -> Meets:
    return lambda found: matches(predicate, found.metadata)
