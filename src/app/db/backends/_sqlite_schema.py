"""The table and its indexes, made on first use, or compared with what is there."""

import sqlite3
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...core.errors import ConfigurationError, MigrationError
from ...core.utils.logger import get_logger
from ._sql import EXPIRES, EXTRA
from ._sql_table import Table, check_unknown, is_same_ddl, migrated, refuse_missing
from ._sqlite_dialect import SQLiteDialect
from .base import LEDGER

logger = get_logger(__name__)


class _Column(NamedTuple):
    """A column as the database has it."""

    kind: str
    not_null: bool
    in_key: bool
    has_default: bool = False


def ensure_table(connection: sqlite3.Connection, table: Table) -> None:
    """Create what is missing, in the caller's transaction, so that of many processes one does it.

    A new optional or defaulted field becomes a column with that default for the records that are there; any other
    difference raises MigrationError. Where there is a ledger of migrations nothing is made.
    """
    name = table.schema.name
    if name.lower().startswith("sqlite_"):
        raise ConfigurationError(f"{name!r} cannot name a collection: SQLite keeps such names for itself")
    present = {
        row[1]: _Column(row[2], bool(row[3]), bool(row[5]), row[4] is not None)
        for row in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))
    }
    has_ledger = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (LEDGER,)).fetchone() is not None
    if has_ledger:
        with migrated():
            refuse_missing(table, [done for _, done in _work(connection, table, present, has_ledger=True)])
        return
    for statement, done in _work(connection, table, present, has_ledger=False):
        try:
            connection.execute(statement)
        except sqlite3.IntegrityError as error:
            raise MigrationError(f"records of {name} break a unique index: {error}") from error
        logger.info("%s", done)


def _work(
    connection: sqlite3.Connection, table: Table, present: dict[str, _Column], *, has_ledger: bool
) -> list[tuple[str, str]]:
    """Statements, and what to log of each."""
    name = table.schema.name
    work = []
    if present:
        work += _column_work(table, present, has_ledger=has_ledger)
    else:
        work.append((table.ddl(sa.schema.CreateTable(table.table)), f"created the table {name}"))
    return work + _index_work(connection, table)


def _column_work(table: Table, present: dict[str, _Column], *, has_ledger: bool) -> list[tuple[str, str]]:
    name = table.schema.name
    work = []
    for column in table.table.c:
        if column.name in present:
            _compare(name, column, present[column.name])
        else:
            work.append((table.add_column(column), f"added the column {name}.{column.name}"))
    unknown = {each: found for each, found in present.items() if each not in (*table.table.c.keys(), EXTRA, EXPIRES)}
    can_be_left_out = {each: found.has_default or not found.not_null for each, found in unknown.items()}
    check_unknown(table, can_be_left_out, has_ledger=has_ledger)
    return work


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


def _index_work(connection: sqlite3.Connection, table: Table) -> list[tuple[str, str]]:
    """An index has the name that the repository gives it, unless another table has it: in SQLite names are for all."""
    name = table.schema.name
    found = connection.execute("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index'").fetchall()
    owners = {index: owner for index, owner, _ in found}
    present = {index: sql for index, _, sql in found}
    wanted = {}
    for index in table.schema.indexes:
        own = table.index_name(index)
        longer = table.lengthened(own)
        chosen = longer if owners.get(longer) == name or owners.get(own, name) != name else own
        wanted[chosen] = table.index_ddl(index, chosen)
    if table.schema.expires:
        wanted[table.lengthened("expires")] = table.expires_ddl()
    for chosen, ddl in wanted.items():
        if chosen in present and not is_same_ddl(present[chosen], ddl):
            raise MigrationError(
                f"the index {chosen} on {name} is another than the repository's: run DROP INDEX {chosen}, and the next "
                "use makes it anew"
            )
    return [(ddl, f"created the index {chosen} on {name}") for chosen, ddl in wanted.items() if chosen not in present]
