"""Engines on a SQLite file: the one that the repositories of its connection use, on connections of their own.

Reads begin no transaction, so each sees what is committed; the first statement that writes begins one that has the
write lock at once (BEGIN IMMEDIATE). So a transaction waits for another writer at its beginning, for the connection's
timeout, and is never refused half-way because somebody else has written since it read.
"""

import re
import sqlite3
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ...connections._sqlite_open import MEMORY, open_database
from ...connections.sqlite import SQLiteConnectionManager
from ...core.errors import ConfigurationError
from ..backends._sqlite_dialect import register_functions

BEGIN: Final = "BEGIN IMMEDIATE"
_POOL_SIZE = 10


class SQLiteEngines:
    """Makes engines on the file of one connection."""

    def __init__(self, manager: SQLiteConnectionManager) -> None:
        if manager.path == MEMORY:
            raise ConfigurationError(
                f"the connection {manager.name!r} is in memory, which its repositories have for themselves: give it a "
                "file for sessions of SQLAlchemy's to see the same"
            )
        self._path = manager.path
        self._settings = manager.settings

    def make(self, **options: Any) -> sa.Engine:
        engine = sa.create_engine(f"sqlite:///{self._path}", creator=self._open, **self._pool, **options)
        begin_for_writing(engine)
        return engine

    def make_async(self, opened: Any, **options: Any) -> AsyncEngine:
        """`opened` is awaited with each connection of the driver's."""

        async def connect() -> Any:
            from .sqlite_async import AsyncConnection  # noqa: PLC0415 - on use only

            return await opened(await AsyncConnection(self._open))

        url = f"sqlite+aiosqlite:///{self._path}"
        engine = create_async_engine(url, async_creator=connect, **self._pool, **options)
        begin_for_writing(engine.sync_engine)
        return engine

    def release(self) -> None:
        """Nothing is held besides the connections."""

    @property
    def _pool(self) -> dict[str, Any]:
        return {"pool_size": _POOL_SIZE, "max_overflow": 0, "pool_timeout": self._settings.timeout}

    def _open(self) -> sqlite3.Connection:
        connection = open_database(self._path, self._settings)
        connection.execute(f"PRAGMA busy_timeout = {round(self._settings.timeout * 1000)}")
        register_functions(connection)
        return connection


def begin_for_writing(engine: sa.Engine) -> None:
    """Begin at the first statement that writes; the driver's own way is none that SQLAlchemy could rely on."""
    event.listen(engine, "before_cursor_execute", _before)


def _before(
    connection: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    del cursor, parameters, executemany
    if _begins(statement, context):
        take_write_lock(connection)


def take_write_lock(connection: sa.Connection) -> None:
    """Begin a transaction that nobody else writes during, unless one has begun, or each statement is its own."""
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(BEGIN)


def _begins(statement: str, context: Any) -> bool:
    if context is not None and (context.isinsert or context.isupdate or context.isdelete or context.isddl):
        return True
    text = _COMMENT.sub("", statement)
    word = _WORD.match(text)
    keyword = word[1].upper() if word else ""
    if keyword == "WITH":
        return _CHANGES.search(text) is not None
    return keyword not in _OUTSIDE


_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_WORD = re.compile(r"[\s(]*([A-Za-z]+)")
_CHANGES = re.compile(r"\b(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_OUTSIDE = frozenset(
    {
        *("SELECT", "VALUES", "EXPLAIN", "PRAGMA"),
        *("BEGIN", "COMMIT", "END", "ROLLBACK"),
        *("VACUUM", "ATTACH", "DETACH"),  # are refused inside one
    }
)
"""What begins no transaction. SAVEPOINT does: it would begin one itself, without the lock."""
