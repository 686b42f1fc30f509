"""Collections as STRICT tables of SQLite, one statement for each operation."""

import re
import sqlite3
from typing import Any

from ...connections.sqlite import SQLiteEngine
from ...core.errors import AppError, DuplicateRecordError, InvalidChangeError, StoreUnavailableError
from ._sql_backend import SQLBackend, Write
from ._sql_rows import Row
from ._sqlite_dialect import SQLiteDialect, register_functions
from ._sqlite_schema import ensure_table
from .base import Capability


class SQLiteBackend(SQLBackend):
    """Statements run on the engine's thread; writes of concurrent callers share a commit."""

    capabilities = frozenset({Capability.TTL, Capability.UNIQUE_INDEX, Capability.PARTIAL_INDEX})
    dialect = SQLiteDialect()
    _ready: SQLiteEngine | None = None

    async def prepare(self) -> None:
        await self._engine()

    @property
    def native(self) -> Any:
        return self.manager.live

    async def _read(self, sql: str, parameters: Row) -> list[Row]:
        engine = await self._engine()
        try:
            return await engine.read(sql, parameters)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    async def _write(self, write: Write) -> tuple[int, list[Row]]:
        engine = await self._engine()
        try:
            return await engine.transact(lambda connection: _run(connection, write))
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
        if engine is not self._ready:
            try:
                await engine.transact(self._ensure)
            except sqlite3.Error as error:
                raise self._translated(error) from error
            self._ready = engine
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


def _run(connection: sqlite3.Connection, write: Write) -> tuple[int, list[Row]]:
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
