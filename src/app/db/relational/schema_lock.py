"""Who makes tables waits for whoever else does: another process that starts, or a repository on first use."""

import sqlalchemy as sa

from ..backends._postgres_dialect import SCHEMA_LOCK
from .sqlite_engine import take_write_lock


def lock_schema(connection: sa.Connection) -> None:
    """For the transaction."""
    if connection.dialect.name == "sqlite":
        take_write_lock(connection)
    else:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
