"""SQLite: from the file itself, on a connection that reads only, beside the thread that owns the others.

SQLite counts no use of its indexes.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ...connections._sqlite_open import MEMORY, is_busy
from ...connections.owner_thread import engines
from ...connections.sqlite import SQLiteConnectionManager, SQLiteEngine
from ...core.errors import DeadlineExceededError, StoreUnavailableError
from .base import (
    MOST_COLLECTIONS,
    Allowance,
    CollectionStatistics,
    IndexStatistics,
    StoreStatistics,
    connected,
    left_out,
)

COUNTED_BYTES: Final = 256 * 2**20
"""Up to this size a database is read to the last page; of a larger one ANALYZE has the numbers."""
_AGAIN_SECONDS: Final = 0.005


async def read(manager: SQLiteConnectionManager) -> StoreStatistics:
    if manager.path == MEMORY:
        async with connected(manager) as (engine, allowance):
            found: StoreStatistics = await engine.submit(lambda connection: _read(manager, connection, allowance))
            return found
    engines.refuse_inherited(SQLiteEngine, manager.path)
    return await asyncio.to_thread(_read_file, manager)


def _read_file(manager: SQLiteConnectionManager) -> StoreStatistics:
    path = manager.path
    allowance = Allowance(manager.settings.timeout)
    log = Path(f"{path}-wal")
    # Whoever closes a file last empties its log into it, so where there is one we may only look. Where there is none a
    # connection that may only look would make one, and leave it behind.
    mode = "ro" if log.exists() else "rw"
    try:
        with closing(_open(path, mode, manager.settings.timeout)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            found = _read(manager, connection, allowance)
            connection.execute("ROLLBACK")
            return found
    except sqlite3.Error as error:
        if not allowance.left or is_busy(error):
            raise DeadlineExceededError(
                f"{path} was not read within {manager.settings.timeout:g} s: raise its timeout"
            ) from error
        raise StoreUnavailableError(f"cannot read the SQLite database {path}: {error}") from error


def _open(path: str, mode: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(path)}?mode={mode}", uri=True, isolation_level=None, timeout=timeout)


def _read(manager: SQLiteConnectionManager, connection: sqlite3.Connection, allowance: Allowance) -> StoreStatistics:
    with _interrupted_after(allowance.left, connection):
        return _Database(manager, connection).statistics()


@contextmanager
def _interrupted_after(seconds: float, connection: sqlite3.Connection) -> Iterator[None]:
    """A progress handler would not do: counting is a single step of SQLite's machine."""
    lock = threading.Lock()
    done = threading.Event()

    def interrupt() -> None:
        # SQLite forgets an interrupt that comes between two statements, so the next one has to hear it again.
        wait = seconds
        while not done.wait(wait):
            with lock:
                if not done.is_set():
                    connection.interrupt()
            wait = _AGAIN_SECONDS

    thread = threading.Thread(target=interrupt, name="manystore-interrupt", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with lock:
            done.set()
        thread.join()


class _Database:
    def __init__(self, manager: SQLiteConnectionManager, connection: sqlite3.Connection) -> None:
        self._manager = manager
        self._connection = connection
        self._page_size = self._pragma("page_size")
        self._bytes = self._page_size * self._pragma("page_count")
        self._is_counted = self._bytes <= COUNTED_BYTES

    def statistics(self) -> StoreStatistics:
        files = self._files()
        tables = list(self._rows("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'view'"))
        names = sorted(name for (name,) in tables if not name.startswith("sqlite_"))
        sizes, notes = self._sizes()
        estimates = self._estimates()
        if not self._is_counted:
            told = "what ANALYZE has estimated" if estimates else "unknown until ANALYZE has run"
            notes += (f"the file is past {COUNTED_BYTES // 2**20} MiB: its rows are {told}",)
        shown = names[:MOST_COLLECTIONS]
        return StoreStatistics(
            self._manager.name,
            self._manager.connection_type,
            version=sqlite3.sqlite_version,
            size_bytes=sum(files.values()) if files else self._bytes,
            collections=tuple(self._table(name, sizes, estimates) for name in shown),
            details={
                "page_bytes": self._page_size,
                "free_bytes": self._page_size * self._pragma("freelist_count"),
                "wal_bytes": files.get("-wal", 0),
                "journal_mode": self._pragma("journal_mode"),
                "analyzed": bool(estimates),
            },
            notes=(*notes, *left_out(len(shown), len(names)), "SQLite does not count how often an index is used"),
        )

    def _table(self, name: str, sizes: dict[str, int], estimates: dict[str, int]) -> CollectionStatistics:
        indexes = tuple(self._indexes(name, sizes))
        size = None
        if name in sizes:
            size = sizes[name] + sum(index.size_bytes or 0 for index in indexes)
        rows, exact = (self._count(name), True) if self._is_counted else (estimates.get(name), False)
        return CollectionStatistics(name, rows, exact and rows is not None, size, indexes)

    def _indexes(self, table: str, sizes: dict[str, int]) -> Iterator[IndexStatistics]:
        for name, unique in self._rows("SELECT name, \"unique\" FROM pragma_index_list(?, 'main')", table):
            columns = self._rows("SELECT name FROM pragma_index_info(?, 'main') ORDER BY seqno", name)
            fields = tuple("<expression>" if column is None else column for (column,) in columns)
            yield IndexStatistics(name, fields, "btree", bool(unique), sizes.get(name))

    def _count(self, table: str) -> int | None:
        quoted = table.replace('"', '""')
        try:
            [[count]] = self._rows(f'SELECT count(*) FROM main."{quoted}"')  # noqa: S608 - a name that SQLite gave
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise
            return None  # a virtual table whose module is not loaded here
        return int(count)

    def _sizes(self) -> tuple[dict[str, int], tuple[str, ...]]:
        """Bytes of each table and index, which takes a look at every page."""
        if not self._is_counted:
            return {}, ()
        if not list(self._rows("SELECT 1 FROM pragma_module_list WHERE name = 'dbstat'")):
            return {}, ("this build of SQLite does not tell the size of tables (dbstat)",)
        return dict(self._rows("SELECT name, sum(pgsize) FROM main.dbstat GROUP BY name")), ()

    def _estimates(self) -> dict[str, int]:
        """Rows of each table when ANALYZE last ran: the first number of `stat`."""
        if not list(self._rows("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_stat1'")):
            return {}
        rows = self._rows("SELECT tbl, max(CAST(stat AS INTEGER)) FROM main.sqlite_stat1 GROUP BY tbl")
        return {table: rows for table, rows in rows if rows is not None}

    def _files(self) -> dict[str, int]:
        """Bytes of the file and of the log beside it; nothing for a database in memory."""
        sizes = {}
        for suffix in ("", "-wal"):
            file = Path(f"{self._manager.path}{suffix}")
            if self._manager.path != MEMORY and file.exists():
                sizes[suffix] = file.stat().st_size
        return sizes

    def _pragma(self, name: str) -> Any:
        [[value]] = self._connection.execute(f"PRAGMA main.{name}")
        return value

    def _rows(self, sql: str, *parameters: str) -> Any:
        return self._connection.execute(sql, parameters)
