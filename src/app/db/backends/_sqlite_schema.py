"""The table and its indexes, made on first use, or compared with what is there."""

import sqlite3

import sqlalchemy as sa

from ...core.errors import MigrationError
from ...core.utils.logger import get_logger
from ._sql import EXPIRES, EXTRA, Table

logger = get_logger(__name__)


def ensure_table(connection: sqlite3.Connection, table: Table) -> tuple[str, ...]:
    """Create what is missing, in the caller's transaction, so that of many processes one does it.

    A new optional or defaulted field becomes a column; any other difference raises MigrationError. Returns the columns
    that may be NULL although the model does not allow None there, because older rows had no such column.
    """
    name = table.schema.name
    present = {
        row[1]: (row[2], bool(row[3])) for row in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))
    }
    if present:
        late = _alter(connection, table, present)
    else:
        connection.execute(table.ddl(sa.schema.CreateTable(table.table)) + " STRICT")
        logger.info("created the table %s", name)
        late = ()
    _ensure_indexes(connection, table)
    return late


def _alter(connection: sqlite3.Connection, table: Table, present: dict[str, tuple[str, bool]]) -> tuple[str, ...]:
    name = table.schema.name
    quote = table.dialect.sqlalchemy.identifier_preparer.quote_identifier
    late = []
    for column in table.table.c:
        kind = column.type.compile(table.dialect.sqlalchemy)
        if column.name in present:
            stored_kind, not_null = present[column.name]
            if stored_kind != kind:
                raise MigrationError(
                    f"the column {name}.{column.name} is {stored_kind} and the model needs {kind}: "
                    "write a migration that converts it"
                )
            if column.nullable and not_null:
                raise MigrationError(
                    f"the column {name}.{column.name} is NOT NULL and the model allows None: "
                    "write a migration that rebuilds the table without it"
                )
            if not column.nullable and not not_null:
                late.append(column.name)
            continue
        _add_column(connection, table, column, kind)
        if not column.nullable and column.name not in (EXTRA, EXPIRES):
            late.append(column.name)
    unknown = [each for each in present if each not in table.table.c and each not in (EXTRA, EXPIRES)]
    if unknown:
        statements = "; ".join(f"ALTER TABLE {quote(name)} DROP COLUMN {quote(each)}" for each in unknown)
        raise MigrationError(
            f"the table {name} has columns that the model has not ({', '.join(unknown)}): "
            f"add them to the model, or run {statements}"
        )
    return tuple(late)


def _add_column(connection: sqlite3.Connection, table: Table, column: sa.Column[object], kind: str) -> None:
    name = table.schema.name
    quote = table.dialect.sqlalchemy.identifier_preparer.quote_identifier
    add = f"ALTER TABLE {quote(name)} ADD COLUMN {quote(column.name)} {kind}"
    if column.name == EXTRA:
        connection.execute(f"{add} NOT NULL DEFAULT '{{}}'")
    elif column.name == EXPIRES or not table.schema.fields[column.name].required:
        connection.execute(add)
        if column.name != EXPIRES and not column.nullable:
            _fill(connection, table, column.name)
    else:
        raise MigrationError(
            f"the table {name} has no column {column.name!r}, which the model requires: give the field a default, "
            f"or run {add} NOT NULL DEFAULT …, with the value that old records shall have"
        )
    logger.info("added the column %s.%s", name, column.name)


def _fill(connection: sqlite3.Connection, table: Table, column: str) -> None:
    """Give the rows that are there the default, so that filters see it as reads do."""
    quote = table.dialect.sqlalchemy.identifier_preparer.quote_identifier
    encode = table.encoders[column]
    default = table.schema.fields[column].default()
    value = default if encode is None else encode(default)
    connection.execute(f"UPDATE {quote(table.schema.name)} SET {quote(column)} = ?", (value,))  # noqa: S608 - quoted


def _ensure_indexes(connection: sqlite3.Connection, table: Table) -> None:
    name = table.schema.name
    wanted = {table.index_name(index): table.index_ddl(index) for index in table.schema.indexes}
    if table.schema.expires:
        quote = table.dialect.sqlalchemy.identifier_preparer.quote_identifier
        wanted[f"{name}_expires"] = f"CREATE INDEX {quote(f'{name}_expires')} ON {quote(name)} ({quote(EXPIRES)})"
    present = dict(
        connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ?", (name,))
    )
    for index, ddl in wanted.items():
        if index not in present:
            try:
                connection.execute(ddl)
            except sqlite3.IntegrityError as error:
                raise MigrationError(f"records of {name} break the unique index {index}: {error}") from error
            logger.info("created the index %s on %s", index, name)
        elif present[index] != ddl:
            raise MigrationError(f"the index {index} on {name} is another than the repository's: drop it first")
