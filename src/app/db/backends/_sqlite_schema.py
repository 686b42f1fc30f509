"""The table and its indexes, made on first use, or compared with what is there."""

import sqlite3
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...core.errors import ConfigurationError, MigrationError
from ...core.utils.logger import get_logger
from ._sql import EXPIRES, EXTRA
from ._sql_table import Table
from ._sqlite_dialect import SQLiteDialect

logger = get_logger(__name__)


class _Column(NamedTuple):
    """A column as the database has it."""

    kind: str
    not_null: bool
    in_key: bool


def ensure_table(connection: sqlite3.Connection, table: Table) -> None:
    """Create what is missing, in the caller's transaction, so that of many processes one does it.

    A new optional or defaulted field becomes a column with that default for the records that are there; any other
    difference raises MigrationError.
    """
    name = table.schema.name
    if name.lower().startswith("sqlite_"):
        raise ConfigurationError(f"{name!r} cannot name a collection: SQLite keeps such names for itself")
    present = {
        row[1]: _Column(row[2], bool(row[3]), bool(row[5]))
        for row in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))
    }
    if present:
        _alter(connection, table, present)
    else:
        connection.execute(table.ddl(sa.schema.CreateTable(table.table)))
        logger.info("created the table %s", name)
    _ensure_indexes(connection, table)


def _alter(connection: sqlite3.Connection, table: Table, present: dict[str, _Column]) -> None:
    name = table.schema.name
    for column in table.table.c:
        if column.name in present:
            _compare(name, column, present[column.name])
        else:
            connection.execute(table.add_column(column))
            logger.info("added the column %s.%s", name, column.name)
    unknown = [each for each in present if each not in table.table.c and each not in (EXTRA, EXPIRES)]
    if unknown:
        statements = "; ".join(f"ALTER TABLE {table.quote(name)} DROP COLUMN {table.quote(each)}" for each in unknown)
        raise MigrationError(
            f"the table {name} has columns that the model has not ({', '.join(unknown)}): "
            f"add them to the model, or run {statements}"
        )


def _compare(name: str, column: sa.Column[Any], present: _Column) -> None:
    kind = _kind(column)
    if present.kind != kind:
        raise MigrationError(
            f"the column {name}.{column.name} is {present.kind} and the model needs {kind}: "
            "write a migration that converts it"
        )
    if present.in_key != column.primary_key:
        raise MigrationError(f"the model and the table {name} have other keys: write a migration that rebuilds it")
    if present.not_null == column.nullable:
        allows, refuses = ("model", "table") if column.nullable else ("table", "model")
        raise MigrationError(
            f"the {allows} allows None in {name}.{column.name} and the {refuses} does not: "
            "write a migration that rebuilds the table"
        )


def _kind(column: sa.Column[Any]) -> str:
    return column.type.compile(SQLiteDialect.sqlalchemy)


def _ensure_indexes(connection: sqlite3.Connection, table: Table) -> None:
    """An index has the name that the repository gives it, unless another table has it: in SQLite names are for all."""
    name = table.schema.name
    owners = dict(connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index'"))
    for index in table.schema.indexes:
        own = table.index_name(index)
        longer = f"{name}_{own}"
        chosen = longer if owners.get(longer) == name or owners.get(own, name) != name else own
        _ensure_index(connection, name, chosen, table.index_ddl(index, chosen))
    if table.schema.expires:
        expires = f"{name}_expires"
        ddl = f"CREATE INDEX {table.quote(expires)} ON {table.quote(name)} ({table.quote(EXPIRES)})"
        _ensure_index(connection, name, expires, ddl)


def _ensure_index(connection: sqlite3.Connection, name: str, index: str, ddl: str) -> None:
    present = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?", (index,)).fetchone()
    if present is None:
        try:
            connection.execute(ddl)
        except sqlite3.IntegrityError as error:
            raise MigrationError(f"records of {name} break the unique index {index}: {error}") from error
        logger.info("created the index %s on %s", index, name)
    elif present[0] != ddl:
        raise MigrationError(
            f"the index {index} on {name} is another than the repository's: run DROP INDEX {index}, and the next use "
            "makes it anew"
        )
