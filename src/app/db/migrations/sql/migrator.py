"""SQL stores: Alembic's revisions, run by us under one lock, or by the command `alembic` with the same effect."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import RevisionContext
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory

from ....connections.base import ConnectionManager
from ....connections.sqlite import SQLiteConnectionManager
from ....core.errors import MigrationError
from ..ledger import Direction, Entry, Status
from ..migrator import Events, Migrator, Report
from . import ledger
from .configuration import alembic_config
from .description import Host, describe
from .differences import words
from .dry_run import statements_of
from .engine import Interrupt, connected
from .environment import RUN
from .errors import ours
from .indexes import owners
from .lock import announced
from .revisions import Revision, checksum_of, directory_of, known, load, named, refuse_heads, refuse_unsound
from .run import Run, announcement

R = TypeVar("R")

_ALEMBIC: Final = threading.Lock()
"""`alembic.context` and `alembic.op` are one for the process."""


class SQLMigrator(Migrator):
    """One database. All work is done in a thread, on connections of its own."""

    def __init__(
        self, connection: str, directory: Path, manager: ConnectionManager[Any], host: Host, *, wait: float
    ) -> None:
        self.connection = connection
        self.directory = directory
        self._manager = manager
        self._host = host
        self._wait = wait

    async def status(self) -> list[Status]:
        return await self.work(self._status)

    async def up(self, to: str | None = None, *, dry_run: bool = False, events: Events | None = None) -> Report:
        if dry_run:
            return await self.work(lambda run: self._plan(run, Direction.UP, to, 0))
        return await self.work(lambda run: self._up(run, to), events)

    async def _take_back(self, to: str | None, steps: int, *, dry_run: bool, events: Events | None) -> Report:
        if dry_run:
            return await self.work(lambda run: self._plan(run, Direction.DOWN, to, steps))
        return await self.work(lambda run: self._down(run, to, steps), events)

    async def check(self) -> list[str]:
        return await self.work(self._check)

    async def repair(self, *, revert: bool = False, accept_edits: bool = False, events: Events | None = None) -> Report:
        return await self.work(lambda run: self._repair(run, revert=revert, accept_edits=accept_edits), events)

    async def new(self, message: str, *, autogenerate: bool = True) -> Path:
        if not any(each.isalnum() for each in message):
            raise MigrationError("say in a few words what the migration does, such as 'create users'")
        return await self.work(lambda run: self._new(run, message, autogenerate=autogenerate))

    async def work(self, do: Callable[[Run], R], events: Events | None = None) -> R:
        """Do it in a thread. A cancellation ends the statement at hand, which is undone, and is raised then."""
        interrupt = Interrupt()
        loop = asyncio.get_running_loop()
        async with connected(self._manager, interrupt, wait=self._wait) as engine:
            path = Path(self._manager.path) if isinstance(self._manager, SQLiteConnectionManager) else None
            run = Run(self.connection, engine, self._metadata, self._wait, interrupt, path)
            if events is not None and (started := events.started) is not None:
                run.started = lambda name: _call(loop, started, name)
            if events is not None and (finished := events.finished) is not None:
                run.finished = lambda name, seconds: _call(loop, finished, name, seconds)
            task = asyncio.ensure_future(asyncio.to_thread(self._do, do, run))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                interrupt.set()
                await asyncio.wait([task])
                task.exception()
                raise

    def _do(self, do: Callable[[Run], R], run: Run) -> R:
        with ours(self.connection):
            return do(run)

    def _metadata(self, connection: sa.Connection) -> sa.MetaData:
        return describe(self._host, self._manager, owners(connection))

    def _directory(self) -> ScriptDirectory:
        return directory_of(self._config(None))

    def _config(self, run: Run | None) -> Config:
        return alembic_config(self.connection, self.directory, {RUN: run})

    def _known(self, connection: sa.Connection) -> list[Revision]:
        directory = self._directory()
        heads = MigrationContext.configure(connection).get_current_heads()
        return known(directory, load(directory), heads, ledger.read(connection))

    def _read(self, run: Run) -> list[Revision]:
        with run.engine.connect() as connection:
            return self._known(connection)

    def _status(self, run: Run) -> list[Status]:
        with run.engine.connect() as connection:
            revisions = self._known(connection)
            said = announced(connection, run.path)
        return [self._one(each, said) for each in revisions]

    def _one(self, revision: Revision, said: str | None) -> Status:
        entry, state = revision.entry, revision.state
        # What it does shows only when it is committed, unless it has left its transaction.
        direction = Direction.DOWN if state == "applied" else Direction.UP
        if said is not None and (state == "interrupted" or said == announcement(revision.id, direction)):
            state = "running"
        if entry is None:
            return Status(self.connection, revision.name, state)
        detail = "" if entry.complete else f"{entry.done} statements are done"
        if entry.error:
            detail = f"{detail}: {entry.error}"
        return Status(self.connection, revision.name, state, entry.finished_at, entry.duration, detail)

    def _up(self, run: Run, to: str | None) -> Report:
        revisions = self._read(run)
        # What is missing may be a newer version's, of which this one is restarted beside it.
        if all(each.state in ("applied", "missing") for each in revisions) and to is None:
            return Report(self.connection)  # the usual start of an application: a look, and no lock
        refuse_heads(self.connection, self._directory())
        target = "heads" if to is None else named(revisions, to).id
        self._alembic(run, lambda script, heads: script._upgrade_revs(target, heads))  # noqa: SLF001 - as its command does
        return self._report(run)

    def _down(self, run: Run, to: str | None, steps: int) -> Report:
        def revs(script: ScriptDirectory, heads: Any) -> Any:
            chosen = self._behind(run, to, steps)
            if not chosen:
                return []
            target = chosen[-1].script.down_revision if chosen[-1].script is not None else None
            return script._downgrade_revs(target if isinstance(target, str) else "base", heads)  # noqa: SLF001

        self._alembic(run, revs)
        return self._report(run)

    def _behind(self, run: Run, to: str | None, steps: int) -> list[Revision]:
        """What is to be taken back, the last first."""
        revisions = self._read(run)
        refuse_unsound(self.connection, revisions)
        applied = [each for each in revisions if each.applied]
        if to == "base":
            steps = len(applied)
        elif to is not None:
            place = revisions.index(named(revisions, to))
            steps = sum(each.applied for each in revisions[place + 1 :])
        return applied[::-1][:steps]

    def _repair(self, run: Run, *, revert: bool, accept_edits: bool) -> Report:
        accepted: list[str] = []
        for each in self._read(run):
            if each.state == "edited" and accept_edits:
                self._accept(run, each)
                accepted.append(each.name)
            elif each.entry is not None and not each.entry.complete:
                if each.script is None:
                    raise MigrationError(f"{self.connection}: the file of {each.name} is gone: restore it to go on")
                if revert and each.entry.direction is Direction.UP:
                    with self._exclusively(run):
                        run.revert(each.script)
                else:
                    run.resume = each.id
                    self._finish(run, each.script, each.entry)
        return replace(self._report(run), accepted=tuple(accepted))

    def _finish(self, run: Run, script: Script, entry: Entry) -> None:
        before = script.down_revision
        if entry.direction is Direction.UP:
            self._alembic(run, lambda directory, heads: directory._upgrade_revs(script.revision, heads))  # noqa: SLF001
        else:
            target = before if isinstance(before, str) else "base"
            self._alembic(run, lambda directory, heads: directory._downgrade_revs(target, heads))  # noqa: SLF001

    def _accept(self, run: Run, revision: Revision) -> None:
        assert revision.entry is not None  # noqa: S101 - what is edited was applied
        assert revision.script is not None  # noqa: S101
        entry = revision.entry.altered(checksum=checksum_of(revision.script))
        with run.writing() as connection, connection.begin():
            connection.execute(ledger.put(connection.dialect, revision.id, entry))

    def _new(self, run: Run, message: str, *, autogenerate: bool) -> Path:
        if autogenerate:
            refuse_unsound(self.connection, self._read(run))
        refuse_heads(self.connection, self._directory())
        with self._exclusively(run):
            made = command.revision(self._config(run), message, autogenerate=autogenerate)
        assert isinstance(made, Script)  # noqa: S101 - one is made at a time
        return Path(made.path)

    def _check(self, run: Run) -> list[str]:
        statuses = self._status(run)
        found = [
            f"{self.connection}: {each.name} is {each.state}"
            for each in statuses
            if each.state not in ("applied", "running")
        ]
        if found or any(each.state == "running" for each in statuses):
            return found  # the models are compared with what is there when it is through
        config = self._config(run)
        directory = directory_of(config)
        arguments = dict.fromkeys(("message", "branch_label", "version_path", "rev_id", "depends_on"))
        revising = RevisionContext(
            config, directory, {**arguments, "autogenerate": True, "sql": False, "head": "head", "splice": False}
        )

        def compare(heads: Any, context: MigrationContext) -> list[Any]:
            revising.run_autogenerate(heads, context)
            return []

        with self._exclusively(run), EnvironmentContext(config, directory, fn=compare, revision_context=revising):
            directory.run_env()
        operations = revising.generated_revisions[-1].upgrade_ops
        assert operations is not None  # noqa: S101 - Alembic has made them
        return [f"{self.connection}: {each}: `manystore migrate new` writes it" for each in words(operations)]

    def _plan(self, run: Run, direction: Direction, to: str | None, steps: int) -> Report:
        revisions = self._read(run)
        refuse_unsound(self.connection, revisions)
        if direction is Direction.UP:
            refuse_heads(self.connection, self._directory())
            last = len(revisions) if to is None else revisions.index(named(revisions, to)) + 1
            chosen = [each for each in revisions[:last] if each.state == "pending"]
        else:
            chosen = self._behind(run, to, steps)
        with self._exclusively(run):
            plan = statements_of(run.engine, [each.script for each in chosen if each.script is not None], direction)
        return Report(self.connection, plan=tuple(plan))

    def _alembic(self, run: Run, revs: Callable[[ScriptDirectory, Any], Any]) -> None:
        config = self._config(run)
        directory = directory_of(config)
        with (
            self._exclusively(run),
            EnvironmentContext(config, directory, fn=lambda heads, _: revs(directory, heads)),
        ):
            directory.run_env()

    @contextmanager
    def _exclusively(self, run: Run) -> Iterator[None]:
        deadline = time.monotonic() + run.wait
        while not _ALEMBIC.acquire(timeout=0.05):
            run.interrupt.wait(deadline, f"another migration of this process has been running for {run.wait:g} s")
        try:
            yield
        finally:
            _ALEMBIC.release()

    def _report(self, run: Run) -> Report:
        return Report(
            self.connection,
            tuple(name for name, direction in run.done if direction is Direction.UP),
            tuple(name for name, direction in run.done if direction is not Direction.UP),
        )


def _call(loop: asyncio.AbstractEventLoop, listener: Callable[..., None], *arguments: Any) -> None:
    loop.call_soon_threadsafe(listener, *arguments)
