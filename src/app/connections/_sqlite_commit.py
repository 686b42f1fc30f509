"""Writes of concurrent callers in one commit, without one of them undoing another."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from ..core.errors import AppError
from .owner_thread import Job

Translate: TypeAlias = Callable[[sqlite3.Error], AppError]


class SQLiteJob(Job[sqlite3.Connection]):
    """`atomic` says that it is one statement, which SQLite undoes by itself where it fails; `large`, that it gets a
    commit of its own; `begins`, that it opens a transaction; `scope`, which one it belongs to. `translate` makes
    ours of an error that is not about the database as a whole.
    """

    __slots__ = ("atomic", "begins", "large", "scope", "translate")

    def __init__(  # noqa: PLR0913 - what a job is
        self,
        work: Callable[[sqlite3.Connection], Any],
        future: asyncio.Future[Any],
        *,
        deadline: float,
        write: bool = False,
        atomic: bool = False,
        large: bool = False,
        begins: bool = False,
        scope: object | None = None,
        translate: Translate | None = None,
    ) -> None:
        # Not by `super()`: one is made for each operation.
        self.work = work
        self.future = future
        self.write = write
        self.deadline = deadline
        self.result: Any = None
        self.error: BaseException | None = None
        self.atomic = atomic
        self.large = large
        self.begins = begins
        self.scope = scope
        self.translate = translate


def commit_together(connection: sqlite3.Connection, writes: list[SQLiteJob]) -> None:
    """One transaction for all, and a savepoint for each that needs one. Where the transaction fails, all of them do."""
    alone = len(writes) == 1
    if alone and writes[0].atomic:
        writes[0].run(connection)
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in writes:
            apart = not (alone or job.atomic)
            if apart:
                connection.execute("SAVEPOINT job")
            job.run(connection)
            if job.error is not None:
                if not connection.in_transaction:
                    if isinstance(job.error, sqlite3.IntegrityError):
                        # `OR ROLLBACK` undid what the others did: they are run again, without this one.
                        commit_together(connection, [_again(other) for other in writes if other is not job])
                    else:
                        _fail(connection, writes, job.error)
                    return
                if alone:
                    connection.execute("ROLLBACK")
                    return
                if apart:
                    connection.execute("ROLLBACK TO job")
            if apart:
                connection.execute("RELEASE job")
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - carried to the callers, and never with a transaction left open
        _fail(connection, writes, error)


def _fail(connection: sqlite3.Connection, writes: list[SQLiteJob], error: BaseException) -> None:
    for job in writes:
        job.result, job.error = None, job.error or error
    if connection.in_transaction:
        with suppress(sqlite3.Error):  # what failed first is what the callers hear of
            connection.execute("ROLLBACK")


def _again(job: SQLiteJob) -> SQLiteJob:
    job.result = job.error = None
    return job
