"""psycopg's pool, with errors that are ours: it says why it has no connection, and hands out none that is dead."""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from psycopg_pool.pool_async import StopWorker

from ..core.errors import AppError, PoolExhaustedError, StoreUnavailableError
from ..core.utils.logger import get_logger
from ._postgres_connection import Connection
from ._postgres_exchange import Exchanges
from ._postgres_options import PostgresOptions
from ._postgres_stats import stats_of
from ._postgres_watched import WatchedConnection
from ._slow_queries import SlowQueries

if TYPE_CHECKING:
    from .embedded.server import Lease

logger = get_logger(__name__)


class _EndedError(BaseException):
    """Connecting was cancelled with the loop. The pool would take a cancellation for a failure, and warn."""


class Pool(Exchanges[Connection], AsyncConnectionPool[Connection]):
    """A pool that says why it has no connection, and hands out none that its server has closed."""

    def __init__(
        self,
        name: str,
        options: PostgresOptions,
        *,
        pre_ping: float | bool = False,
        slow_query: float | None = None,
    ) -> None:
        """`pre_ping`: whether, or after how many seconds of rest, a connection is asked before it is lent."""
        self.address = options.address
        self.pooled = options.pooled
        self.lease: Lease | None = None
        self.operation_timeout = options.timeout
        self.known = set()
        self.first_use = asyncio.Lock()
        self._lent: set[Connection] = set()
        self._failing: set[asyncio.Task[None]] = set()
        self._rest = None if pre_ping is False else float(0 if pre_ping is True else pre_ping)
        watching = {} if slow_query is None else {"watch": SlowQueries(name, slow_query)}
        super().__init__(
            options.conninfo,
            connection_class=WatchedConnection if watching else Connection,
            kwargs={
                **options.kwargs,
                "limit": options.timeout,
                "within": options.connect_timeout,
                "statements": options.statements,
                "failed": self._connect_failed,
                "address": options.address,
                **watching,
            },
            min_size=0,
            max_size=options.max_size,
            timeout=options.wait,
            max_lifetime=options.max_lifetime,
            max_idle=options.max_idle,
            # Its own retries wait longer and longer; here whoever needs a connection tries, and hears of the failure.
            reconnect_timeout=0,
            name=name,
            open=False,
        )

    async def take(self, seconds: float | None = None) -> Connection:
        """Return a connection that was alive a moment ago; give it back with `give`.

        An embedded server that is gone, since its supervisor was killed, is started again: nothing was sent yet.
        """
        if self._pool and not self._closed:
            # What `getconn` does where nobody has to wait, without its four frames.
            idle = self._pool.popleft()
            self._nconns_min = min(self._nconns_min, len(self._pool))
            self._stats["requests_num"] += 1
            idle._pool = self  # noqa: SLF001 - as there
            self._lent.add(idle)
            if not idle.has_news():
                if self._rest is None or await self._is_alive(idle):
                    return idle
            else:
                await self._look_at(idle)
                if not idle.lost:
                    return idle
            await self.give(idle)
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
                if len(self._lent) < self.max_size:
                    raise StoreUnavailableError(
                        f"PostgreSQL at {self.address} gave no connection within {self.timeout:g} s"
                    ) from error
                raise PoolExhaustedError(
                    f"no connection to PostgreSQL at {self.address} became free within {self.timeout:g} s: all "
                    f"{self.max_size} are in use; raise pool.max_size, or hold connections for a shorter time"
                ) from error
            except PoolClosed as error:
                raise StoreUnavailableError(f"the pool of {self.name!r} is closed") from error
            self._lent.add(connection)
            if not connection.has_news():
                return connection
            await self._look_at(connection)
            if not connection.lost:
                return connection
            await self.give(connection)

    async def give(self, connection: Connection) -> None:
        self._lent.discard(connection)
        if self._rest is not None:
            connection.rests_since = monotonic()
        connection.timeout = self.operation_timeout
        if connection.expired and not connection.lost:
            await connection.close()  # a cancellation may still be under way, and would hit the next statement
        elif connection.pgconn.transaction_status != TransactionStatus.IDLE:
            await connection.close()  # the server rolls back; asking it to could be cancelled once more
        await self.putconn(connection)

    @classmethod
    async def worker(cls, q: "asyncio.Queue[Any]") -> None:
        """Do the pool's chores. The parent's swallows a cancellation that meets one, and the loop never ends.

        A worker that was cancelled ends without an error, of which asyncio would tell where closing gave up waiting.
        """
        current = asyncio.current_task()
        while current is not None and not current.cancelling():
            try:
                chore = await q.get()
                if isinstance(chore, StopWorker):
                    return
                await chore.run()
            except psycopg.Error as error:
                logger.warning("%s failed: %s", chore, type(error).__name__)
            except (_EndedError, asyncio.CancelledError):
                return

    async def _connect(self, *args: Any) -> Connection:
        try:
            return await super()._connect(*args)
        except asyncio.CancelledError as error:
            raise _EndedError from error

    async def end(self) -> None:
        """Close the pool, then give back the server, if it runs for us.

        A transaction that is open is rolled back. A statement that runs ends first, as its connection does with it.
        """
        try:
            await self.close(timeout=1)
            for connection in self._lent:
                if connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    await connection.close()
        finally:
            lease, self.lease = self.lease, None
            if lease is not None:
                await lease.release()

    def abandon(self) -> None:
        """Close the sockets, from no loop at all."""
        self._closed = True
        for connection in (*self._pool, *self._lent):
            connection.pgconn.finish()
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.let_go()

    def stats(self) -> dict[str, int]:
        return stats_of(self.get_stats(), len(self._lent))

    async def _is_alive(self, connection: Connection) -> bool:
        """Ask one that has rested for long. Where it says nothing, all that have rested as long are given up.

        A quarter of an operation's time has to be enough, so that there is some left for another connection.
        """
        now = monotonic()
        if self._rest is None or now - connection.rests_since < self._rest:
            return True
        connection.timeout = self.operation_timeout / 4
        try:
            await connection.execute("", prepare=False)
        except psycopg.Error:
            await connection.close()
        except BaseException:
            await self.give(connection)
            raise
        connection.timeout = self.operation_timeout
        if not (connection.lost or connection.expired):
            return True
        for each in [each for each in self._pool if now - each.rests_since >= self._rest]:
            self._pool.remove(each)
            await each.close()
            each._pool = self  # noqa: SLF001 - as `getconn` does
            await self.putconn(each)
        return False

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
