"""A connection to a SQLite file, set up as every one of ours is."""

import sqlite3
import time
from pathlib import Path

from ..config.settings import SQLiteSettings
from ..core.errors import StoreUnavailableError, UnsupportedOperationError
from ._slow_queries import SlowQueries
from ._sqlite_watched import watched

MEMORY = ":memory:"
_OLDEST = (3, 37, 0)  # STRICT tables; RETURNING needs 3.35


def open_database(path: str, settings: SQLiteSettings, watch: SlowQueries | None = None) -> sqlite3.Connection:
    """Open it with WAL, and without a wait of SQLite's own for locks: that would stop the thread."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise UnsupportedOperationError(
            f"SQLite {sqlite3.sqlite_version} is too old: manystore needs {'.'.join(map(str, _OLDEST))}"
        )
    deadline = time.monotonic() + settings.timeout
    try:
        if path != MEMORY:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        kind = sqlite3.Connection if watch is None else watched(watch)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0, factory=kind)
    except (sqlite3.Error, OSError) as error:
        raise _cannot_open(path, error) from error
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                # Switching the mode asks for the file alone, and does not wait for it.
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute(f"PRAGMA synchronous = {settings.synchronous.upper()}")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as error:
        connection.close()
        raise _cannot_open(path, error) from error
    return connection


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection's lock was in the way."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _cannot_open(path: str, error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"cannot open the SQLite database {path}: {error}")
