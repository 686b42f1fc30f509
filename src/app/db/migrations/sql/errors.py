"""What goes wrong in a revision as ours, without what the driver's text may have of a record's values."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic.util import CommandError

from ....core.errors import AppError, MigrationError, StoreUnavailableError

AGAIN = "correct it, and run it again"


@contextmanager
def ours(connection: str) -> Iterator[None]:
    """Translate what Alembic and the driver raise outside of a revision."""
    try:
        yield
    except CommandError as error:
        raise MigrationError(f"{connection}: {_way_out(str(error))}") from error
    except (sa.exc.ProgrammingError, sa.exc.IntegrityError) as error:  # a role that may not create; a commit
        raise MigrationError(f"{connection}: {_reason(error)}") from None
    except sa.exc.DBAPIError as error:
        raise StoreUnavailableError(f"{connection}: {_reason(error)}") from None


def explained(place: str, error: Exception, path: str) -> AppError:
    """The error of a revision, which names it, and the line of its file."""
    if isinstance(error, AppError):
        return error if str(error).startswith(place) else MigrationError(f"{place}: {error}")
    place += _line(error, path)
    if isinstance(error, sa.exc.DBAPIError):
        ours = MigrationError(f"{place}: {_reason(error)}: {AGAIN}")
    elif isinstance(error, sa.exc.SQLAlchemyError | CommandError):
        ours = MigrationError(f"{place}: {error}: {AGAIN}")
    else:
        ours = MigrationError(f"{place}: the code of the migration failed ({type(error).__name__}): {AGAIN}")
    return ours


def _line(error: Exception, path: str) -> str:
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == path]
    return f", line {lines[-1]}" if lines else ""


def cause(error: Exception) -> Exception | None:
    """What may be shown behind ours: the driver's text has values."""
    return None if isinstance(error, sa.exc.DBAPIError) else error


def _reason(error: sa.exc.DBAPIError) -> str:
    """The server's first line, which names tables and constraints; its details have values."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None and diagnosis.message_primary:
        return str(diagnosis.message_primary)
    if hasattr(error.orig, "sqlite_errorname"):
        return str(error.orig)
    return f"the database failed ({type(error.orig).__name__})"


def _way_out(message: str) -> str:
    if "not up to date" in message:
        return "apply what is pending first, by `manystore migrate up`: the new one is the difference to that"
    if "Multiple head" in message or "multiple heads" in message:
        return f"{message}: two migrations follow the same one: give one of them the other as its `down_revision`"
    return message
