"""Many rows at once: COPY in its binary format, which is encoded here by columns.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-BINARY-FORMAT
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import chain, repeat
from typing import Any, Final

import psycopg
from psycopg.types.numeric import dump_decimal_to_numeric_binary

from ...core.errors import InvalidChangeError
from ..models.schema import Kind
from ._sql import EXPIRES, EXTRA
from ._sql_rows import Row
from ._sql_table import Table

Connection = psycopg.AsyncConnection[Any]
Encode = Callable[[Any], bytes]

BULK: Final = 20
"""Rows from which on COPY takes less time than statements in a pipeline."""

_BLOCK = 5_000
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = struct.pack("!h", -1)
_NULL = struct.pack("!i", -1)
_MOMENT_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_DATE_ZERO = date(2000, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)

_length = struct.Struct("!i").pack
_integer = struct.Struct("!iq").pack
_real = struct.Struct("!id").pack
_day = struct.Struct("!ii").pack


def _of_length(data: bytes) -> bytes:
    return _length(len(data)) + data


def _text(value: str) -> bytes:
    return _of_length(value.encode())


def _moment(value: datetime) -> bytes:
    return _integer(8, (value - _MOMENT_ZERO) // _MICROSECOND)


_ENCODE: Mapping[Kind, Encode] = {
    Kind.TEXT: _text,
    Kind.INTEGER: lambda value: _integer(8, value),
    Kind.FLOAT: lambda value: _real(8, value),
    Kind.BOOLEAN: lambda value: b"\0\0\0\1\1" if value else b"\0\0\0\1\0",
    Kind.DATETIME: _moment,
    Kind.DATE: lambda value: _day(4, value.toordinal() - _DATE_ZERO),
    Kind.DECIMAL: lambda value: _of_length(bytes(dump_decimal_to_numeric_binary(value))),
    Kind.UUID: lambda value: b"\0\0\0\x10" + value.bytes,
    Kind.BYTES: _of_length,
    Kind.JSON: _text,
}


async def copy_in(connection: Connection, table: Table, rows: Sequence[Row], into: str | None = None) -> None:
    """Store all rows or none, in the table or in one like it."""
    columns = ", ".join(table.quote(column.name) for column in table.table.c)
    target = table.quote(into or table.schema.name)
    blocks = _blocks(table, rows)
    cursor = psycopg.AsyncCursor(connection)
    async with cursor.copy(f"COPY {target} ({columns}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
        for block in blocks:
            await copy.write(block)


def _blocks(table: Table, rows: Sequence[Row]) -> Iterator[bytes]:
    kinds = {**{name: field.kind for name, field in table.schema.fields.items()}, EXTRA: Kind.JSON, EXPIRES: Kind.FLOAT}
    encoders = [(column.name, _ENCODE[kinds[column.name]]) for column in table.table.c]
    start = struct.pack("!h", len(encoders))
    yield _HEADER
    for first in range(0, len(rows), _BLOCK):
        columns = [
            _column(table.schema.name, name, encode, values)
            for (name, encode), values in zip(encoders, zip(*rows[first : first + _BLOCK], strict=True), strict=True)
        ]
        yield b"".join(chain.from_iterable(zip(repeat(start), *columns, strict=False)))
    yield _TRAILER


def _column(collection: str, name: str, encode: Encode, values: Sequence[Any]) -> list[bytes]:
    try:
        return [_NULL if value is None else encode(value) for value in values]
    except (AttributeError, TypeError, ValueError, ArithmeticError, struct.error, psycopg.Error) as error:
        raise InvalidChangeError(f"{collection}.{name}: a value is not of its type") from error
