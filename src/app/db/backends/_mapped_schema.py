"""The tables of mapped classes, made on first use as `Base.metadata.create_all` makes them, or compared with theirs.

They are never changed here: their columns and indexes belong to the application's migrations.
"""

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.engine.mock import MockConnection

from ...core.errors import MigrationError
from ...core.utils.logger import get_logger
from ._sql_mapped import MappedTable
from ._sql_table import migrated, refuse_missing
from .base import LEDGER

logger = get_logger(__name__)

JOURNAL_OF: Final = "journal_of"
"""In the `info` of a table: whose rows it keeps a journal of, which is made together with it."""


class Present(NamedTuple):
    """A column as the database has it."""

    not_null: bool
    in_key: bool


def needed_tables(table: MappedTable) -> dict[str, sa.Table]:
    """The table, with its journals, and those that its foreign keys lead to, by name."""
    found: dict[str, sa.Table] = {}
    others = table.given.metadata.tables.values()
    waiting = [table.given, *(each for each in others if each.info.get(JOURNAL_OF) == table.given.name)]
    while waiting:
        each = waiting.pop()
        if each.name not in found:
            found[each.name] = each
            waiting += [key.column.table for key in each.foreign_keys]
    return found


def creation(table: MappedTable, present: Collection[str], types: Collection[str] = ()) -> list[str]:
    """The statements that make what is missing of the tables, where these types are there."""
    statements: list[str] = []

    def take(element: Any, *parameters: Any) -> None:
        del parameters
        if element.__visit_name__ == "create_enum_type" and element.element.name in types:
            return
        statements.append(str(element.compile(dialect=table.dialect.sqlalchemy)).strip())

    missing = [each for name, each in needed_tables(table).items() if name not in present]
    for metadata in {id(each.metadata): each.metadata for each in missing}.values():
        own = [each for each in missing if each.metadata is metadata]
        metadata.create_all(cast("Any", MockConnection(table.dialect.sqlalchemy, take)), tables=own, checkfirst=False)
    return statements


def check_columns(table: MappedTable, present: Mapping[str, Present]) -> None:
    """MigrationError where the table cannot be the class's. What it has beyond is none of the class's business."""
    name = table.schema.name
    advice = "bring it up to date with a migration (`manystore migrate new` writes it), as sessions need it too"
    missing = [column.name for column in table.table.c if column.name not in present]
    if missing:
        raise MigrationError(f"the table {name} has no {', '.join(missing)}, which the class maps: {advice}")
    for column in table.table.c:
        found = present[column.name]
        if found.in_key != column.primary_key:
            raise MigrationError(f"the class and the table {name} have other keys: {advice}")
        if found.not_null == column.nullable and not column.primary_key:
            allows, refuses = ("class", "table") if column.nullable else ("table", "class")
            raise MigrationError(
                f"the {allows} allows None in {name}.{column.name} and the {refuses} does not: {advice}"
            )


def ensure_mapped_table(connection: sqlite3.Connection, table: MappedTable) -> None:
    """On SQLite, in the caller's transaction."""
    rows = connection.execute('SELECT name, "notnull", pk FROM pragma_table_xinfo(?)', (table.schema.name,)).fetchall()
    if rows:
        check_columns(table, {name: Present(bool(not_null), bool(place)) for name, not_null, place in rows})
        return
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if LEDGER in present:
        with migrated():
            refuse_missing(table, [f"created the table {table.schema.name}"])
    for statement in creation(table, present):
        connection.execute(statement)
    logger.info("created the table %s", table.schema.name)
