"""Answers loaded once, and dropped by what is written.

An answer depends on tags. A tag has a random token, and each write gives new ones to the tags it touches: before it, a
token that says "being written", and after its commit another. An answer is kept with the tokens that its tags had
before it was loaded and holds while they are the same, so one that was loaded from before a write never holds after
it, however long the loading took. A process that is killed in the middle leaves "being written", which ends by itself.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import uniform
from typing import Any, Final

from ...core.errors import AppError
from ...core.utils.logger import get_logger
from .policy import CachePolicy
from .store import WRITING, CacheStore, Entry, Tokens, copied

logger = get_logger(__name__)

_WRITING_SECONDS: Final = 30.0
_TAG_SECONDS: Final = 86_400.0
_LOADING_SECONDS: Final = 5.0
"""For how long one process waits for another one's answer, before it asks the store itself."""
_BROKEN_SECONDS: Final = 1.0
"""For how long a cache that failed is left alone."""
_JITTER: Final = 0.1
MISSING: Final = object()


@dataclass(slots=True)
class CacheStats:
    """Counts since the process began. `failures` are questions that the cache did not answer."""

    hits: int = 0
    misses: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Question:
    key: str
    tags: Sequence[str]
    tokens: tuple[str, ...]
    """Of the tags, before it is loaded."""
    load: Callable[[], Awaitable[Any]]
    policy: CachePolicy


class Cache:
    """One cache for any number of repositories. A store that is broken makes reads slower, never wrong."""

    def __init__(self, store: CacheStore) -> None:
        self.store = store
        self.stats = CacheStats()
        self._flights: dict[tuple[asyncio.AbstractEventLoop, str, tuple[str, ...]], asyncio.Future[Any]] = {}
        self._broken_until = 0.0
        self._owed: set[str] = set()
        self._troubled = False

    async def get(self, key: str, tags: Sequence[str], load: Callable[[], Awaitable[Any]], policy: CachePolicy) -> Any:
        """Return the answer, loaded when there is none that holds."""
        try:
            if self._troubled:
                await self._recover()
            tokens, entry = await self.store.get(tags, key)
            if entry is not None and entry.tokens == tokens:
                self.stats.hits += 1
                return entry.value
            known = await self._completed(tags, tokens)
        except AppError as error:
            self._failed(error)
            return await load()
        self.stats.misses += 1
        if known is None or WRITING in known:
            return await load()
        return await self._load_once(_Question(key, tags, known, load, policy))

    async def writing(self, tags: Sequence[str]) -> str:
        """Say before a write that answers with these tags do not hold, and that none is to be kept.

        Return the writer's name, for `written`. Of a write that is never said to be over, the time ends by itself.
        """
        writer = _token()
        try:
            if self._troubled:
                await self._recover()
            await self.store.open(tags, writer, _WRITING_SECONDS)
        except AppError as error:
            self._owed.update(tags)
            self._failed(error)
        return writer

    async def written(self, tags: Sequence[str], writer: str) -> None:
        """Say that the write is over, however it ended."""
        try:
            if self._troubled:
                await self._recover()
            await self.store.settle(tags, writer, _token(), _TAG_SECONDS)
        except AppError as error:
            self._owed.update(tags)
            self._failed(error)

    async def _completed(self, tags: Sequence[str], tokens: Tokens) -> tuple[str, ...] | None:
        """The tokens, made for the tags that have none; None when that was in vain."""
        if None in tokens:
            for tag, token in zip(tags, tokens, strict=True):
                if token is None:
                    await self.store.claim(tag, _token(), _TAG_SECONDS)
            tokens, _ = await self.store.get(tags, "")
        known = tuple(token for token in tokens if token is not None)
        return known if len(known) == len(tags) else None

    async def _recover(self) -> None:
        """Raise what is broken at once, for a while; then pay what is owed since."""
        if time.monotonic() < self._broken_until:
            raise _BrokenError
        if self._owed:
            owed = list(self._owed)
            await self.store.settle(owed, "", _token(), _TAG_SECONDS)
            self._owed.difference_update(owed)
        self._troubled = bool(self._owed)

    async def _load_once(self, question: "_Question") -> Any:
        """One task of this loop loads, the others wait for it. It takes as many others' turn as it is cancelled."""
        loop = asyncio.get_running_loop()
        flight = (loop, question.key, question.tokens)
        while True:
            running = self._flights.get(flight)
            if running is None:
                break
            with suppress(asyncio.CancelledError):
                return copied(await asyncio.shield(running))
            if not running.cancelled():
                raise asyncio.CancelledError
        future: asyncio.Future[Any] = loop.create_future()
        self._flights[flight] = future
        try:
            value = await self._load(question)
        except BaseException as error:
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # it is raised here too, so nobody else has to look
            else:
                future.cancel()
            raise
        else:
            future.set_result(value)
            return copied(value) if self._flights.get(flight) is future else value
        finally:
            self._flights.pop(flight, None)

    async def _load(self, question: "_Question") -> Any:
        key, tags = question.key, question.tags
        # Whoever asks after a write does not wait for a load from before it.
        lock = f"loading:{key}:{'.'.join(question.tokens)}"
        try:
            mine = await self.store.claim(lock, "1", _LOADING_SECONDS)
            if not mine:
                value = await self._wait_for(question, lock)
                if value is not MISSING:
                    return value
            else:
                # Another may have loaded it since this one looked.
                now, entry = await self.store.get(tags, key)
                if entry is not None and entry.tokens == now:
                    await self.store.release(lock)
                    return entry.value
        except AppError as error:
            self._failed(error)
            return await question.load()
        try:
            value = await question.load()
            seconds = question.policy.absent_ttl if value is None else question.policy.ttl
            seconds *= uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - they are not all to end at once
            try:
                await self.store.put(key, Entry(question.tokens, value), seconds)
            except AppError as error:
                self._failed(error)
            return value
        finally:
            if mine:
                with suppress(AppError):
                    await self.store.release(lock)

    async def _wait_for(self, question: "_Question", lock: str) -> Any:
        """The answer that another process is loading; MISSING when it does not come or would not hold."""
        deadline = time.monotonic() + _LOADING_SECONDS
        pause = 0.002
        while time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.05)
            (*found, busy), entry = await self.store.get([*question.tags, lock], question.key)
            now = tuple(found)
            if entry is not None and entry.tokens == now:
                return entry.value
            if busy is None or now != question.tokens:
                return MISSING
        return MISSING

    def _failed(self, error: AppError) -> None:
        self.stats.failures += 1
        self._troubled = True
        if not isinstance(error, _BrokenError):
            self._broken_until = time.monotonic() + _BROKEN_SECONDS
            logger.warning("the cache failed and is left alone for %g s: %s", _BROKEN_SECONDS, error)


class _BrokenError(AppError):
    """The cache failed a moment ago."""


def _token() -> str:
    return secrets.token_urlsafe(9)
