"""SQL of an application's own on the shared connection: it may do what one statement does, and nothing to the rest."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from ..core.errors import UnsupportedOperationError

# The connection is shared: what ends a transaction, or sets the connection itself, would act on what others do.
_NEVER: Final = frozenset(
    {sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH}
)
_READS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_TELLING_PRAGMAS: Final = frozenset(
    {
        *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"),
        *("database_list", "compile_options", "page_count", "page_size", "freelist_count", "integrity_check"),
        *("quick_check", "foreign_key_check"),
    }
)
# With a value they change the connection.
_SETTINGS: Final = frozenset({"synchronous", "journal_mode", "foreign_keys", "user_version", "encoding"})


def run_alone(sql: str, parameters: Sequence[Any], connection: sqlite3.Connection, *, write: bool) -> list[Any]:
    """Run one statement on the owner thread; UnsupportedOperationError where it would reach beyond itself."""
    refused: list[str] = []

    def authorize(action: int, first: str | None, second: str | None, _database: str | None, _from: str | None) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            allowed = first in _TELLING_PRAGMAS or (second is None and first in _SETTINGS)
        else:
            allowed = action not in _NEVER and (write or action in _READS)
        if not allowed:
            refused.append(first or "")
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.DatabaseError as error:
        if not refused:
            raise
        does = "ends others' transactions or changes the connection itself" if write else "is no plain query"
        raise UnsupportedOperationError(f"this statement {does} ({error}): the connection is shared") from error
    finally:
        connection.set_authorizer(None)
