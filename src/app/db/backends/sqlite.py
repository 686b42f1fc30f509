"""Collections as STRICT tables of SQLite, one statement for each operation."""

import re
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from ...connections.base import ConnectionManager
from ...connections.sqlite import SQLiteEngine
from ...core.errors import AppError, DuplicateRecordError, InvalidChangeError, StoreUnavailableError
from ..query.operations import Explain
from ._mapped_schema import ensure_mapped_table
from ._sql_backend import SQLBackend, Write
from ._sql_mapped import MappedTable
from ._sql_rows import Row
from ._sqlite_dialect import SQLiteDialect, register_functions
from ._sqlite_schema import ensure_table
from ._sqlite_transaction import SQLiteTransaction, apart
from .base import Capability

R = TypeVar("R")


class SQLiteBackend(SQLBackend):
    """Statements run on the engine's thread; writes of concurrent callers share a commit."""

    capabilities = frozenset(
        {
            *(Capability.TTL, Capability.UNIQUE_INDEX, Capability.PARTIAL_INDEX),
            *(Capability.TRANSACTIONS, Capability.SAVEPOINTS, Capability.ORDERED_STREAM),
        }
    )
    dialect = SQLiteDialect()
    transaction: SQLiteTransaction | None = None
    _ready: SQLiteEngine | None = None

    @classmethod
    async def begin(cls, manager: ConnectionManager[SQLiteEngine]) -> SQLiteTransaction:
        return await SQLiteTransaction.begin(manager.live or await manager.connect())

    async def prepare(self) -> None:
        if self._live() is not None:
            return
        engine: SQLiteEngine = self.manager.live or await self.manager.connect()
        transaction = self.transaction
        if transaction is None:
            await engine.transact(self._ensure, translate=self._translated)
            self._ready = engine
        else:
            await transaction.run(partial(apart, self._ensure), self._translated)
            transaction.ready |= {self._table}

    @property
    def native(self) -> Any:
        return self.manager.live

    def _read(self, sql: str, parameters: Row) -> Awaitable[list[Row]]:
        engine = self._live()
        if engine is None:
            return self._first_use(partial(self._read, sql, parameters))
        if self.transaction is not None:
            return self.transaction.run(partial(_fetch, sql, parameters), self._translated)
        return engine.read(sql, parameters, translate=self._translated)

    def _write(self, write: Write) -> Awaitable[tuple[int, list[Row]]]:
        engine = self._live()
        if engine is None:
            return self._first_use(partial(self._write, write))
        alone = write.alone
        work = partial(_run_one if alone else _run, write)
        if self.transaction is not None:
            return self.transaction.run(work if alone else partial(apart, work), self._translated)
        large = len(write.rows) >= _LARGE
        return engine.transact(work, atomic=alone, large=large, translate=self._translated)

    async def explain(self, operation: Explain) -> dict[str, Any]:
        sql, parameters = self._find(operation.find)
        steps = [str(detail) for *_, detail in await self._read(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        # A scan may go along an index too, for the order, and still look at every record.
        found = next(filter(None, map(_SEARCH.match, steps)), None)
        return {"store": "sqlite", "index": found and found["index"], "plan": steps}

    def _live(self) -> SQLiteEngine | None:
        """The open engine, where the table is known to be as the model has it."""
        engine: SQLiteEngine | None = self.manager.live
        if engine is self._ready:
            return engine
        transaction = self.transaction
        return engine if transaction is not None and self._table in transaction.ready else None

    async def _first_use(self, then: Callable[[], Awaitable[R]]) -> R:
        await self.prepare()
        return await then()

    def _ensure(self, connection: sqlite3.Connection) -> None:
        register_functions(connection)
        if isinstance(self._table, MappedTable):
            ensure_mapped_table(connection, self._table)
        else:
            ensure_table(connection, self._table)

    def _translated(self, error: sqlite3.Error) -> AppError:
        name = getattr(error, "sqlite_errorname", "")
        if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
            columns = str(error).partition(": ")[2].split(", ")
            names = [column.rpartition(".")[2] for column in columns]
            return DuplicateRecordError(self.schema.name, self._table.fields_of(names))
        # Python 3.11 has no name for the error of a STRICT column.
        if isinstance(error, sqlite3.IntegrityError) or name in ("SQLITE_MISMATCH", "SQLITE_TOOBIG"):
            return InvalidChangeError(f"{self.schema.name}: SQLite refused a value: {error}")
        if "no such table" in str(error):
            self._ready = None  # it was dropped meanwhile: the next use makes it again
        return StoreUnavailableError(f"{self.schema.name}: SQLite failed: {error}")


_LARGE = 100
"""Rows from which on sharing a commit saves less than the savepoint that it needs."""
_SEARCH = re.compile(r"SEARCH \S.* USING (?:COVERING )?INDEX (?P<index>.+?)(?: \(|$)")


def _fetch(sql: str, parameters: Row, connection: sqlite3.Connection) -> list[Row]:
    return connection.execute(sql, parameters).fetchall()


def _run_one(write: Write, connection: sqlite3.Connection) -> tuple[int, list[Row]]:
    cursor = connection.execute(write.sql, write.rows[0])
    if not write.returns:
        return cursor.rowcount, []
    rows = cursor.fetchall()
    return len(rows), rows


def _run(write: Write, connection: sqlite3.Connection) -> tuple[int, list[Row]]:
    if write.first is not None:
        connection.execute(*write.first)
    rows: list[Row] = []
    if write.returns:
        for parameters in write.rows:
            rows += connection.execute(write.sql, parameters).fetchall()
        number = len(rows)
    else:
        number = connection.executemany(write.sql, write.rows).rowcount
    if write.then is not None:
        more, others = _run(write.then, connection)
        number, rows = number + more, [*rows, *others]
    if write.check is not None:
        write.check(number, rows)
    return number, rows
