"""Names of constraints, so that a migration can say which one it drops."""

import hashlib
from typing import Any, Final

import sqlalchemy as sa


def _condition(constraint: Any, table: sa.Table) -> str:
    """A short digest of a check's condition, since a table may have several without names."""
    del table
    return hashlib.sha256(str(constraint.sqltext).encode()).hexdigest()[:8]


CONVENTION: Final[dict[str, Any]] = {
    "condition": _condition,
    "pk": "%(table_name)s_pkey",  # as PostgreSQL has it anyway
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "ck": "ck_%(table_name)s_%(condition)s",
}
