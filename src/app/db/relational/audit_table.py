"""The table of a class's audit log: column by column the collection in which repositories keep theirs."""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import quoted_name

from ..backends._mapped_schema import JOURNAL_OF
from ..backends._postgres_dialect import CODE_POINTS
from ..backends.base import CollectionSchema
from ..middleware._audit_rows import log_beside
from ..models.schema import Kind
from .types import Document, UTCDateTime

_TYPES: Final[Mapping[Kind, sa.types.TypeEngine[Any]]] = {
    Kind.TEXT: sa.TEXT().with_variant(postgresql.TEXT(collation=CODE_POINTS), "postgresql"),
    Kind.DATETIME: UTCDateTime(),
    Kind.JSON: Document(),
}


def add_audit_table(mapper: Mapper[Any]) -> None:
    """Make it in the class's own metadata, so that `create_all` and migrations know it."""
    table: Any = mapper.local_table
    log = _log_of(table)
    columns = [
        sa.Column(
            name,
            _TYPES[field.kind],
            primary_key=name == log.key,
            nullable=field.nullable or field.kind is Kind.JSON,
        )
        for name, field in log.fields.items()
    ]
    # Named and spelt as the repositories have it, which compare.
    indexes = [
        sa.Index(quoted_name(f"{log.name}_{'_'.join(each.fields)}_index", quote=True), *each.fields)
        for each in log.indexes
    ]
    sa.Table(quoted_name(log.name, quote=True), table.metadata, *columns, *indexes, info={JOURNAL_OF: table.name})


def audit_table(mapper: Mapper[Any]) -> sa.Table:
    """The table of the log of a class that keeps one."""
    table: Any = mapper.local_table
    found: sa.Table = table.metadata.tables[_log_of(table).name]
    return found


def _log_of(table: sa.Table) -> CollectionSchema:
    return log_beside(table.name, ordered=True)
