"""The table beside Alembic's own that says when and how each revision was applied; written in its transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..ledger import LEDGER, Direction, Entry, State

TABLE: Final = sa.Table(
    LEDGER,
    sa.MetaData(),
    sa.Column("revision", sa.TEXT, primary_key=True),
    sa.Column("name", sa.TEXT, nullable=False),
    sa.Column("checksum", sa.TEXT, nullable=False),
    sa.Column("state", sa.TEXT, nullable=False),
    sa.Column("direction", sa.TEXT, nullable=False),
    # Statements that are done, of a revision that left its transaction.
    sa.Column("done", sa.INTEGER, nullable=False),
    sa.Column("started_at", sa.TEXT, nullable=False),
    sa.Column("finished_at", sa.TEXT),
    sa.Column("duration", sa.FLOAT, nullable=False),
    sa.Column("error", sa.TEXT),
)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the database has of revisions, by their ids."""

    heads: tuple[str, ...] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)


def create() -> sa.schema.CreateTable:
    return sa.schema.CreateTable(TABLE, if_not_exists=True)


def read(connection: sa.Connection) -> dict[str, Entry]:
    """All entries; none where there is no ledger."""
    if not sa.inspect(connection).has_table(LEDGER):
        return {}
    return {row["revision"]: _entry(row) for row in connection.execute(sa.select(TABLE)).mappings()}


def put(dialect: sa.Dialect, revision: str, entry: Entry) -> sa.sql.dml.Insert:
    """The statement that puts an entry in the place of the one of that revision."""
    insert: Any = (postgresql if dialect.name == "postgresql" else sqlite).insert(TABLE)
    values = {column.name: getattr(entry, column.name) for column in TABLE.c if column.name != "revision"}
    values |= {"state": str(entry.state), "direction": str(entry.direction)}
    statement = insert.values(revision=revision, **values)
    changed: sa.sql.dml.Insert = statement.on_conflict_do_update(index_elements=["revision"], set_=values)
    return changed


def remove(revision: str) -> sa.sql.dml.Delete:
    return sa.delete(TABLE).where(TABLE.c.revision == revision)


def _entry(row: sa.RowMapping) -> Entry:
    values: dict[str, Any] = {str(name): value for name, value in row.items() if name != "revision"}
    return Entry(**values | {"state": State(values["state"]), "direction": Direction(values["direction"])})
