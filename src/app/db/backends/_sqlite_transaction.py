"""A transaction on SQLite: the turn to write, held from its beginning to its end."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ...connections.sqlite import SQLiteEngine
from ...core.errors import AppError, TransactionError
from ._sqlite_dialect import register_functions
from .base import Transaction

if TYPE_CHECKING:
    from ._sql_table import Table

R = TypeVar("R")


class SQLiteTransaction(Transaction):
    """It has the write lock from the beginning (BEGIN IMMEDIATE), so nothing in it can find a newer state than it read.

    Where its task is gone without having ended it, it is rolled back when it is collected.
    """

    def __init__(self, engine: SQLiteEngine) -> None:
        self._engine = engine
        self._scope = object()
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._names = count(1)
        self.ready: frozenset[Table] = frozenset()
        """The tables that were ensured in it, which go with it where it is rolled back."""

    @classmethod
    async def begin(cls, engine: SQLiteEngine) -> Self:
        """Wait for the write lock, behind our own writes and other processes', until the engine's timeout."""
        transaction = cls(engine)
        try:
            await engine.begin(transaction._scope, register_functions)
        except sqlite3.Error as error:
            raise TransactionError(f"SQLite refused to begin a transaction: {error}") from error
        except BaseException:
            transaction._let_go()
            raise
        return transaction

    def run(
        self, work: Callable[[sqlite3.Connection], R], translate: Callable[[sqlite3.Error], AppError] | None = None
    ) -> asyncio.Future[R]:
        """Run work in it; TransactionError once it is over. Errors of its own are sqlite3's, unless translated."""
        return self._engine.inside(self._scope, work, translate)

    async def commit(self) -> None:
        try:
            await self.run(partial(_execute, "COMMIT"))
        except sqlite3.Error as error:
            raise TransactionError(f"SQLite refused to commit the transaction: {error}") from error
        self._ended = True

    async def rollback(self) -> None:
        with suppress(AppError, sqlite3.Error):
            # It has to happen, whoever stops waiting for it.
            await asyncio.shield(self._let_go())

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None, None]:
        name, ready = f"savepoint_{next(self._names)}", self.ready
        try:
            await self.run(partial(_execute, f"SAVEPOINT {name}"))
            yield
            await self.run(partial(_execute, f"RELEASE {name}"))
        except BaseException:
            self.ready = ready
            with suppress(AppError, sqlite3.Error):  # it was not begun, or all is undone already
                await asyncio.shield(self.run(partial(_undo, name)))
            raise

    def _let_go(self) -> asyncio.Future[None]:
        self._ended = True
        return self._engine.rollback(self._scope, self._loop)

    def __del__(self) -> None:
        if not self._ended:
            with suppress(AppError):  # the engine is closed, and with it the transaction
                self._let_go()


def apart(work: Callable[[sqlite3.Connection], R], connection: sqlite3.Connection) -> R:
    """Several statements inside a transaction as one: where one fails, the others are undone and nothing else."""
    connection.execute("SAVEPOINT operation")
    try:
        result = work(connection)
    except BaseException:
        if connection.in_transaction:
            _undo("operation", connection)
        raise
    connection.execute("RELEASE operation")
    return result


def _execute(sql: str, connection: sqlite3.Connection) -> Any:
    return connection.execute(sql).fetchall()


def _undo(name: str, connection: sqlite3.Connection) -> None:
    connection.execute(f"ROLLBACK TO {name}")
    connection.execute(f"RELEASE {name}")
