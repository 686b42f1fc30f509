"""What one side takes for one thing, in whatever process it is."""

import asyncio
import gc
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .data import Corpus
from .side import Side


@dataclass
class Taken:
    """Seconds for all of it, of searches for one; and how long the event loop stood still, where that was asked for."""

    seconds: float = 0.0
    stall: float = 0.0
    found: list[list[str]] = field(default_factory=list)
    """The ids for each question of a search."""


class Timed(ABC):
    """A side with a clock. With `ticking` a task wants to run every millisecond meanwhile, which takes its time."""

    name: str

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def load(self, corpus: Corpus, rows: int) -> Taken:
        """The first so many rows into an empty collection, ticking."""

    @abstractmethod
    async def upsert(self, corpus: Corpus, rows: int, *, ticking: bool = False) -> Taken: ...

    @abstractmethod
    async def search(self, corpus: Corpus, bucket: int | None = None, *, ticking: bool = False) -> Taken:
        """All questions, one after the other; the time is the median of theirs."""

    @abstractmethod
    async def clear(self) -> None: ...


class Here(Timed):
    def __init__(self, side: Side) -> None:
        self.side = side
        self.name = side.name

    async def open(self) -> None:
        await self.side.open()

    async def close(self) -> None:
        await self.side.close()

    async def load(self, corpus: Corpus, rows: int) -> Taken:
        async with _clock(ticking=True) as taken:
            await self.side.load(corpus, range(rows))
        return taken

    async def upsert(self, corpus: Corpus, rows: int, *, ticking: bool = False) -> Taken:
        async with _clock(ticking=ticking) as taken:
            await self.side.upsert(corpus, range(rows))
        return taken

    async def search(self, corpus: Corpus, bucket: int | None = None, *, ticking: bool = False) -> Taken:
        await self.side.search(corpus.queries[0], bucket)
        times: list[float] = []
        async with _clock(ticking=ticking) as taken:
            for query in corpus.queries:
                start = time.perf_counter()
                taken.found.append(list(await self.side.search(query, bucket)))
                times.append(time.perf_counter() - start)
        taken.seconds = statistics.median(times)
        return taken

    async def clear(self) -> None:
        await self.side.clear()


async def idle_stall(seconds: float = 1.0) -> float:
    """The longest that the loop stands still where nothing is done: what this machine's clock and other load make."""
    async with _clock(ticking=True) as taken:
        await asyncio.sleep(seconds)
    return taken.stall


@asynccontextmanager
async def _clock(*, ticking: bool) -> AsyncIterator[Taken]:
    taken = Taken()

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            taken.stall = max(taken.stall, now - last)
            last = now

    gc.collect()
    ticker = asyncio.create_task(tick()) if ticking else None
    await asyncio.sleep(0)
    start = time.perf_counter()
    yield taken
    taken.seconds = time.perf_counter() - start
    if ticker is not None:
        await asyncio.sleep(0.002)  # the last gap ends with a tick
        ticker.cancel()
