"""What goes wrong in an engine of ours, as an error of ours that is SQLAlchemy's as well.

So `except DuplicateRecordError` and `except sqlalchemy.exc.IntegrityError` both catch a value that is taken. It is
raised where the statement is, which may be a flush or a commit. What has no meaning of its own here stays SQLAlchemy's,
without the values that PostgreSQL would put into its text.
"""

import re
import sqlite3
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm.exc import StaleDataError

from ...connections._sqlite_open import is_busy
from ...core.errors import (
    DeadlineExceededError,
    DuplicateRecordError,
    OutcomeUnknownError,
    PoolExhaustedError,
    RecordNotFoundError,
    StaleRecordError,
    StoreUnavailableError,
    TransactionError,
)

COMMITTING = "manystore_committing"
"""In the `info` of a connection while its COMMIT is under way."""


class _Plain(exc.DBAPIError):
    """SQLAlchemy's error with a text that is complete, and nothing of the statement's values."""

    def __init__(self, message: str) -> None:
        exc.StatementError.__init__(self, message, None, None, None, hide_parameters=True)
        self.connection_invalidated = False

    def __str__(self) -> str:
        return str(self.args[0])


class DuplicateRowError(DuplicateRecordError, _Plain, exc.IntegrityError):
    """A unique index refused the write; `fields` has its columns."""


class DatabaseUnavailableError(StoreUnavailableError, _Plain, exc.OperationalError):
    """The connection is gone. What the transaction did is undone."""


class DatabaseDeadlineError(DeadlineExceededError, _Plain, exc.OperationalError):
    """There was no answer, or no lock, in time. What the transaction did is undone."""


class CommitUnknownError(OutcomeUnknownError, _Plain, exc.OperationalError):
    """The connection was lost while it committed."""


class TransactionConflictError(TransactionError, _Plain, exc.OperationalError):
    """Another transaction was in the way: run this one again from its beginning."""


class StaleRowError(StaleRecordError, StaleDataError):
    """The row was changed by somebody else since it was read."""


class RowGoneError(RecordNotFoundError, StaleDataError):
    """The row was removed by somebody else since it was read."""


class EnginePoolExhaustedError(PoolExhaustedError, exc.TimeoutError):
    """No connection became free in time."""


def translate(context: ExceptionContext) -> BaseException | None:
    """SQLAlchemy's hook `handle_error`: another error in place of its own, or None."""
    error = context.original_exception
    if context.is_pre_ping:  # the pool makes another connection
        return None
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error)
    if getattr(error, "sqlstate", _NONE) is not _NONE:  # psycopg's, which may not be installed
        return _of_postgres(error, context)
    return None


_NONE = object()


def _of_sqlite(error: sqlite3.Error) -> BaseException | None:
    name = str(getattr(error, "sqlite_errorname", ""))
    if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
        columns = _COLUMN.findall(str(error))
        return DuplicateRowError(columns[0][0] if columns else "a table", [column for _, column in columns])
    if is_busy(error):
        return DatabaseDeadlineError(
            "another write kept the SQLite database locked for too long, and nothing was changed: run it again, or "
            "keep transactions short"
        )
    if name.startswith(_SQLITE_GONE):
        return DatabaseUnavailableError(f"the SQLite database failed: {error}")
    return None


_COLUMN = re.compile(r"([^\s.,:]+)\.([^\s.,]+)")
_SQLITE_GONE = (
    *("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_FULL"),
    *("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_PERM", "SQLITE_AUTH"),
)


def _of_postgres(error: Any, context: ExceptionContext) -> BaseException | None:
    import psycopg  # noqa: PLC0415 - there, since its error is

    fields, table = _unique_fields(error), error.diag.table_name
    _hush(error, context)
    connection = context.connection
    driver: Any = None if connection is None or connection.invalidated else connection.connection.driver_connection
    expired = bool(getattr(driver, "expired", False))
    if expired or context.is_disconnect:
        # A cancellation of one that expired may still be under way, and would hit the next statement on it.
        context.is_disconnect, context.invalidate_pool_on_disconnect = True, not expired
        told = isinstance(error, psycopg.errors.QueryCanceled)  # by the server itself, which has undone it
        committing = not told and connection is not None and bool(connection.info.get(COMMITTING))
        return _lost(committing=committing, late=expired)
    match error:
        case psycopg.errors.UniqueViolation():
            return DuplicateRowError(table or "a table", fields)
        case psycopg.errors.SerializationFailure() | psycopg.errors.DeadlockDetected():
            return TransactionConflictError(
                "another transaction was in its way, and nothing was changed: run it again from its beginning"
            )
    return None


def _lost(*, committing: bool, late: bool) -> BaseException:
    if committing:
        return CommitUnknownError(
            "the connection to PostgreSQL was lost at the commit: it may or may not have been applied"
        )
    if late:
        return DatabaseDeadlineError("PostgreSQL gave no answer in time, and the transaction is undone")
    return DatabaseUnavailableError("the connection to PostgreSQL was lost, and the transaction is undone")


def _unique_fields(error: Any) -> list[str]:
    found = _KEY.search(error.diag.message_detail or "")
    return found[1].split(", ") if found else []


_KEY = re.compile(r"\((.+?)\)=\(")  # in every language that the server may speak


def _hush(error: Any, context: ExceptionContext) -> None:
    """Take values out of the driver's error, which stays the cause, and out of SQLAlchemy's copy of its text."""
    import psycopg  # noqa: PLC0415 - there, since its error is

    if not isinstance(error, psycopg.IntegrityError | psycopg.DataError):
        return
    primary = error.diag.message_primary if isinstance(error, psycopg.IntegrityError) else None
    error.args = (primary or f"{type(error).__name__}, SQLSTATE {error.sqlstate}",)
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.args = (f"({type(error).__module__}.{type(error).__name__}) {error.args[0]}",)
