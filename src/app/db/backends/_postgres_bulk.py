"""Many rows in one statement: INSERT … SELECT from one array for each column, which takes ON CONFLICT as VALUES does.

COPY has no ON CONFLICT, and a table to copy into first would be made and dropped for every call.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy.dialects import postgresql

from ..query.operations import Document
from ._postgres_binary import Column, encode_columns
from ._postgres_write import run
from ._sql import Binder
from ._sql_backend import Write
from ._sql_rows import Row
from ._sql_statements import Statements
from ._sql_table import Table

BULK: Final = 10
"""Rows from which on it takes less time than statements in a pipeline."""


@dataclass(frozen=True, slots=True)
class Array:
    """One parameter: an array in its binary format. The statement casts it, and so says its type."""

    data: bytes


class _ArrayDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: Array) -> bytes:
        return obj.data


def arrays(table: Table, documents: Sequence[Document], expires_at: float | None) -> list[Array]:
    """One for each column, in the order of the table."""
    return [Array(_array(column)) for column in encode_columns(table, documents, expires_at)]


async def run_bulk(connection: psycopg.AsyncConnection[Any], write: Write) -> tuple[int, list[Row]]:
    """As `run`, with arrays among the parameters."""
    connection.adapters.register_dumper(Array, _ArrayDumper)
    return await run(connection, write)


class BulkStatements(Statements):
    """As `Statements`, with inserts that bind an array for each column."""

    def _insert(self, bind: Binder, names: tuple[str, ...] | None) -> Any:
        del names  # all columns
        table = self._table.table
        columns = [sa.cast(bind.next(), postgresql.ARRAY(column.type)) for column in table.c]
        given = sa.func.unnest(*columns).table_valued(*(column.name for column in table.c)).render_derived(name="given")
        return self._table.dialect.insert(table).from_select([*table.c], sa.select(*given.c))


def _array(column: Column) -> bytes:
    head = struct.pack("!iiiii", 1, column.has_null, column.oid, len(column.values), 1)
    return head + b"".join(column.values)
