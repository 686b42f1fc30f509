"""One connection of the pool that several statements go over, each committed by itself."""

from typing import Any, Self, cast

import psycopg

from ...connections._postgres_exchange import Exchanges
from ...core.errors import AppError, TransactionError, UnsupportedOperationError
from ._postgres_transaction import PostgresTransaction

Connection = psycopg.AsyncConnection[Any]


class PostgresSession(PostgresTransaction):
    """Where a transaction is expected, as what the operations belong to. Rolling it back gives the connection back."""

    def __init__(self, pool: Exchanges[Any], connection: Connection) -> None:
        super().__init__(cast("Exchanges[Any]", _Lent(pool, connection)), connection)
        self._lender = pool

    @classmethod
    async def open(cls, pool: Exchanges[Any]) -> Self:
        if pool.pooled:
            raise UnsupportedOperationError(
                f"PostgreSQL at {pool.address} is behind a pooler, where no session is anybody's own: connect directly"
            )
        return cls(pool, await pool.take())

    async def commit(self) -> None:
        raise TransactionError("a session commits each statement by itself")

    async def rollback(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._lender.give(connection)

    def lost(self, error: psycopg.Error) -> AppError | None:
        return self._lender.translated(error, self.connection, write=True)


class _Lent:
    """The pool, as operations see it: a table is ensured on the session's own connection.

    Where every connection is held by a session, a second one for that would never come.
    """

    def __init__(self, pool: Exchanges[Any], connection: Connection) -> None:
        self._pool = pool
        self._connection = connection
        self._timeout = getattr(connection, "timeout", None)

    async def take(self) -> Connection:
        return self._connection

    async def give(self, connection: Connection) -> None:
        if hasattr(connection, "timeout"):
            connection.timeout = self._timeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
