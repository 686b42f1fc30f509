"""SQLite on one owned thread: reads at once, writes grouped into one commit, transactions on a second connection."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from ..config.settings import SQLiteSettings
from ..core.errors import AppError, DeadlineExceededError, StoreUnavailableError, TransactionError
from ._slow_queries import SlowQueries
from ._sqlite_commit import SQLiteJob, Translate, commit_together
from ._sqlite_open import MEMORY, is_busy, open_database
from .owner_thread import Job, OwnerThread

R = TypeVar("R")
Row = tuple[Any, ...]
SetUp: TypeAlias = Callable[[sqlite3.Connection], None]


class SQLiteEngine(OwnerThread[sqlite3.Connection]):
    """The one writer of this process to one database file.

    At most one transaction is open. It has a connection of its own, so that reads outside it go on; writes outside it,
    and the next transaction, wait in the order they came. A database in memory has one connection only, so there
    everything outside waits.
    """

    def __init__(self, path: str, settings: SQLiteSettings, name: str = "sqlite") -> None:
        """`name` is what the log of slow statements calls it."""
        super().__init__(f"sqlite {path}", settings.timeout)
        self._watch = None if settings.slow_query is None else SlowQueries(name, settings.slow_query)
        self.path = path
        self.settings = settings
        self._second: sqlite3.Connection | None = None
        self._scope: object | None = None
        """What stands for the open transaction."""

    def read(
        self, sql: str, parameters: Sequence[Any] = (), *, translate: Translate | None = None
    ) -> asyncio.Future[list[Row]]:
        """Run one SELECT; the future has its rows."""
        future: asyncio.Future[list[Row]] = self._loop().create_future()
        deadline = time.monotonic() + self._timeout
        self._put(SQLiteJob(partial(_fetch, sql, parameters), future, deadline=deadline, translate=translate))
        return future

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> asyncio.Future[list[Row]]:
        """Run one writing statement, atomically; the future has the rows of its RETURNING, after the commit."""
        return self.transact(partial(_fetch, sql, parameters), atomic=True)

    def transact(
        self,
        work: Callable[[sqlite3.Connection], R],
        *,
        atomic: bool = False,
        large: bool = False,
        translate: Translate | None = None,
    ) -> asyncio.Future[R]:
        """Run several statements in one transaction on the thread; an exception rolls back all that `work` did.

        `atomic` says that it is a single statement, which does that by itself; `large`, that a commit of its own is
        little beside it.
        """
        future: asyncio.Future[R] = self._loop().create_future()
        deadline = time.monotonic() + self._timeout
        self._put(
            SQLiteJob(work, future, deadline=deadline, write=True, atomic=atomic, large=large, translate=translate)
        )
        return future

    def begin(self, scope: object, set_up: SetUp) -> asyncio.Future[None]:
        """Begin a transaction that `scope` stands for, after what was submitted before. `set_up` prepares its
        connection when that is opened.

        Whoever stops waiting has to send `rollback`: it may have begun.
        """
        return self.submit(partial(self._begin, scope, set_up), write=True, begins=True)

    def inside(
        self, scope: object, work: Callable[[sqlite3.Connection], R], translate: Translate | None = None
    ) -> asyncio.Future[R]:
        """Run work in the open transaction; TransactionError where it is open no longer."""
        return self.submit(work, scope=scope, translate=translate)

    def rollback(self, scope: object, loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Future[None]:
        """End the transaction if it is open still; nobody has to wait. `loop` is the future's, for callers on none."""
        future = self.submit(_roll_back, scope=scope, loop=loop)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked for, so not reported
        return future

    def submit(
        self,
        work: Callable[[sqlite3.Connection], R],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        **kind: Any,
    ) -> asyncio.Future[R]:
        """Hand over a function of the connection; `kind` is what `SQLiteJob` takes."""
        future: asyncio.Future[R] = (loop or self._loop()).create_future()
        self._put(SQLiteJob(work, future, deadline=time.monotonic() + self._timeout, **kind))
        return future

    def _open(self) -> sqlite3.Connection:
        return open_database(self.path, self.settings, self._watch)

    def _close(self, resource: sqlite3.Connection) -> None:
        if self._second is not None:
            self._second.close()
        resource.close()

    def _run(self, resource: sqlite3.Connection, jobs: list[Job[sqlite3.Connection]]) -> list[Job[sqlite3.Connection]]:
        """Run what belongs to the open transaction, and the reads; then the writes in one transaction of their own, up
        to what begins the next one. Return what a lock keeps waiting.
        """
        turns: list[SQLiteJob] = []
        for job in cast("list[SQLiteJob]", jobs):
            job.error = None
            if job.scope is not None:
                self._run_inside(job)
            elif job.write or (self._scope is not None and self._second is resource):
                turns.append(job)
            else:
                job.run(resource)
        held = self._take_turns(resource, turns) if turns else set()
        waiting = []
        for each in jobs:
            if each in held:
                if time.monotonic() < each.deadline:
                    waiting.append(each)
                else:
                    each.error = DeadlineExceededError(
                        f"a transaction on {self.path} was open for more than {self.settings.timeout:g} s; nothing was "
                        "read or written. Inside a transaction, use its own repositories: tx.repository(…)"
                    )
            elif isinstance(each.error, sqlite3.Error):
                if is_busy(each.error) and time.monotonic() < each.deadline:
                    waiting.append(each)
                else:
                    each.error = self._translated(each.error, cast("SQLiteJob", each).translate)
        return waiting

    def _take_turns(self, connection: sqlite3.Connection, jobs: list[SQLiteJob]) -> set[Job[sqlite3.Connection]]:
        """Run what changes the database, in order, up to the beginning of a transaction; return the rest."""
        group: list[SQLiteJob] = []
        for position, job in enumerate(jobs):
            if self._scope is not None:
                return {*jobs[position:]}
            if not (job.begins or job.large):
                group.append(job)
                continue
            if group:
                commit_together(connection, group)
                group = []
            if job.begins:
                job.run(connection)
            else:
                commit_together(connection, [job])
        if group:
            commit_together(connection, group)
        return set()

    def _begin(self, scope: object, set_up: SetUp, connection: sqlite3.Connection) -> None:
        if self._second is None:
            second = connection if self.path == MEMORY else open_database(self.path, self.settings, self._watch)
            set_up(second)
            self._second = second
        self._second.execute("BEGIN IMMEDIATE")
        self._scope = scope

    def _run_inside(self, job: SQLiteJob) -> None:
        if job.scope is not self._scope or self._second is None:
            job.error = TransactionError(
                "this transaction is open no longer: an error of the database, or the end of its connection, undid it"
            )
            return
        job.run(self._second)
        if not self._second.in_transaction:
            self._scope = None

    def _no_more(self, resource: sqlite3.Connection) -> None:  # noqa: ARG002 - a hook of the thread
        if self._scope is not None and self._second is not None:
            self._scope = None
            with suppress(sqlite3.Error):
                _roll_back(self._second)

    def _pause(self, waiting: list[Job[sqlite3.Connection]]) -> float:
        # The end of our own transaction comes as a job; that of another process's does not.
        if self._scope is None:
            return super()._pause(waiting)
        return max(min(each.deadline for each in waiting) - time.monotonic(), 0.001)

    def _translated(self, error: sqlite3.Error, translate: Translate | None) -> Exception:
        """Ours for what concerns the database as a whole; a refused value or statement is the backend's to name."""
        ours: AppError
        if isinstance(error, sqlite3.OperationalError) and is_busy(error):
            ours = DeadlineExceededError(
                f"{self.path} was locked by another process for more than {self.settings.timeout:g} s; "
                "nothing was read or written"
            )
        elif getattr(error, "sqlite_errorname", "").startswith(_UNAVAILABLE):
            ours = StoreUnavailableError(f"the SQLite database {self.path} failed: {error}")
        elif translate is not None:
            ours = translate(error)
        else:
            return error
        ours.__cause__ = error
        return ours


_UNAVAILABLE = (
    *("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_FULL"),
    *("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_PERM", "SQLITE_AUTH"),
)


def _fetch(sql: str, parameters: Sequence[Any], connection: sqlite3.Connection) -> list[Row]:
    return connection.execute(sql, parameters).fetchall()


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
