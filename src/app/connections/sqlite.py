"""SQLite on one owned thread: reads at once, writes grouped into one commit with a savepoint each."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..config.settings import SQLiteSettings
from ..core.constants import ConnectionType
from ..core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from ._sqlite_guard import run_alone
from .base import ConnectionManager
from .owner_thread import Job, OwnerThread, engines

R = TypeVar("R")
Row = tuple[Any, ...]

MEMORY = ":memory:"
_OLDEST = (3, 37, 0)  # STRICT tables; RETURNING needs 3.35


class SQLiteEngine(OwnerThread[sqlite3.Connection]):
    """The one connection of this process to one database file."""

    def __init__(self, path: str, settings: SQLiteSettings) -> None:
        super().__init__(f"sqlite {path}", settings.timeout)
        self.path = path
        self.settings = settings

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> asyncio.Future[list[Row]]:
        """Run one SELECT; the future has its rows."""
        return self.submit(partial(_fetch, sql, parameters))

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> asyncio.Future[list[Row]]:
        """Run one writing statement, atomically; the future has the rows of its RETURNING, after the commit."""
        return self.submit(partial(_fetch, sql, parameters), write=True)

    def transact(self, work: Callable[[sqlite3.Connection], R]) -> asyncio.Future[R]:
        """Run several statements in one transaction on the thread; an exception rolls back all that `work` did."""
        return self.submit(work, write=True)

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise UnsupportedOperationError(
                f"SQLite {sqlite3.sqlite_version} is too old: manystore needs {'.'.join(map(str, _OLDEST))}"
            )
        deadline = time.monotonic() + self.settings.timeout
        try:
            if self.path != MEMORY:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=0)
        except (sqlite3.Error, OSError) as error:
            raise self._cannot_open(error) from error
        try:
            while True:
                try:
                    connection.execute("PRAGMA journal_mode = WAL").fetchone()
                    break
                except sqlite3.OperationalError as error:
                    # Switching the mode asks for the file alone, and does not wait for it.
                    if not _is_busy(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            connection.execute(f"PRAGMA synchronous = {self.settings.synchronous.upper()}")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            connection.close()
            raise self._cannot_open(error) from error
        return connection

    def _cannot_open(self, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(f"cannot open the SQLite database {self.path}: {error}")

    def _close(self, resource: sqlite3.Connection) -> None:
        resource.close()

    def _run(self, resource: sqlite3.Connection, jobs: list[Job[sqlite3.Connection]]) -> list[Job[sqlite3.Connection]]:
        """Run the reads, then the writes in one transaction; return what another process's lock keeps waiting."""
        writes = []
        for job in jobs:
            job.error = None
            if job.write:
                writes.append(job)
            else:
                job.run(resource)
        if writes:
            _commit_together(resource, writes)
        waiting = []
        for job in jobs:
            if isinstance(job.error, sqlite3.Error):
                if _is_busy(job.error) and time.monotonic() < job.deadline:
                    waiting.append(job)
                else:
                    job.error = self._translated(job.error)
        return waiting

    def _translated(self, error: sqlite3.Error) -> Exception:
        """Ours for what concerns the database as a whole; a refused value or statement is the backend's to name."""
        ours: AppError
        if isinstance(error, sqlite3.OperationalError) and _is_busy(error):
            ours = DeadlineExceededError(
                f"{self.path} was locked by another process for more than {self.settings.timeout:g} s; "
                "nothing was read or written"
            )
        elif getattr(error, "sqlite_errorname", "").startswith(_UNAVAILABLE):
            ours = StoreUnavailableError(f"the SQLite database {self.path} failed: {error}")
        else:
            return error
        ours.__cause__ = error
        return ours


_UNAVAILABLE = (
    *("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_FULL"),
    *("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_PERM", "SQLITE_AUTH"),
)


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _fetch(sql: str, parameters: Sequence[Any], connection: sqlite3.Connection) -> list[Row]:
    return connection.execute(sql, parameters).fetchall()


def _commit_together(connection: sqlite3.Connection, writes: list[Job[sqlite3.Connection]]) -> None:
    """One transaction for all, a savepoint for each. Where the transaction fails, it fails for all of them."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in writes:
            connection.execute("SAVEPOINT job")
            job.run(connection)
            if job.error is not None:
                if not connection.in_transaction and isinstance(job.error, sqlite3.IntegrityError):
                    # `OR ROLLBACK` undid what the others did: they are run again, without this one.
                    _commit_together(connection, [_again(other) for other in writes if other is not job])
                    return
                if connection.in_transaction:
                    connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - carried to the callers, and never with a transaction left open
        for job in writes:
            job.result, job.error = None, job.error or error
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # what failed first is what the callers hear of
                connection.execute("ROLLBACK")


def _again(job: Job[sqlite3.Connection]) -> Job[sqlite3.Connection]:
    job.result = job.error = None
    return job


class SQLiteConnectionManager(ConnectionManager[SQLiteEngine]):
    """Opens one SQLite file, shared by all loops of the process. `:memory:` is private to this manager."""

    connection_type = ConnectionType.SQLITE

    def __init__(
        self, settings: SQLiteSettings | None = None, *, name: str | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(settings or SQLiteSettings(), name=name, data_dir=data_dir)
        in_memory = str(self.settings.path) == MEMORY
        self.path = MEMORY if in_memory else os.path.realpath(self.data_dir / self.settings.path.expanduser())
        self._key = f"{MEMORY}{id(self)}" if in_memory else self.path

    async def execute_query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one SELECT with bound parameters. The driver's own error for SQL that it cannot read."""
        return await (await self.connect()).submit(partial(run_alone, sql, parameters, write=False))

    async def execute_command(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one writing statement with bound parameters; return the rows of its RETURNING."""
        return await (await self.connect()).submit(partial(run_alone, sql, parameters, write=True), write=True)

    def get_connection_info(self) -> dict[str, Any]:
        return {"type": str(self.connection_type), "path": self.path}

    async def _open(self) -> SQLiteEngine:
        engine = await engines.acquire(SQLiteEngine, self._key, lambda: SQLiteEngine(self.path, self.settings))
        if engine.settings.model_copy(update={"path": self.settings.path}) != self.settings:
            await engines.release(engine)
            raise ConfigurationError(f"{self.path} is already open here with other settings: give both the same")
        return engine

    async def _close(self, client: SQLiteEngine) -> None:
        await engines.release(client)

    def _abandon(self, client: SQLiteEngine) -> None:
        engines.let_go(client)

    async def _ping(self, client: SQLiteEngine) -> str:
        [[version]] = await client.read("SELECT sqlite_version()")
        return str(version)
