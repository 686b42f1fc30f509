"""A pool that the caller opened, and closes: `Repository(db=pool)`."""

import asyncio
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from ..core.errors import PoolExhaustedError, StoreUnavailableError
from ._postgres_exchange import Exchanges
from ._postgres_stats import stats_of
from ._postgres_url import shown_address
from .postgres import PostgresConnectionManager

Connection = psycopg.AsyncConnection[Any]


class AdoptedPostgres(PostgresConnectionManager):
    """The manager of such a pool, which works on the loop that the pool was opened on."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        if not isinstance(pool, AsyncConnectionPool):
            raise TypeError("pass psycopg_pool's AsyncConnectionPool: a synchronous pool would hold up the event loop")
        super().__init__()
        self._adopted = pool
        self._shown = "the server of the pool that was passed in"
        if isinstance(pool.conninfo, str):
            with suppress(psycopg.Error):
                self._shown = shown_address(conninfo_to_dict(pool.conninfo))

    def get_connection_info(self) -> dict[str, Any]:
        return {"type": str(self.connection_type), "url": self._shown}

    @property
    def identity(self) -> str:
        return repr(self._shown)

    async def _open(self) -> "AdoptedPool":
        return AdoptedPool(self._adopted, address=self._shown, timeout=self.settings.timeout)


class AdoptedPool(Exchanges[Connection]):
    """Its connections are in autocommit while they are lent; deadlines are the caller's own."""

    def __init__(self, pool: AsyncConnectionPool[Connection], *, address: str, timeout: float) -> None:
        self.pool = pool
        self.address = address
        self.operation_timeout = timeout
        self.known = set()
        self.first_use = asyncio.Lock()
        self._in_use = 0
        self._transactional: set[Connection] = set()

    async def take(self, seconds: float | None = None) -> Connection:
        try:
            connection = await self.pool.getconn(seconds)
        except PoolTimeout as error:
            raise PoolExhaustedError("the pool that was passed in gave no connection in time") from error
        except PoolClosed as error:
            raise StoreUnavailableError("the pool that was passed in is not open: `await pool.open()` first") from error
        self._in_use += 1
        if not connection.autocommit:
            self._transactional.add(connection)
            await connection.set_autocommit(True)
        return connection

    async def give(self, connection: Connection) -> None:
        self._in_use -= 1
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.pgconn.finish()  # `close` may mean giving it back
        if connection in self._transactional:
            self._transactional.discard(connection)
            if not connection.closed:
                await connection.set_autocommit(False)
        await self.pool.putconn(connection)

    def stats(self) -> dict[str, int]:
        return stats_of(self.pool.get_stats(), self._in_use)
