"""The engines of one DataLayer: made on use, closed with it."""

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from ...config.settings import Settings
from ...connections._slow_queries import SlowQueries
from ...connections.base import ConnectionManager
from ...connections.factory import ConnectionFactory
from ...core.constants import ConnectionType
from ...core.errors import ConfigurationError
from .errors import EnginePoolExhaustedError, translate
from .postgres_engine import PostgresEngines
from .slow_queries import log_slow_queries
from .sqlite_engine import SQLiteEngines

_CLOSE_TIMEOUT = 5.0


class Engines:
    """One engine for code without an event loop, and one for each loop, on one connection of the settings.

    It is the one that `relational.connection` names, else the one to PostgreSQL, else the one to SQLite.
    """

    def __init__(self, settings: Settings, connections: ConnectionFactory) -> None:
        self._settings = settings
        self._connections = connections
        self._maker: SQLiteEngines | PostgresEngines | None = None
        self._made = _Made()
        self._at_loop_end: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._lock = threading.Lock()
        self._closed = False
        weakref.finalize(self, self._made.let_go)
        _all.add(self)

    @property
    def connection(self) -> ConnectionManager[Any]:
        """The manager of the connection that the engines lead to."""
        return self._connections.get_connection_manager(self._name())

    @property
    def engine(self) -> sa.Engine:
        self._refuse_if_closed()
        made = self._made
        if made.engine is not None:
            return made.engine
        engine = self._ready().make(poolclass=_Pool, hide_parameters=True)
        self._watch(engine)
        with self._lock:
            # Another thread may have been here first; nothing was opened yet.
            return made.keep(engine)

    @property
    def async_engine(self) -> AsyncEngine:
        """The running loop's."""
        self._refuse_if_closed()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "an asynchronous engine belongs to a running event loop: use it in `async def`, or `engine` without one"
            ) from None
        found = self._made.by_loop.get(loop)
        if found is None:
            self._made.forget_ended_loops()

            async def opened(connection: Any) -> Any:
                return await self._opened(loop, connection)

            found = self._ready().make_async(opened, poolclass=_AsyncPool, hide_parameters=True)
            self._watch(found.sync_engine)
            self._made.by_loop[loop] = found
        return found

    async def close(self) -> None:
        """Close the idle connections of all engines; one that a session still has is closed when it comes back."""
        self._closed = True
        here = asyncio.get_running_loop()
        elsewhere = [
            asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._dispose(loop), loop))
            for loop in list(self._made.by_loop)
            if loop is not here and loop.is_running()
        ]
        if elsewhere:
            # With a limit, since a loop may end or be blocked before it comes to this.
            await asyncio.wait(elsewhere, timeout=_CLOSE_TIMEOUT)
        await self._dispose(here)
        self._made.let_go()
        if self._maker is not None:
            self._maker.release()

    def _name(self) -> str:
        settings = self._settings
        if settings.relational.connection is not None:
            return settings.relational.connection
        for kind in (ConnectionType.POSTGRES, ConnectionType.SQLITE):
            name = self._connections.of_type(kind)
            # One whose variable is not set is not there.
            if name is not None and getattr(settings.connections[name], "url", "") is not None:
                return name
        raise ConfigurationError(
            "sessions of SQLAlchemy's need a connection of type postgres or sqlite, and there is none: add one, or "
            "name it: `relational: {connection: …}`"
        )

    def _ready(self) -> SQLiteEngines | PostgresEngines:
        with self._lock:
            if self._maker is None:
                manager: Any = self.connection
                kind = manager.connection_type
                self._maker = PostgresEngines(manager) if kind == ConnectionType.POSTGRES else SQLiteEngines(manager)
            return self._maker

    def _watch(self, engine: sa.Engine) -> None:
        event.listen(engine, "handle_error", translate, retval=True)
        manager = self.connection
        if manager.settings.slow_query is not None:
            log_slow_queries(engine, SlowQueries(manager.name, manager.settings.slow_query))

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ConfigurationError("this DataLayer is closed: open a new one with DataLayer.from_config(...)")

    async def _opened(self, loop: asyncio.AbstractEventLoop, connection: Any) -> Any:
        self._made.drivers.setdefault(loop, weakref.WeakSet()).add(connection)
        if loop not in self._at_loop_end:
            # A loop tells nobody that it ends, but `asyncio.run` closes the generators that were begun on it.
            self._at_loop_end[loop] = self._until_loop_ends(loop)
            await anext(self._at_loop_end[loop])
        return connection

    async def _until_loop_ends(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._at_loop_end.pop(loop, None)
            await self._dispose(loop)

    async def _dispose(self, loop: asyncio.AbstractEventLoop) -> None:
        engine = self._made.by_loop.pop(loop, None)
        if engine is not None:
            await engine.dispose()
        ending = self._at_loop_end.pop(loop, None)
        if ending is not None:
            await ending.aclose()


class _Made:
    """What is to be closed, also when nobody is left to await it."""

    def __init__(self) -> None:
        self.engine: sa.Engine | None = None
        self.by_loop: dict[asyncio.AbstractEventLoop, AsyncEngine] = {}
        self.drivers: dict[asyncio.AbstractEventLoop, weakref.WeakSet[Any]] = {}

    def keep(self, engine: sa.Engine) -> sa.Engine:
        """Keep the first one."""
        if self.engine is None:
            self.engine = engine
        return self.engine

    def let_go(self) -> None:
        """Close what no loop is needed for. An open session keeps its connection until it is closed."""
        if self.engine is not None:
            self.engine.dispose()
        self.forget_ended_loops()

    def forget_ended_loops(self) -> None:
        for loop in [each for each in self.drivers if each.is_closed()]:
            self.by_loop.pop(loop, None)
            for connection in self.drivers.pop(loop):
                stop = getattr(connection, "stop", None) or connection.pgconn.finish
                stop()


class _Bounded:
    if TYPE_CHECKING:

        def checkedin(self) -> int: ...

    def _do_get(self) -> Any:
        try:
            return super()._do_get()  # type: ignore[misc]  # it is mixed into a pool
        except exc.TimeoutError as error:
            # A session that was forgotten holds its connection until it is collected.
            gc.collect()
            if not self.checkedin():
                raise EnginePoolExhaustedError(
                    "no connection of the engine became free in time: raise pool.max_size, or close sessions sooner "
                    "(`with`, or `close()`)"
                ) from error
        return super()._do_get()  # type: ignore[misc]


class _Pool(_Bounded, QueuePool):
    """A pool that says what to do when it is empty."""


class _AsyncPool(_Bounded, AsyncAdaptedQueuePool):
    """The same, waited for in an event loop."""


_all: weakref.WeakSet[Engines] = weakref.WeakSet()
_inherited: list[Any] = []


def _before_fork() -> None:
    """A child gets no open SQLite file, whose locks it would take for its own."""
    for each in list(_all):
        if each._made.engine is not None:  # noqa: SLF001 - the same module
            each._made.engine.dispose()  # noqa: SLF001


def _after_fork_in_child() -> None:
    for each in list(_all):
        made = each._made  # noqa: SLF001 - the same module
        # Kept, so that nothing of the parent's is closed here.
        _inherited.append((dict(made.by_loop), [*map(list, made.drivers.values())]))
        made.by_loop.clear()
        made.drivers.clear()
        if made.engine is not None:
            made.engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
