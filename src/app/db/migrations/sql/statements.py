"""What a revision executes, counted, so that one which left its transaction can be finished after a kill.

All else is atomic: a revision and its entry in the ledger are one transaction. Only an `autocommit_block`, which CREATE
INDEX CONCURRENTLY needs, commits in between. Before it begins, the entry says that the revision is running, and with
each statement how many are done; who finishes it leaves that many out.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from ....core.errors import MigrationError

_CONCURRENTLY = re.compile(
    r"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(\"(?:[^\"]|\"\")+\"|\w+)",
    re.IGNORECASE,
)
_READS = re.compile(r"\s*(?:SELECT|PRAGMA|SHOW|WITH|VALUES|EXPLAIN)\b", re.IGNORECASE)
_IS_VALID = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
_THERE_ALREADY = frozenset({"42P07", "42710", "42701"})
_GONE_ALREADY = frozenset({"42P01", "42704", "42703"})


@contextmanager
def tolerating(context: MigrationContext) -> Iterator[None]:
    """Let operations pass that take back what was not done."""
    impl: Any = context.impl
    execute = impl._exec  # noqa: SLF001 - what all operations of Alembic go through

    def tolerant(*args: Any, **options: Any) -> Any:
        connection = context.connection
        assert connection is not None  # noqa: S101 - a dry run takes nothing back
        outside = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        try:
            with nullcontext() if outside else connection.begin_nested():
                return execute(*args, **options)
        except sa.exc.DBAPIError as error:
            if is_gone_already(error):
                return None
            raise

    impl._exec = tolerant  # noqa: SLF001
    try:
        yield
    finally:
        del impl._exec  # noqa: SLF001


class Statements:
    """Those of one revision; `mark` writes down, on the context's connection, how many are done."""

    def __init__(
        self, context: MigrationContext, mark: Callable[[int], None], *, done: int | None = None, killed: bool = False
    ) -> None:
        """`done` were executed before it was interrupted, None if it was not. Where it was killed, perhaps the one
        behind them was too.
        """
        self._context = context
        self._mark = mark
        self._resumes = done is not None
        self._done = done or 0
        self._killed = killed
        self._place = 0
        self._outside = False
        self._own = False
        self._execute = context.impl._exec  # noqa: SLF001 - what all operations of Alembic go through
        self._block = context.autocommit_block

    @contextmanager
    def counted(self) -> Iterator[None]:
        context: Any = self._context
        context.impl._exec = self._counted  # noqa: SLF001
        context.autocommit_block = self._marked
        connection = context.connection
        sa.event.listen(connection, "before_cursor_execute", self._refuse_unseen)
        try:
            yield
        finally:
            sa.event.remove(connection, "before_cursor_execute", self._refuse_unseen)
            del context.impl._exec, context.autocommit_block  # noqa: SLF001

    @contextmanager
    def _marked(self) -> Iterator[None]:
        self._own = True
        self._mark(max(self._place, self._done))  # committed by the block, with what came before it
        self._own = False
        with self._block():
            self._outside = True
            try:
                yield
            finally:
                self._outside = False

    def _counted(self, construct: Any, *args: Any, **options: Any) -> Any:
        self._place += 1
        if self._place <= self._done:
            return None
        self._own = True
        try:
            if self._outside and self._resumes and self._place == self._done + 1:
                result = self._perhaps_again(construct, *args, **options)
            else:
                result = self._execute(construct, *args, **options)
            if self._outside:
                self._mark(self._place)
        finally:
            self._own = False
        return result

    def _perhaps_again(self, construct: Any, *args: Any, **options: Any) -> Any:
        connection = self._context.connection
        assert connection is not None  # noqa: S101 - a killed run was no dry one
        text = construct if isinstance(construct, str) else str(construct.compile(dialect=connection.dialect))
        found = _CONCURRENTLY.match(text)
        if found and connection.dialect.name == "postgresql":
            name = found[1]
            if connection.execute(_IS_VALID, {"name": name}).scalar_one_or_none() is False:
                # It waits for a server process that is still at it, and may drop what that has just completed.
                connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        try:
            return self._execute(construct, *args, **options)
        except sa.exc.DBAPIError as error:
            if self._killed and (is_there_already(error) or is_gone_already(error)):
                return None
            raise

    def _refuse_unseen(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        """Nobody counts what goes to the connection itself, so nobody can tell whether it was done."""
        if self._place < self._done and not self._own and not _READS.match(statement):
            raise MigrationError(
                "it was interrupted behind statements of op.get_bind(), which cannot be left out: do by hand what is "
                "missing, and say so with `alembic stamp`"
            )


def is_there_already(error: sa.exc.DBAPIError) -> bool:
    return _state(error) in _THERE_ALREADY or "already exists" in _sqlite(error) or "duplicate column" in _sqlite(error)


def is_gone_already(error: sa.exc.DBAPIError) -> bool:
    return _state(error) in _GONE_ALREADY or "no such" in _sqlite(error)


def _state(error: sa.exc.DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", "") or "")


def _sqlite(error: sa.exc.DBAPIError) -> str:
    return str(error.orig) if hasattr(error.orig, "sqlite_errorname") else ""
