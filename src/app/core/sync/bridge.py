"""What lives on a portal's loop from one call to the next: iterators, and contexts."""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Self, cast

from .portal import Portal


class SyncIterator:
    """Takes what an async iterator has ready, read ahead up to a limit. Dropped or closed, it ends the async one."""

    def __init__(self, portal: Portal, source: AsyncIterator[Any], face: Callable[[Any], Any]) -> None:
        self._feed = _Feed(source)
        self._items: deque[Any] = deque()
        self._portal = portal
        self._face = face
        self._dropped = weakref.finalize(self, portal.tell, self._feed.stop)
        self._dropped.atexit = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._items:
            self._items.extend(self._portal.call(self._feed.take))
        if not self._items:
            raise StopIteration
        return self._face(self._items.popleft())

    def close(self) -> None:
        self._items.clear()
        self._portal.call(self._feed.end)


class _Feed:
    """Reads an async iterator in one task from first to last, since it may have a deadline around several items."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._task: asyncio.Task[None] | None = None
        self._ready: list[Any] = []
        self._changed: asyncio.Event = asyncio.Event()
        self._wanted: asyncio.Event = asyncio.Event()
        self._error: BaseException | None = None
        self._ended = False

    async def take(self) -> list[Any]:
        """What is ready, at least one item; nothing at the end."""
        if self._task is None and not self._ended:
            self._task = asyncio.get_running_loop().create_task(self._read())
        while not self._ready and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        ready, self._ready = self._ready, []
        self._wanted.set()
        if not ready and self._error is not None:
            error, self._error = self._error, None
            raise error
        return ready

    def stop(self) -> None:
        self._ended = True
        self._ready.clear()
        self._changed.set()
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _read(self) -> None:
        try:
            async for item in self._source:
                self._ready.append(item)
                self._changed.set()
                if len(self._ready) >= _READ_AHEAD:
                    self._wanted.clear()
                    await self._wanted.wait()
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            self._error = None if isinstance(error, asyncio.CancelledError) else error
        finally:
            self._ended = True
            self._changed.set()
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()


_READ_AHEAD: Final = 500


class Held:
    """An async context that one task enters and leaves: deadlines and context variables belong to a task.

    The task itself raises nothing: a KeyboardInterrupt that comes out of a task ends its loop.
    """

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._entered = asyncio.Event()
        self._left = asyncio.Event()
        self._value: Any = None
        self._body: BaseException | None = None
        self._swallows = False
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> Any:
        self._task = asyncio.get_running_loop().create_task(self._hold())
        try:
            await self._entered.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        self._raise()
        return self._value

    async def leave(self, error: BaseException | None) -> bool:
        """Leave it as the body ended; whether it swallows the body's error."""
        self._body = error
        self._left.set()
        await cast("asyncio.Task[None]", self._task)
        self._raise()
        return self._swallows

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    async def _hold(self) -> None:
        kind = type(self._manager)
        try:
            self._value = await kind.__aenter__(self._manager)
            self._entered.set()
            try:
                await self._left.wait()
            except asyncio.CancelledError as error:  # the portal closes
                self._body = error
            body = self._body
            kept = (None, None, None) if body is None else (type(body), body, body.__traceback__)
            self._swallows = bool(await kind.__aexit__(self._manager, *kept))
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            self._error = error
        finally:
            self._entered.set()
