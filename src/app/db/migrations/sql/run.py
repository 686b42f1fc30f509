"""One run of Alembic's environment: under the lock, with each revision's entry written in its transaction."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep
from alembic.script import Script, ScriptDirectory

from ....core.errors import AppError, MigrationError
from ....core.utils.logger import get_logger
from ..ledger import Direction, Entry, State, now
from . import ledger
from .autogenerate import options
from .engine import WRITES, Interrupt
from .errors import cause, explained
from .lock import Announce, locked
from .revisions import ancestors, checksum_of, known, load, name_of, refuse_unsound
from .statements import Statements, tolerating

logger = get_logger(__name__)

Metadata = Callable[[sa.Connection], sa.MetaData]
_COMMON: Mapping[str, Any] = {"transaction_per_migration": True, "transactional_ddl": True}


@dataclass(slots=True)
class Run:
    connection: str
    engine: sa.Engine
    metadata: Metadata
    """Describes what the tables should be, given a connection that shows what is there."""
    wait: float
    interrupt: Interrupt = field(default_factory=Interrupt)
    path: Path | None = None
    """SQLite's file."""
    resume: str | None = None
    """The revision that is half done, and is to be finished."""
    started: Callable[[str], None] = lambda _: None
    finished: Callable[[str, float], None] = lambda _, __: None
    done: list[tuple[str, Direction]] = field(default_factory=list)
    """The names of what was applied or taken back."""
    _announce: Announce = lambda _: None
    _began: dict[str, tuple[str, float]] = field(default_factory=dict)
    _last: tuple[str, Direction, float] | None = None
    """What was done in the transaction that is not committed yet."""

    def perform(self, environment: EnvironmentContext) -> None:
        """What `env.py` does, for every command of Alembic's."""
        asked = environment.context_opts
        revising = asked.get("revision_context")
        if environment.is_offline_mode():
            self._write_sql(environment)
        elif revising is not None and not revising.command_args.get("autogenerate"):
            with sa.create_engine("sqlite://", poolclass=sa.pool.NullPool).connect() as nothing:
                environment.configure(nothing, **options(sa.MetaData(), from_nothing=False))
                environment.run_migrations()
        elif revising is not None or asked.get("dont_mutate"):
            self._look(environment)
        else:
            with self._locked() as announce, self.writing() as connection:
                self._announce = announce
                self._migrate(environment, connection)

    def _locked(self) -> AbstractContextManager[Announce]:
        return locked(self.engine, self.path, self.interrupt, wait=self.wait)

    def writing(self) -> sa.Connection:
        return self.engine.connect().execution_options(**{WRITES: True})

    def revert(self, script: Script) -> None:
        """Take back what of a revision was done outside of its transaction."""
        name = name_of(script)
        with self._locked(), self.writing() as connection:
            context = MigrationContext.configure(connection, opts=dict(_COMMON))
            with context.begin_transaction(_per_migration=True), Operations.context(context):
                with _explaining(self.connection, script), tolerating(context):
                    script.module.downgrade()
                connection.execute(ledger.remove(script.revision))
        self.done.append((name, Direction.DOWN))

    def _look(self, environment: EnvironmentContext) -> None:
        with self.engine.connect() as connection:
            metadata = self.metadata(connection)
            connection.rollback()
            environment.context_opts["dont_mutate"] = True  # Alembic would make its table
            from_nothing = not any(True for _ in environment.script.walk_revisions())
            environment.configure(
                connection,
                render_as_batch=connection.dialect.name == "sqlite",
                **_COMMON,
                **options(metadata, from_nothing=from_nothing),
            )
            environment.run_migrations()

    def _write_sql(self, environment: EnvironmentContext) -> None:
        """`--sql`: for somebody else to run, so nobody is asked anything."""

        def write(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Any) -> None:
            del heads, run_args
            if not step.is_stamp:
                script = environment.script.get_revision(step.up_revision_id or "")
                for statement in _entries(ctx, script, up=step.is_upgrade, started=now(), duration=0.0):
                    ctx.impl._exec(statement)  # noqa: SLF001 - what writes, instead of executing

        name = self.engine.dialect.name
        environment.configure(dialect_name=name, literal_binds=True, on_version_apply=write, **_COMMON)
        with environment.begin_transaction():
            environment.get_context().impl._exec(ledger.create())  # noqa: SLF001
            environment.run_migrations()

    def _migrate(self, environment: EnvironmentContext, connection: sa.Connection) -> None:
        script = environment.script
        self._begin(script, connection)
        steps = partial(self._steps, environment.context_opts["fn"])
        sqlite = connection.dialect.name == "sqlite"
        applied = partial(self._applied, script)
        environment.configure(connection, fn=steps, on_version_apply=applied, render_as_batch=sqlite, **_COMMON)
        with environment.begin_transaction():
            environment.run_migrations()

    def _begin(self, script: ScriptDirectory, connection: sa.Connection) -> None:
        """Make the ledger, refuse what is not sound, and enter what Alembic by itself has applied."""
        context = MigrationContext.configure(connection)
        with connection.begin():
            heads = context.get_current_heads()
            connection.execute(ledger.create())
            entries = ledger.read(connection)
            revisions = known(script, load(script), heads, entries)
            refuse_unsound(self.connection, [each for each in revisions if each.id != self.resume])
            for each in revisions:
                if each.applied and each.entry is None and each.script is not None:
                    entry = Entry(each.name, checksum_of(each.script), State.APPLIED, started_at=now())
                    connection.execute(ledger.put(connection.dialect, each.id, entry))

    def _steps(
        self, asked: Callable[..., Iterable[Any]], heads: tuple[str, ...], context: MigrationContext
    ) -> Iterator[Any]:
        for step in asked(heads, context):
            if isinstance(step, RevisionStep):
                step.migration_fn = partial(self._revision, context, step, step.migration_fn)
            yield step
            self._committed()

    def _revision(
        self, context: MigrationContext, step: RevisionStep, work: Callable[..., None], **options: Any
    ) -> None:
        """Carry out one revision, in its transaction."""
        script: Any = step.revision
        key, name = script.revision, name_of(script)
        direction = Direction.UP if step.is_upgrade else Direction.DOWN
        self._announce(announcement(key, direction))
        self.started(name)
        connection = context.connection
        assert connection is not None  # noqa: S101 - it is no dry run
        before = ledger.read(connection).get(key) if key == self.resume else None
        entry = before or Entry(name, checksum_of(script), State.RUNNING, direction, started_at=now())
        left = False
        start = time.monotonic()

        def mark(done: int) -> None:
            nonlocal left
            left = True
            assert context.connection is not None  # noqa: S101
            running = entry.altered(state=State.RUNNING, done=done, error=None, checksum=checksum_of(script))
            context.connection.execute(ledger.put(connection.dialect, key, running))

        killed = before is not None and before.state is State.RUNNING
        statements = Statements(context, mark, done=before.done if before else None, killed=killed)
        broken = _broken_references(connection)
        try:
            with _explaining(self.connection, script), statements.counted():
                work(**options)
            more = _broken_references(connection) - broken
            if more:
                raise MigrationError(
                    f"{self.connection}: {name}: rows of {', '.join(sorted(each[0] for each in more))} would refer to "
                    "rows that are not there: nothing of it was done"
                )
        except AppError as error:
            if left or before is not None:
                self._failed(context, key, str(error))
            raise
        self._began[key] = (entry.started_at, entry.duration + time.monotonic() - start)

    def _failed(self, context: MigrationContext, key: str, reason: str) -> None:
        """What it did outside of its transaction stays, and the entry says so."""
        connection = context.connection
        assert connection is not None  # noqa: S101
        if context._transaction is not None:  # noqa: SLF001 - the one that fails with the error that is on its way
            context._transaction.rollback()  # noqa: SLF001
        elif connection.in_transaction():
            connection.rollback()
        with connection.begin():
            entry = ledger.read(connection)[key]
            connection.execute(ledger.put(connection.dialect, key, entry.altered(state=State.FAILED, error=reason)))

    def _applied(
        self,
        directory: ScriptDirectory,
        ctx: MigrationContext,
        step: MigrationInfo,
        heads: Collection[Any],
        run_args: Any,
    ) -> None:
        """In the transaction of the step, which has changed Alembic's own table already."""
        del run_args
        connection = ctx.connection
        assert connection is not None  # noqa: S101
        if step.is_stamp:
            self._stamped(directory, connection, heads)
            return
        script: Any = directory.get_revision(step.up_revision_id or "")
        started, duration = self._began[script.revision]
        for statement in _entries(ctx, script, up=step.is_upgrade, started=started, duration=duration):
            connection.execute(statement)
        self._last = (name_of(script), Direction.UP if step.is_upgrade else Direction.DOWN, duration)

    def _committed(self) -> None:
        if self._last is None:  # a stamp
            return
        (name, direction, duration), self._last = self._last, None
        self.done.append((name, direction))
        self.finished(name, duration)
        logger.info("%s: %s is %s", self.connection, name, "applied" if direction is Direction.UP else "taken back")

    @staticmethod
    def _stamped(directory: ScriptDirectory, connection: sa.Connection, heads: Collection[Any]) -> None:
        """`alembic stamp` says what is applied, so the ledger says the same."""
        applied = ancestors(directory, sorted(heads))
        entries = ledger.read(connection)
        for each in load(directory):
            entry = entries.get(each.revision)
            if each.revision in applied and (entry is None or not entry.complete):
                new = Entry(name_of(each), checksum_of(each), State.APPLIED, started_at=now(), finished_at=now())
                connection.execute(ledger.put(connection.dialect, each.revision, new))
            elif each.revision not in applied and entry is not None:
                connection.execute(ledger.remove(each.revision))


def announcement(revision: str, direction: Direction) -> str:
    """What is said of a revision that is at work; a database cuts it behind 63 letters."""
    return f"manystore {direction} {revision}"


def _entries(
    ctx: MigrationContext, script: Any, *, up: bool, started: str, duration: float
) -> Iterator[sa.sql.dml.UpdateBase]:
    """What the ledger has of a revision when it is through."""
    if not up:
        yield ledger.remove(script.revision)
        return
    entry = Entry(
        name_of(script),
        checksum_of(script),
        State.APPLIED,
        started_at=started,
        finished_at=now(),
        duration=round(duration, 3),
    )
    yield ledger.put(ctx.dialect, script.revision, entry)


def _broken_references(connection: sa.Connection) -> set[tuple[Any, ...]]:
    """Rows of SQLite that refer to nothing, which a rebuilt table may leave, as nothing looks meanwhile."""
    if connection.dialect.name != "sqlite":
        return set()
    broken: set[tuple[Any, ...]] = set()
    for name in sa.inspect(connection).get_table_names():
        try:
            broken |= {
                tuple(row) for row in connection.exec_driver_sql("SELECT * FROM pragma_foreign_key_check(?)", (name,))
            }
        except sa.exc.OperationalError:  # it refers to what is not unique, which SQLite finds only now
            broken.add((name,))
    return broken


@contextmanager
def _explaining(connection: str, script: Script) -> Iterator[None]:
    """Errors of a revision, named by it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever an application's code raises
        raise explained(f"{connection}: {name_of(script)}", error, script.path) from cause(error)
