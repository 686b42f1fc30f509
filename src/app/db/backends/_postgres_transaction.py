"""A transaction on one connection of the pool, which is its own until it ends."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from ...connections._postgres_exchange import Exchanges, execute, is_lost
from ...core.errors import AppError, DeadlineExceededError, OutcomeUnknownError, TransactionError
from ._postgres_errors import quiet, translated
from .base import Transaction

Connection = psycopg.AsyncConnection[Any]


class PostgresTransaction(Transaction):
    """REPEATABLE READ: it sees one state, and one that would write over what changed since is told to begin again.

    After a statement that failed nothing more can be done in it but to roll back, to a savepoint or all.
    """

    def __init__(self, pool: Exchanges[Any], connection: Connection) -> None:
        self.pool = pool
        self._connection: Connection | None = connection
        self._savepoints = 0

    @classmethod
    async def begin(cls, pool: Exchanges[Any]) -> "PostgresTransaction":
        connection = await pool.take()
        transaction = cls(pool, connection)
        try:
            await transaction._execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        except BaseException:
            await transaction.rollback()
            raise
        return transaction

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            raise TransactionError("this transaction has ended: begin another")
        return self._connection

    async def commit(self) -> None:
        connection = self.connection
        if connection.pgconn.transaction_status == TransactionStatus.INERROR:  # COMMIT would roll back, and not say so
            raise TransactionError("a statement of this transaction failed, so it cannot be committed")
        self._connection = None
        try:
            await execute(connection, "COMMIT")
        except psycopg.Error as error:
            if is_lost(connection):
                ours: AppError = OutcomeUnknownError(
                    f"the connection to PostgreSQL at {self.pool.address} was lost at COMMIT: it may have been done"
                )
            else:
                ours = self.pool.translated(error, connection, write=False) or translated("the transaction", {}, error)
            raise ours from quiet(error)
        finally:
            await self.pool.give(connection)

    async def rollback(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _to_its_end(self._undo(connection))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        connection = self.connection
        self._savepoints += 1
        name = f"manystore_{self._savepoints}"
        await self._execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if self._connection is connection:
                await _to_its_end(self._undo_to(connection, name))
            raise
        if self._connection is connection:
            await self._execute(f"RELEASE SAVEPOINT {name}")

    def lost(self, error: psycopg.Error) -> AppError | None:
        """Ours for what concerns connection and time. A connection that is lost before COMMIT takes all with it."""
        ours = self.pool.translated(error, self.connection, write=False)
        if ours is None or isinstance(ours, DeadlineExceededError):
            return ours
        return TransactionError(f"{ours}; nothing was changed: run the transaction again")

    async def _execute(self, sql: str) -> None:
        connection = self.connection
        try:
            await execute(connection, sql)
        except psycopg.Error as error:
            raise self.lost(error) or translated("the transaction", {}, error) from quiet(error)

    async def _undo(self, connection: Connection) -> None:
        """Where the server does not answer the connection is closed when it is given back, which undoes it too."""
        try:
            with suppress(psycopg.Error):
                await execute(connection, "ROLLBACK")
        finally:
            await self.pool.give(connection)

    async def _undo_to(self, connection: Connection, name: str) -> None:
        with suppress(psycopg.Error):
            await execute(connection, f"ROLLBACK TO SAVEPOINT {name}")
            await execute(connection, f"RELEASE SAVEPOINT {name}")


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await it even where the caller is cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
