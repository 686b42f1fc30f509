"""A collection embedded anew, with another model or measured otherwise, while it goes on to be used.

The new collection is made beside the old one, page by page; what is there already is passed over, so that a run that
was stopped goes on where it was. Then it catches up with what was written meanwhile, the old one takes no more writes,
the rest is caught up with, and the new one takes the old one's place.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from uuid import uuid4

from ...core.errors import (
    AppError,
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingMismatchError,
    OutcomeUnknownError,
)
from ...core.utils.logger import get_logger
from ..models.values import utc_now
from ..query import ALL
from .comparison import row_from, surplus, unlike
from .contract import CollectionContract, decided, staged_name
from .embeddings.model import EmbeddingModel
from .engine import Found
from .similarity import directed
from .store import CollectionVectorStore

logger = get_logger(__name__)

__all__ = ["Estimate", "Progress", "ReembedReport", "estimate", "reembed"]

Progress = Callable[[str, int, int], None]
"""Called now and then with what is being done, how many rows are, and how many there are."""

_BLOCK = 1_000
"""Texts that are embedded in one call: what a killed run may embed twice."""
_LITTLE = 200
"""Rows that may be left to catch up with when the old collection is closed to writes."""
_MOST_PASSES = 10
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left to embed, of `rows` in all."""

    rows: int
    texts: int
    characters: int

    @property
    def tokens(self) -> int:
        """About: a token has four characters in English, and fewer in other languages. Providers count their own."""
        return -(-self.characters // _CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """From what to what, which are the same where nothing was to do; `embedded` and `removed` are rows of the new
    collection, in this run.
    """

    before: str
    after: str
    rows: int
    embedded: int
    removed: int


async def estimate(store: CollectionVectorStore, embedding: EmbeddingModel) -> Estimate:
    """What `reembed` would have to embed. Reads the whole collection, and writes nothing; embeds one text at most, to
    measure a vector.
    """
    work = _Reembedding(store, embedding, None)
    state = await work.look()
    if state is _State.DONE:
        return Estimate(await work.old.count(ALL), 0, 0)
    rows = texts = characters = 0
    async for page in work.old.pages(ALL):
        rows += len(page)
        left = await unlike(page, work.staged) if state is _State.BEGUN else page
        texts += len(left)
        characters += sum(len(each.text) for each in left)
    return Estimate(rows, texts, characters)


async def reembed(
    store: CollectionVectorStore,
    embedding: EmbeddingModel,
    *,
    progress: Progress | None = None,
    settles: float | None = None,
) -> ReembedReport:
    """Embed the store's collection with `embedding`, and measure it as the store does, whatever it is made with now.

    Until the switch the collection is searched, and nearly until then written, as before. Where it fails, is cancelled
    or killed, a second call goes on; towards the embedding that the collection has already, it takes back what another
    began. Of two calls at once the one that began last goes on, and the other raises, unless it was about to switch:
    then that is finished first.
    `settles` is how long writers are waited for that have not seen yet that the collection takes no more, in seconds;
    by itself it is as long as the engine's other users may go without looking.
    """
    work = _Reembedding(store, embedding, progress)
    settles = work.old.settles if settles is None else settles
    if await work.begin(settles):
        await work.build()
        await work.switch(settles)
    else:
        work.rows = await work.old.count(ALL)
    return ReembedReport(work.before.summary, work.target.summary, work.rows, work.embedded, work.removed)


class _State(Enum):
    NEW = "nothing is there yet, or what belongs to another re-embedding"
    BEGUN = "a part of the new collection is there"
    READY = "a new collection is about to take the old one's place, and has to"
    DONE = "the collection is embedded so"


class _Reembedding:
    before: CollectionContract
    there: CollectionContract | None
    target: CollectionContract

    def __init__(self, store: CollectionVectorStore, embedding: EmbeddingModel, progress: Progress | None) -> None:
        self._store = store
        self._embedding = embedding
        self._progress = progress
        self._run = uuid4().hex
        self.old = store.engine_on(store.collection, self._any)
        self.staged = store.engine_on(staged_name(store.collection), self._asked)
        self.rows = self.embedded = self.removed = 0
        self._closed: CollectionContract | None = None

    async def look(self) -> _State:
        before = await self.old.contract()
        if before is None:
            raise ConfigurationError(f"there is no collection {self.old.collection!r}: there is nothing to embed anew")
        self.before = before
        await self._embedding.load()
        self.target = CollectionContract(
            self._embedding.provider,
            self._embedding.model,
            await self._embedding.measure(),
            self._store.distance,
            chunker=before.chunker,
            replaces=self.old.collection,
        )
        self.there = there = await self.staged.contract()
        if there is not None and there.replaces != self.old.collection:
            raise ConfigurationError(
                f"the collection {self.staged.collection!r} is in the way and none of ours: give it another name"
            )
        if there is not None and decided(there, before, there.ready):
            return _State.READY
        if _alike(before, self.target):
            return _State.DONE
        return _State.BEGUN if there is not None and _alike(there, self.target) else _State.NEW

    async def begin(self, settles: float) -> bool:
        """Clear away what belongs to another re-embedding; False when nothing is to do.

        This run is written down first, and then looked whether another may replace the collection, which first says
        that it may, and then looks whose run is written there.
        """
        state = await self._finished()
        if state is _State.DONE and self.there is None and self.before.run is self.before.moving_to is None:
            return False
        await self.old.amend(lambda each: replace(each, run=self._run))
        if self.before.moving_to is not None:
            self._report("waiting for another run", 0, 0)
            await asyncio.sleep(settles)  # it may be in the middle of saying so
        state = await self._finished()
        if self.before.run is None:  # another has taken its place meanwhile
            return await self.begin(settles)
        if self.before.run != self._run:
            raise self._overtaken()
        if state is not _State.BEGUN:
            await self.staged.drop()
        if self.before.moving_to is not None or state is _State.DONE:
            run = None if state is _State.DONE else self._run
            await self.old.amend(lambda each: _open(each, run) if each.run == self._run else each)
        return state is not _State.DONE

    async def _finished(self) -> "_State":
        """What there is, once the switch is finished that another has to make."""
        while (state := await self.look()) is _State.READY and self.there is not None:
            await self.old.replace_by(self.staged.collection, self.there.ready)
        return state

    async def build(self) -> None:
        """Until little is left that the new collection has not, or writers are as fast as this."""
        self.staged.loading = True
        for number in range(_MOST_PASSES):
            if await self._catch_up("catching up" if number else "embedding") <= _LITTLE:
                break
        self._report("indexing", 0, 0)
        await self.staged.loaded()

    async def switch(self, settles: float) -> None:
        try:
            await self.old.amend(self._close)
            self._report("waiting for writers", 0, 0)
            await asyncio.sleep(settles)
            await self.old.amend(lambda each: each)  # waits for those that began before they could know
            await self._catch_up("the last of it")
            chunker = self._closed.chunker if self._closed else None
            made = await self.staged.amend(lambda each: replace(each, chunker=chunker))
            await self._check_unchanged(made)
        except BaseException:
            await self._reopen()
            raise
        try:
            if made is None:
                await self.old.drop()  # it is empty, and the next write makes it anew
            else:
                await self.old.replace_by(self.staged.collection, self._run)
        except OutcomeUnknownError:
            raise  # it may be done yet, and what is written to the old one until then would be lost
        except (AppError, asyncio.CancelledError):
            there = await self.staged.contract()
            if there is None or there.ready != self._run:
                await self._reopen()
            raise
        logger.info("re-embedded the collection %s with %s", self.old.collection, self.target.embedding)

    def _close(self, contract: CollectionContract) -> CollectionContract:
        if contract.run != self._run:
            raise self._overtaken()
        self._closed = replace(contract, moving_to=self.target.embedding, closed_by=self._run)
        return self._closed

    async def _reopen(self) -> None:
        """Where the collection is as this has closed it. One that was cancelled may have closed it without knowing."""
        await self.old.amend(lambda each: _open(each) if each == self._closed else each)

    async def _check_unchanged(self, made: CollectionContract | None) -> None:
        if self._closed is None or await self.old.contract() != self._closed or (made is None and self.rows):
            raise self._overtaken()

    def _overtaken(self) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            f"the collection {self.old.collection!r} was changed by somebody else while it was re-embedded: "
            "if another re-embedding is under way, let it end, and run this one again"
        )

    async def _catch_up(self, phase: str) -> int:
        """Have the new collection as the old one is; return how many rows that took. Reads both from end to end."""
        try:
            return await self._brought(phase)
        except (DimensionMismatchError, EmbeddingMismatchError) as error:
            there = await self.staged.contract()
            if there is not None and not _alike(there, self.target):
                raise self._overtaken() from error
            raise

    async def _brought(self, phase: str) -> int:
        total, seen, changed = await self.old.count(ALL), 0, 0
        waiting: list[Found] = []
        self._report(phase, 0, total)
        async for page in self.old.pages(ALL):
            seen += len(page)
            waiting += await unlike(page, self.staged)
            if len(waiting) >= _BLOCK:
                changed += await self._embed(waiting)
                waiting = []
            self._report(phase, seen - len(waiting), total)
        changed += await self._embed(waiting)
        self._report(phase, seen, total)
        self.rows = seen
        async for ids in surplus(self.staged, self.old):
            gone = await self.staged.delete(ids)
            self.removed += gone
            changed += gone
        return changed

    async def _embed(self, rows: list[Found]) -> int:
        if rows:
            vectors = directed(self._store.distance, await self._embedding.array([each.text for each in rows]))
            known = await self.old.contract()
            if known is None or known.run != self._run:
                raise self._overtaken()
            await self.staged.upsert([row_from(each) for each in rows], vectors, utc_now().isoformat())
            self.embedded += len(rows)
        return len(rows)

    async def _any(self, dimension: int | None) -> CollectionContract:
        """The old collection is used as it is made, whatever the store is configured for."""
        del dimension
        return CollectionContract(None, None, None, self.before.distance)

    async def _asked(self, dimension: int | None) -> CollectionContract:
        del dimension
        return self.target

    def _report(self, phase: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(phase, done, total)


def _alike(one: CollectionContract, other: CollectionContract) -> bool:
    return (one.provider, one.model, one.dimension, one.distance) == (
        other.provider,
        other.model,
        other.dimension,
        other.distance,
    )


def _open(contract: CollectionContract, run: str | None = None) -> CollectionContract:
    return replace(contract, moving_to=None, closed_by=None, run=run)
