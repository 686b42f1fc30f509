"""The server's refusals as ours. Its own texts may quote values, so the cause that is kept has the safe part alone."""

from collections.abc import Mapping

import psycopg
from psycopg import errors

from ...core.errors import (
    AppError,
    DuplicateRecordError,
    InvalidChangeError,
    MigrationError,
    StoreUnavailableError,
    TransactionError,
)

AGAIN = "another transaction was in its way, and nothing was changed: run it again from its beginning"


def translated(name: str, indexes: Mapping[str, tuple[str, ...]], error: psycopg.Error) -> AppError:
    """Ours for what a statement on the collection `name` did wrong; `indexes` has the fields by the index's name."""
    match error:
        case errors.UniqueViolation():
            return DuplicateRecordError(name, indexes.get(error.diag.constraint_name or "", ()))
        case errors.SerializationFailure() | errors.DeadlockDetected():
            return TransactionError(f"{name}: {AGAIN}")
        case errors.InFailedSqlTransaction():
            return TransactionError(
                f"{name}: an earlier statement of this transaction failed, so it can only be rolled back; put what may "
                "fail into `async with tx.savepoint():`"
            )
        case errors.UndefinedTable() | errors.UndefinedColumn():
            return MigrationError(f"{name}: the table was changed while it was in use; the next use looks at it again")
        case errors.InsufficientPrivilege():
            return StoreUnavailableError(f"{name}: PostgreSQL does not allow it to the user of this connection")
        case errors.ProgramLimitExceeded():
            return InvalidChangeError(f"{name}: a value is too large for PostgreSQL, or for an index on it")
        case psycopg.DataError() | psycopg.IntegrityError() | psycopg.ProgrammingError():
            return InvalidChangeError(f"{name}: PostgreSQL refused a value ({_kind(error)})")
    return StoreUnavailableError(f"{name}: PostgreSQL failed ({_kind(error)})")


def quiet(error: psycopg.Error) -> psycopg.Error:
    """The same error with nothing of a record in its text."""
    shown = error.diag.message_primary if isinstance(error, psycopg.IntegrityError) else None
    return type(error)(shown or _kind(error))


def _kind(error: psycopg.Error) -> str:
    return f"{type(error).__name__}, SQLSTATE {error.sqlstate}" if error.sqlstate else type(error).__name__
