"""The seam every store connects through: lazy, single-flight and per event loop."""

import asyncio
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from ..core.errors import AppError, ConfigurationError
from ..core.utils.logger import get_logger

logger = get_logger(__name__)

ClientT = TypeVar("ClientT")

_CLOSE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """One answer of a store to one question, or why there was none. `latency` is in seconds."""

    name: str
    type: str
    healthy: bool
    latency: float | None = None
    server_version: str | None = None
    detail: str = ""
    pool: Mapping[str, int] | None = None
    """Connections and callers of the running loop's pool, where the store has one."""


class ConnectionManager(ABC, Generic[ClientT]):
    """Gives out the driver's client (or pool) of one store, opened on first use.

    A driver's client belongs to the event loop it was opened on, so there is one per loop. The first `connect()` on a
    loop opens it and all others wait for that; a failure is raised to each of them and not remembered; cancelling one
    caller cancels no other. Constructors do no I/O.

    A store implements `_open`, `_close`, `_ping` and `get_connection_info`. A client that is opened is also closed:
    by `disconnect()` on its loop, or by `close()` for all loops.
    """

    connection_type: ClassVar[str]
    requires: tuple[str, ...] = ()
    """Modules of optional packages that this store needs, which may depend on its settings."""

    def __init__(self, settings: Any = None, *, name: str | None = None, data_dir: Path | None = None) -> None:
        """Take a section of the settings; `data_dir` is where relative paths in it begin."""
        self.settings = settings
        self.name = name or str(self.connection_type)
        self.data_dir = (data_dir or Path()).absolute()
        self._clients: dict[asyncio.AbstractEventLoop, ClientT] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Task[ClientT]] = {}
        self._waiting: weakref.WeakKeyDictionary[asyncio.Task[ClientT], int] = weakref.WeakKeyDictionary()
        """How many wait for an opening."""
        self._lock = threading.Lock()
        self._closed = False
        self.closes_with_loop = False
        """Whether a client is closed when its loop ends, for managers that nobody closes."""
        self._at_loop_end: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        _managers.add(self)

    @abstractmethod
    async def _open(self) -> ClientT:
        """Open a client on the running loop. Raise one of our errors `from` the driver's."""

    @abstractmethod
    async def _close(self, client: ClientT) -> None:
        """Close a client on the loop that opened it."""

    @abstractmethod
    async def _ping(self, client: ClientT) -> str:
        """Ask the store for a sign of life; return its version."""

    def _abandon(self, client: ClientT) -> None:
        """Let go of a client whose loop has ended, without awaiting anything."""

    @abstractmethod
    def get_connection_info(self) -> dict[str, Any]:
        """What this manager connects to, with no secret in it."""

    @property
    def identity(self) -> str:
        """Which database this leads to, the same in every process."""
        return repr(sorted(self.get_connection_info().items()))

    @property
    def live(self) -> ClientT | None:
        """The running loop's client if it is open: the path without a suspension for those who call often."""
        return self._clients.get(asyncio.get_running_loop())

    async def connect(self) -> ClientT:
        """Return the running loop's client, opening it on first use; idempotent."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is not None:
            return client
        if self._closed:
            raise ConfigurationError(f"the connection {self.name!r} was closed with its DataLayer; open a new one")
        opening = self._opening.get(loop)
        if opening is None:
            self._forget_loops({each for each in [*self._clients, *self._opening] if each.is_closed()})
            opening = loop.create_task(self._open_once(loop), name=f"connect {self.name}")
            # A failure nobody is left to hear of is not worth a message at exit.
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._opening[loop] = opening
        self._waiting[opening] = self._waiting.get(opening, 0) + 1
        try:
            return await asyncio.shield(opening)
        finally:
            self._waiting[opening] -= 1

    async def disconnect(self) -> None:
        """Close the running loop's client. The next `connect()` opens another."""
        loop = asyncio.get_running_loop()
        opening = self._opening.get(loop)
        if opening is not None:
            if self._closed and not self._waiting.get(opening):
                opening.cancel()  # those who wanted it were cancelled, and a silent server takes its time
            await asyncio.wait([opening])
        client = self._clients.pop(loop, None)
        if client is not None:
            await self._close(client)
            logger.info("disconnected from %s", self.name)

    async def close(self) -> None:
        """Close the clients of all loops, and refuse new ones."""
        self._closed = True
        await self.disconnect_all()

    async def disconnect_all(self) -> None:
        """Close the clients of all loops. A loop that is blocked is waited for five seconds."""
        here = asyncio.get_running_loop()
        others = {*self._clients, *self._opening} - {here}
        closing = [
            asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.disconnect(), loop))
            for loop in others
            if loop.is_running()
        ]
        if closing:
            # With a limit, since a loop may end or be blocked before it comes to this.
            await asyncio.wait(closing, timeout=_CLOSE_TIMEOUT)
        self._forget_loops(others)
        await self.disconnect()
        for each in closing:
            if each.done() and not each.cancelled():
                each.result()

    def abandon(self) -> None:
        """Let go of everything at once, from no loop at all: at exit, or when the owner was forgotten."""
        self._closed = True
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
            self._opening.clear()
        for client in clients:
            self._abandon(client)

    @property
    def connected(self) -> bool:
        """Whether any loop has a client open."""
        return bool(self._clients)

    async def is_healthy(self) -> bool:
        return (await self.health()).healthy

    async def health(self) -> ConnectionHealth:
        """Connect if need be and ask the store for a sign of life. An outage is an answer here, not an error."""
        start = time.perf_counter()
        try:
            version = await self._ping(await self.connect())
        except AppError as error:
            return ConnectionHealth(self.name, self.connection_type, healthy=False, detail=str(error))
        latency = time.perf_counter() - start
        return ConnectionHealth(self.name, self.connection_type, healthy=True, latency=latency, server_version=version)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def _open_once(self, loop: asyncio.AbstractEventLoop) -> ClientT:
        try:
            client = await self._open()
            self._clients[loop] = client
            if self.closes_with_loop and loop not in self._at_loop_end:
                # A loop tells nobody that it ends, but `asyncio.run` closes the generators that were begun on it.
                self._at_loop_end[loop] = self._until_loop_ends(loop)
                await anext(self._at_loop_end[loop])
        finally:
            self._opening.pop(loop, None)
        logger.info("connected to %s", self.name)
        return client

    async def _until_loop_ends(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._at_loop_end.pop(loop, None)
            await self.disconnect()

    def _forget_loops(self, loops: set[asyncio.AbstractEventLoop]) -> None:
        with self._lock:
            clients = [self._clients.pop(loop) for loop in loops if loop in self._clients]
            for loop in loops:
                self._opening.pop(loop, None)
                self._at_loop_end.pop(loop, None)
        for client in clients:
            self._abandon(client)

    def _forget_parent(self) -> None:
        """In a forked child: the parent's clients are the parent's, so neither use nor close them."""
        self._clients = {}
        self._opening = {}
        self._lock = threading.Lock()


_managers: weakref.WeakSet[ConnectionManager[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for manager in list(_managers):
        manager._forget_parent()  # noqa: SLF001 - the same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
