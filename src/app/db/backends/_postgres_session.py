"""One connection of the pool that several statements go over, each committed by itself."""

import psycopg

from ...core.errors import AppError, TransactionError
from ._postgres_transaction import PostgresTransaction


class PostgresSession(PostgresTransaction):
    """Where a transaction is expected, as what the operations belong to. Rolling it back gives the connection back."""

    async def commit(self) -> None:
        raise TransactionError("a session commits each statement by itself")

    async def rollback(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self.pool.give(connection)

    def lost(self, error: psycopg.Error) -> AppError | None:
        return self.pool.translated(error, self.connection, write=True)
