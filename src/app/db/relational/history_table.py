"""The table of a class's states: column by column the collection that the repositories' history is in."""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import quoted_name

from ...core.errors import ConfigurationError
from ..backends._mapped_schema import JOURNAL_OF
from ..backends._postgres_dialect import CODE_POINTS
from .types import Document, UTCDateTime

_TEXT: Final[sa.types.TypeEngine[str]] = sa.TEXT().with_variant(postgresql.TEXT(collation=CODE_POINTS), "postgresql")
_INTEGER: Final[sa.types.TypeEngine[int]] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def add_history_table(mapper: Mapper[Any]) -> sa.Table:
    """Make it in the class's own metadata, so that `create_all` and migrations know it."""
    table: Any = mapper.local_table
    if len(mapper.primary_key) != 1:
        raise ConfigurationError(
            f"{mapper.class_.__name__} has a primary key of {len(mapper.primary_key)} columns, and a history has one "
            "to find states by: set __keeps_history__ = False, or give it a key of one column"
        )
    name = f"{table.name}_history"
    return sa.Table(
        _quoted(name),
        table.metadata,
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("record", _TEXT, nullable=False),
        sa.Column("version", _INTEGER, nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("document", Document()),
        # Named and spelt as the repositories have it, which compare.
        sa.Index(_quoted(f"{name}_record_index"), "record"),
        schema=table.schema,
        info={JOURNAL_OF: table.name},
    )


def history_table(mapper: Mapper[Any]) -> sa.Table:
    """The table of the states of a class that keeps them."""
    table: Any = mapper.base_mapper.local_table
    key = f"{table.name}_history" if table.schema is None else f"{table.schema}.{table.name}_history"
    found: sa.Table = table.metadata.tables[key]
    return found


def _quoted(name: str) -> str:
    return quoted_name(name, quote=True)
