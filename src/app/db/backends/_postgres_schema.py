"""The table and its indexes, made on first use, or compared with what is there.

What is there is read first, and without a lock: most first uses find all of it, and need no right to create anything.
Whoever finds a difference takes the one lock of the schema, looks again, and changes it in a transaction.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa

from ...core.errors import AppError, ConfigurationError, MigrationError
from ...core.utils.logger import get_logger
from ..query.predicates import ALL
from ._mapped_schema import Present, check_columns, creation, needed_tables
from ._postgres_dialect import CODE_POINTS, SCHEMA_LOCK
from ._sql import EXPIRES, EXTRA
from ._sql_mapped import MappedTable
from ._sql_table import Table, check_unknown, is_same_ddl, migrated, refuse_missing
from .base import LEDGER

logger = get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

_LOCK_SECONDS = 5
"""For the lock on a table: who waits for one makes all others wait behind."""

_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(a.attnum = ANY(i.indkey), false),
           coalesce(o.collname IN ('C', 'POSIX', 'ucs_basic') OR o.collprovider = 'b' OR o.collname = 'default' AND
                (d.datlocprovider = 'b' OR d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX')), true),
           a.atthasdef OR a.attidentity <> ''
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    JOIN pg_database d ON d.datname = current_database()
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_collation o ON o.oid = a.attcollation
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE c.relname = %s AND c.relkind IN ('r', 'p')
    ORDER BY a.attnum
"""
INDEXES = """
    SELECT x.relname, c.relname, i.indisunique, i.indpred IS NOT NULL, obj_description(x.oid, 'pg_class'),
           ARRAY(SELECT a.attname::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY k(number, place)
                 LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY k.place)
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = x.relnamespace AND n.nspname = current_schema()
    WHERE x.relname = ANY(%s) OR c.relname = %s
"""
_HAS_LEDGER = """
    SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    WHERE c.relname = %s
"""
_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    WHERE c.relname = ANY(%s) AND c.relkind IN ('r', 'p')
"""
_ENUMERATIONS = """
    SELECT t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND n.nspname = current_schema()
    WHERE t.typtype = 'e'
"""


class _Column(NamedTuple):
    """A column as the database has it."""

    kind: str
    not_null: bool
    in_key: bool
    by_code_point: bool
    has_default: bool


class _Index(NamedTuple):
    """An index as the database has it; `made_by` is the statement that we made it with."""

    table: str
    unique: bool
    limited: bool
    made_by: str | None
    columns: list[str | None]


class _Wanted(NamedTuple):
    fields: tuple[str, ...]
    unique: bool
    limited: bool
    ddl: str


class _Work(NamedTuple):
    statement: str
    done: str
    """What to log of it."""


def known_indexes(table: Table) -> Mapping[str, tuple[str, ...]]:
    """The fields of each index by the name that it has unless another table has it."""
    names = {table.index_name(index): index.fields for index in table.schema.indexes}
    return {**names, f"{table.schema.name}_pkey": (table.schema.key,)}


async def complete_table(connection: Connection, table: Table) -> Mapping[str, tuple[str, ...]] | None:
    """As `ensure_table` where nothing is missing; None, and nothing is done, where something is."""
    work, fields = await _compare(connection, table)
    return None if work else fields


async def ensure_table(connection: Connection, table: Table) -> Mapping[str, tuple[str, ...]]:
    """Create what is missing; return the fields of each index by its name.

    A new optional or defaulted field becomes a column with that default for the records that are there; any other
    difference raises MigrationError. Where there is a ledger of migrations nothing is made.
    """
    if connection.pgconn.parameter_status(b"server_encoding") != b"UTF8":
        raise ConfigurationError("the database is not in UTF8, so it cannot keep every text: create it in UTF8")
    if await _rows(connection, _HAS_LEDGER, (LEDGER,)):
        with migrated():
            work, fields = await _compare(connection, table)
            refuse_missing(table, [each.done for each in work])
            return fields
    work, fields = await _compare(connection, table)
    if work:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
            work, fields = await _compare(connection, table)
            await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'".encode())
            for statement, done in work:
                await _change(connection, table, statement)
                logger.info("%s", done)
        if isinstance(table, MappedTable):  # the server named what the class does not
            _, fields = await _compare(connection, table)
    return fields


async def _compare(connection: Connection, table: Table) -> tuple[list[_Work], Mapping[str, tuple[str, ...]]]:
    """What is to be done, and the fields of each index by its name when it is."""
    name = table.schema.name
    columns = {row[0]: _Column(*row[1:]) for row in await _rows(connection, _COLUMNS, (name,))}
    if isinstance(table, MappedTable):
        return await _compare_mapped(connection, table, columns)
    names = [table.index_name(index) for index in table.schema.indexes]
    indexes = {row[0]: _Index(*row[1:]) for row in await _rows(connection, INDEXES, (names, name))}
    if columns:
        unknown = {n: found for n, found in columns.items() if n not in (*table.table.c.keys(), EXTRA, EXPIRES)}
        if unknown:
            has_ledger = bool(await _rows(connection, _HAS_LEDGER, (LEDGER,)))
            can_be_left_out = {each: found.has_default or not found.not_null for each, found in unknown.items()}
            check_unknown(table, can_be_left_out, has_ledger=has_ledger)
        work = _column_work(table, columns)
    else:
        create = table.ddl(sa.schema.CreateTable(table.table))
        work = [_Work(create, f"created the table {name}")]
    wanted = _wanted_indexes(table, indexes)
    work += _index_work(table, wanted, indexes)
    fields = {chosen: each.fields for chosen, each in wanted.items()}
    return work, {**fields, f"{name}_pkey": (table.schema.key,)}


async def _compare_mapped(
    connection: Connection, table: MappedTable, columns: Mapping[str, _Column]
) -> tuple[list[_Work], Mapping[str, tuple[str, ...]]]:
    name = table.schema.name
    if columns:
        check_columns(table, {each: Present(found.not_null, found.in_key) for each, found in columns.items()})
        indexes = {row[0]: _Index(*row[1:]) for row in await _rows(connection, INDEXES, ([], name))}
        return [], {each: table.fields_of(filter(None, found.columns)) for each, found in indexes.items()}
    present = [row[0] for row in await _rows(connection, _TABLES, ([*needed_tables(table)],))]
    types = [row[0] for row in await _rows(connection, _ENUMERATIONS, ())]
    work = [_Work(statement, f"created the table {name}") for statement in creation(table, present, types)]
    return work, {}


async def _change(connection: Connection, table: Table, statement: str) -> None:
    ours: AppError
    try:
        await connection.execute(statement.encode())
    except psycopg.errors.UniqueViolation as error:
        # Not `from` the driver's as it is: its text has the values that are there twice.
        ours = MigrationError(f"records of {table.schema.name} break a unique index: {error.diag.message_primary}")
    except psycopg.errors.InsufficientPrivilege as error:
        ours = MigrationError(
            f"the user of the connection may not change {table.schema.name} ({error.diag.message_primary}): "
            f"let one who may run {statement}"
        )
    except psycopg.errors.DuplicateTable as error:
        ours = MigrationError(f"{table.schema.name}: the name is taken: {error.diag.message_primary}")
    else:
        return
    raise ours


def _column_work(table: Table, present: Mapping[str, _Column]) -> list[_Work]:
    name = table.schema.name
    work = []
    for column in table.table.c:
        if column.name in present:
            _check_column(table, column, present[column.name])
        else:
            work.append(_Work(table.add_column(column), f"added the column {name}.{column.name}"))
    return work


def _check_column(table: Table, column: sa.Column[Any], present: _Column) -> None:
    name = table.schema.name
    kind = _kind(table, column)
    plain = kind.removesuffix(f' COLLATE "{CODE_POINTS}"').lower()
    if present.kind != plain:
        raise MigrationError(
            f"the column {name}.{column.name} is {present.kind} and the model needs {plain}: "
            "write a migration that converts it"
        )
    if not present.by_code_point:
        raise MigrationError(
            f"the column {name}.{column.name} does not order text by code point: run ALTER TABLE {table.quote(name)} "
            f"ALTER COLUMN {table.quote(column.name)} TYPE {kind}"
        )
    if present.in_key != column.primary_key:
        raise MigrationError(f"the model and the table {name} have other keys: write a migration that rebuilds it")
    if present.not_null == column.nullable:
        allows, refuses = ("model", "table") if column.nullable else ("table", "model")
        change = "DROP NOT NULL" if column.nullable else "SET NOT NULL"
        raise MigrationError(
            f"the {allows} allows None in {name}.{column.name} and the {refuses} does not: "
            f"run ALTER TABLE {table.quote(name)} ALTER COLUMN {table.quote(column.name)} {change}"
        )


def _kind(table: Table, column: sa.Column[Any]) -> str:
    return column.type.compile(table.dialect.sqlalchemy)


def _wanted_indexes(table: Table, present: Mapping[str, _Index]) -> dict[str, _Wanted]:
    """By the names they have or get: the repository's, unless another table has it, since names are for a schema."""
    name = table.schema.name
    result = {}
    for index in table.schema.indexes:
        own = table.index_name(index)
        longer = table.lengthened(own)
        taken = own in present and present[own].table != name
        chosen = longer if longer in present or taken else own
        ddl = table.index_ddl(index, chosen)
        result[chosen] = _Wanted(index.fields, index.unique, index.where != ALL, ddl)
    if table.schema.expires:
        result[table.lengthened("expires")] = _Wanted((EXPIRES,), False, False, table.expires_ddl())
    return result


def _index_work(table: Table, wanted: Mapping[str, _Wanted], present: Mapping[str, _Index]) -> list[_Work]:
    name = table.schema.name
    work = []
    for chosen, each in wanted.items():
        if chosen not in present:
            work.append(_Work(each.ddl, f"created the index {chosen} on {name}"))
            work.append(_Work(table.dialect.index_comment(chosen, each.ddl), f"described the index {chosen}"))
        elif not _is_same(present[chosen], each):
            raise MigrationError(
                f"the index {chosen} on {name} is another than the repository's: run DROP INDEX {table.quote(chosen)}, "
                "and the next use makes it anew"
            )
    return work


def _is_same(present: _Index, wanted: _Wanted) -> bool:
    """PostgreSQL spells a condition its own way, so ours is kept as a comment; a migration's index has none."""
    if present.made_by is not None and present.made_by.startswith("CREATE "):
        return is_same_ddl(present.made_by, wanted.ddl)
    form = (tuple(present.columns), present.unique, present.limited)
    return form == (wanted.fields, wanted.unique, wanted.limited)


async def _rows(connection: Connection, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
    return await (await cursor.execute(sql.encode(), parameters)).fetchall()
