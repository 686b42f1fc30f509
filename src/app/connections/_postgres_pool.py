"""psycopg's connection and pool with what they leave open: one deadline per exchange, and errors that are ours."""

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg.pq import ConnStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from psycopg_pool.pool_async import StopWorker

from ..core.errors import (
    AppError,
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)
from ..core.utils.logger import get_logger
from ._postgres_logging import without_parts

if TYPE_CHECKING:
    from psycopg.abc import QueryNoTemplate

    from .embedded.server import Lease

logger = get_logger(__name__)

Row = tuple[Any, ...]
R = TypeVar("R")

_GRACE = 0.05  # of the timeout: what a server that is slow, but not silent, has to say that it gave up
_OPEN = select.POLLIN | select.POLLERR | select.POLLHUP | select.POLLNVAL


class ConnectionLostError(StoreUnavailableError):
    """The connection died under a read, which may be run again."""


class _EndedError(BaseException):
    """Connecting was cancelled with the loop. The pool would take a cancellation for a failure, and warn."""


class Connection(psycopg.AsyncConnection[Row]):
    """A connection that ends when its server is silent for longer than `timeout` seconds.

    The driver's own way, a cancellation of the task, may wait for ten more seconds. Closing the socket ends it.
    """

    timeout: float | None = None
    address = ""
    expired = False
    made = 0.0
    _poll: "select.poll | None" = None

    @classmethod
    async def connect(  # type: ignore[override]  # psycopg types each parameter of libpq
        cls, conninfo: str = "", *, within: float, failed: Callable[[AppError], Any], address: str, **kwargs: Any
    ) -> Self:
        """Connect within the timeout to the millisecond (libpq knows whole seconds, two at the least)."""
        ours: AppError
        try:
            async with asyncio.timeout(within):
                with without_parts():
                    connection = await super().connect(conninfo, **kwargs)
        except TimeoutError:
            ours = StoreUnavailableError(f"PostgreSQL at {address} gave no answer within {within:g} s")
        except psycopg.Error as error:
            ours = StoreUnavailableError(f"cannot connect to PostgreSQL at {address}: {_reason(error)}")
        else:
            connection.timeout = within
            connection.address = address
            connection.made = monotonic()
            return connection
        # Not `from` the driver's: its text repeats what it took for user and database, which may be a password.
        failed(ours)
        raise ours

    def __repr__(self) -> str:  # the driver's has user and database, and its pool logs it
        return f"<{type(self).__name__} {self.info.status.name} to PostgreSQL at {self.address}>"

    async def wait(  # type: ignore[override]  # the parent has a timeout of another kind, since 3.3
        self, gen: Generator[Any, Any, R], interval: float = 0.1, **kwargs: Any
    ) -> R:
        if self.timeout is None:
            return await super().wait(gen, interval, **kwargs)
        watch = asyncio.get_running_loop().call_later(self.timeout, self._expire)
        try:
            return await super().wait(gen, interval, **kwargs)
        finally:
            watch.cancel()

    @property
    def lost(self) -> bool:
        """Whether the server is gone, as far as this connection knows."""
        return self.pgconn.status != ConnStatus.OK

    def has_news(self) -> bool:
        """Whether an idle connection has something to read: the server's farewell, or the end. Costs 1 µs."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, _OPEN)
        return bool(self._poll.poll(0))

    def _expire(self) -> None:
        """Ask the server to give up; a little later, hang up."""
        self.expired = True
        loop = asyncio.get_running_loop()
        grace = _GRACE * (self.timeout or 0)
        asking = loop.create_task(self._ask_to_cancel(grace))
        loop.call_later(grace, self._hang_up, asking)

    async def _ask_to_cancel(self, seconds: float) -> None:
        if psycopg.capabilities.has_cancel_safe():
            with suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.cancel_safe(timeout=seconds)

    def _hang_up(self, asking: "asyncio.Task[None]") -> None:
        asking.cancel()
        if self.lost or self.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
            return
        # Not close: its number could be another connection's before the driver notices.
        with suppress(OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as end:
            end.shutdown(socket.SHUT_RDWR)


class Pool(AsyncConnectionPool[Connection]):
    """A pool that says why it has no connection, and hands out none that its server has closed."""

    def __init__(
        self,
        conninfo: str,
        *,
        name: str,
        address: str,
        timeout: float,
        max_size: int,
        wait: float,
        kwargs: Mapping[str, Any],
    ) -> None:
        self.address = address
        self.lease: Lease | None = None
        self.operation_timeout = timeout
        self._in_use = 0
        self._failing: set[asyncio.Task[None]] = set()
        super().__init__(
            conninfo,
            connection_class=Connection,
            kwargs={**kwargs, "within": timeout, "failed": self._connect_failed, "address": address},
            min_size=0,
            max_size=max_size,
            timeout=wait,
            # Its own retries wait longer and longer; here whoever needs a connection tries, and hears of the failure.
            reconnect_timeout=0,
            name=name,
            open=False,
        )

    async def take(self, seconds: float | None = None) -> Connection:
        """Return a connection that was alive a moment ago; give it back with `give`.

        An embedded server that is gone, since its supervisor was killed, is started again: nothing was sent yet.
        """
        try:
            return await self._take(seconds)
        except StoreUnavailableError:
            if self.lease is None:
                raise
        await self.lease.revive()
        return await self._take(seconds)

    async def _take(self, seconds: float | None) -> Connection:
        deadline = monotonic() + (self.timeout if seconds is None else min(seconds, self.timeout))
        while True:
            try:
                connection = await self.getconn(max(deadline - monotonic(), 0.001))
            except PoolTimeout as error:
                if self._in_use < self.max_size:
                    raise StoreUnavailableError(
                        f"PostgreSQL at {self.address} gave no connection within {self.timeout:g} s"
                    ) from error
                raise PoolExhaustedError(
                    f"no connection to PostgreSQL at {self.address} became free within {self.timeout:g} s: all "
                    f"{self.max_size} are in use; raise pool.max_size, or hold connections for a shorter time"
                ) from error
            except PoolClosed as error:
                raise StoreUnavailableError(f"the pool of {self.name!r} is closed") from error
            self._in_use += 1
            if not connection.has_news():
                return connection
            await self._look_at(connection)
            if not connection.lost:
                return connection
            await self.give(connection)

    async def give(self, connection: Connection) -> None:
        self._in_use -= 1
        connection.timeout = self.operation_timeout
        if connection.expired and not connection.lost:
            await connection.close()  # a cancellation may still be under way, and would hit the next statement
        await self.putconn(connection)

    async def run(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any], *, write: bool
    ) -> list[Row]:
        """Run one statement on one connection; return its rows."""
        return await self._run_on(await self.take(), sql, parameters, write=write)

    async def run_again(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any], seconds: float
    ) -> list[Row]:
        """Run a read that lost its connection, in what is left of its time, on one that is not lost as well.

        Where one died others do, a moment later each; so those of before have to answer first.
        """
        lost_at = monotonic()
        while True:
            left = seconds - (monotonic() - lost_at)
            connection = await self.take(left)
            connection.timeout = max(left, 0.001)
            if connection.made > lost_at or await self._answers(connection):
                return await self._run_on(connection, sql, parameters, write=False)
            await self.give(connection)

    @staticmethod
    def may_run_again(error: StoreUnavailableError) -> bool:
        """Whether a read failed because its connection was lost, and not for want of one."""
        return isinstance(error, ConnectionLostError)

    async def _answers(self, connection: Connection) -> bool:
        try:
            await connection.execute("")
        except psycopg.Error as error:
            if connection.lost and not connection.expired:
                return False
            await self.give(connection)
            raise self.translated(error, connection, write=False) or error from error
        except BaseException:
            await self.give(connection)
            raise
        return True

    async def _run_on(
        self,
        connection: Connection,
        sql: "QueryNoTemplate",
        parameters: Sequence[Any] | Mapping[str, Any],
        *,
        write: bool,
    ) -> list[Row]:
        try:
            cursor = await connection.execute(sql, parameters or None)
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            ours = self.translated(error, connection, write=write)
            if ours is None:
                raise
            raise ours from error
        finally:
            await self.give(connection)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        connection = await self.take()
        try:
            yield connection
        except psycopg.Error as error:
            ours = self.translated(error, connection, write=True)
            if ours is None:
                raise
            raise ours from error
        finally:
            await self.give(connection)

    def translated(self, error: psycopg.Error, connection: Connection, *, write: bool) -> AppError | None:
        """Ours for what concerns connection and time; None for what the statement itself did wrong."""
        if isinstance(error, psycopg.errors.QueryCanceled):
            return DeadlineExceededError(
                f"PostgreSQL at {self.address} did not finish within {self.operation_timeout:g} s; nothing was changed"
            )
        if not connection.lost:
            return None
        if connection.expired:
            told = f"PostgreSQL at {self.address} gave no answer within {self.operation_timeout:g} s"
        else:
            told = f"PostgreSQL at {self.address} closed the connection"
        if write:
            return OutcomeUnknownError(f"{told}: what was sent may have been done")
        return DeadlineExceededError(told) if connection.expired else ConnectionLostError(told)

    @classmethod
    async def worker(cls, q: "asyncio.Queue[Any]") -> None:
        """Do the pool's chores. The parent's swallows a cancellation that meets one, and the loop never ends."""
        current = asyncio.current_task()
        while current is not None and not current.cancelling():
            chore = await q.get()
            if isinstance(chore, StopWorker):
                return
            try:
                await chore.run()
            except psycopg.Error as error:
                logger.warning("%s failed: %s", chore, type(error).__name__)
            except _EndedError as error:
                raise asyncio.CancelledError from error

    async def _connect(self, *args: Any) -> Connection:
        try:
            return await super()._connect(*args)
        except asyncio.CancelledError as error:
            raise _EndedError from error

    async def end(self) -> None:
        """Close the pool, then give back the server, if it runs for us."""
        try:
            await self.close(timeout=1)
        finally:
            lease, self.lease = self.lease, None
            if lease is not None:
                await lease.release()

    def abandon(self) -> None:
        """Close the sockets, from no loop at all."""
        self._closed = True
        for connection in self._pool:
            connection.pgconn.finish()
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.let_go()

    def stats(self) -> dict[str, int]:
        found = self.get_stats()
        return {
            "max_size": self.max_size,
            "size": found["pool_size"],
            "idle": found["pool_available"],
            "in_use": self._in_use,
            "waiting": found.get("requests_waiting", 0),
        }

    async def _look_at(self, connection: Connection) -> None:
        """Read what an idle connection has to say; a notice leaves it alive, an end does not."""
        try:
            connection.pgconn.consume_input()
        except psycopg.Error:
            await connection.close()
        if not connection.lost and connection.has_news():
            await connection.close()

    def _connect_failed(self, error: AppError) -> None:
        """Tell everybody who waits for a connection; the pool alone would let them wait for their time."""
        waiting = list(self._waiting)
        self._waiting.clear()

        async def tell() -> None:
            for each in waiting:
                await each.fail(error)

        telling = asyncio.get_running_loop().create_task(tell())
        self._failing.add(telling)
        telling.add_done_callback(self._failing.discard)


# What libpq says, as far as it holds no part of the address. The first that is found in its text stands for all of it.
_REASONS = (
    ("Connection refused", "connection refused"),
    ("No such file or directory", "there is no such socket"),
    ("Permission denied", "permission denied"),
    ("password authentication failed", "it refused the user or the password"),
    ("no password supplied", "it asks for a password"),
    ("certificate verify failed", "its certificate is not to be trusted; name its authority with sslrootcert"),
    ("does not match host name", "its certificate is another host's"),
    ("server does not support SSL", "it has no TLS; sslmode=disable in the url goes without"),
    ("SSL error", "TLS failed"),
    ("resolve host", "the host is not known"),
    ("translate host name", "the host is not known"),
    ("Network is unreachable", "the network is unreachable"),
    ("No route to host", "there is no route to the host"),
    ("server closed the connection", "it closed the connection"),
    ("Connection reset", "it closed the connection"),
    ("timeout expired", "no answer in time"),
    ("timed out", "no answer in time"),
    ("starting up", "it is starting up"),
    ("shutting down", "it is shutting down"),
    ("recovery mode", "it is recovering"),
    ("too many clients", "it has too many clients"),
    ("remaining connection slots", "it has too many clients"),
    ("pg_hba.conf", "it does not admit this user from here (pg_hba.conf)"),
    ("does not exist", "there is no such user or database"),
)


def _reason(error: psycopg.Error) -> str:
    text = str(error)
    return next((ours for theirs, ours in _REASONS if theirs in text), f"{type(error).__name__}")
