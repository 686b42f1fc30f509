"""Collections as STRICT tables of SQLite, one statement for each operation."""

import re
import sqlite3
from functools import partial
from typing import Any

from ...connections.base import ConnectionManager
from ...connections.sqlite import SQLiteEngine
from ...core.errors import AppError, DuplicateRecordError, InvalidChangeError, StoreUnavailableError
from ._sql_backend import SQLBackend, Write
from ._sql_rows import Row
from ._sqlite_dialect import SQLiteDialect, register_functions
from ._sqlite_schema import ensure_table
from ._sqlite_transaction import SQLiteTransaction, apart
from .base import Capability


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
        await self._engine()

    @property
    def native(self) -> Any:
        return self.manager.live

    async def _read(self, sql: str, parameters: Row) -> list[Row]:
        engine = await self._engine()
        try:
            if self.transaction is None:
                return await engine.read(sql, parameters)
            return await self.transaction.run(partial(_fetch, sql, parameters))
        except sqlite3.Error as error:
            raise self._translated(error) from error

    async def _write(self, write: Write) -> tuple[int, list[Row]]:
        engine = await self._engine()
        work = partial(_run, write)
        try:
            if self.transaction is None:
                return await engine.transact(work, atomic=write.alone)
            return await self.transaction.run(work if write.alone else partial(apart, work))
        except sqlite3.Error as error:
            raise self._translated(error) from error

    async def _plan(self, sql: str, parameters: Row) -> dict[str, Any]:
        steps = [str(detail) for *_, detail in await self._read(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        # A scan may go along an index too, for the order, and still look at every record.
        found = next(filter(None, map(_SEARCH.match, steps)), None)
        return {"index": found and found["index"], "plan": steps}

    async def _engine(self) -> SQLiteEngine:
        """The open engine, with the table as the model has it."""
        engine: SQLiteEngine = self.manager.live or await self.manager.connect()
        transaction = self.transaction
        if engine is self._ready or (transaction is not None and self._table in transaction.ready):
            return engine
        try:
            if transaction is None:
                await engine.transact(self._ensure)
                self._ready = engine
            else:
                await transaction.run(partial(apart, self._ensure))
                transaction.ready |= {self._table}
        except sqlite3.Error as error:
            raise self._translated(error) from error
        return engine

    def _ensure(self, connection: sqlite3.Connection) -> None:
        register_functions(connection)
        ensure_table(connection, self._table)

    def _translated(self, error: sqlite3.Error) -> AppError:
        name = getattr(error, "sqlite_errorname", "")
        if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
            columns = str(error).partition(": ")[2].split(", ")
            return DuplicateRecordError(self.schema.name, [column.rpartition(".")[2] for column in columns])
        # Python 3.11 has no name for the error of a STRICT column.
        if isinstance(error, sqlite3.IntegrityError) or name in ("SQLITE_MISMATCH", "SQLITE_TOOBIG"):
            return InvalidChangeError(f"{self.schema.name}: SQLite refused a value: {error}")
        return StoreUnavailableError(f"{self.schema.name}: SQLite failed: {error}")


_SEARCH = re.compile(r"SEARCH \S.* USING (?:COVERING )?INDEX (?P<index>.+?)(?: \(|$)")


def _fetch(sql: str, parameters: Row, connection: sqlite3.Connection) -> list[Row]:
    return connection.execute(sql, parameters).fetchall()


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
    if write.check is not None:
        write.check(number, rows)
    return number, rows
