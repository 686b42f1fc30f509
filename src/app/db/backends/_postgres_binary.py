"""Values in PostgreSQL's binary format, each behind its length: as COPY has them in a row, and an array its elements.

The formats are those of the types' receive functions (`int8recv`, `timestamptz_recv`, …) in the server's source.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.types.numeric import dump_decimal_to_numeric_binary

from ...core.errors import InvalidChangeError
from ..models.schema import Kind
from ._sql import EXPIRES, EXTRA
from ._sql_rows import Row
from ._sql_table import Table

Encode = Callable[[Any], bytes]

_NULL: Final = struct.pack("!i", -1)
_MOMENT_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_DATE_ZERO = date(2000, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)

_length = struct.Struct("!i").pack
_integer = struct.Struct("!iq").pack
_real = struct.Struct("!id").pack
_day = struct.Struct("!ii").pack


class Column(NamedTuple):
    """The values of one column, encoded."""

    oid: int
    values: list[bytes]
    has_null: bool


def encode_columns(table: Table, rows: Sequence[Row]) -> list[Column]:
    """InvalidChangeError names the field of a value that is not of its type."""
    kinds = {name: field.kind for name, field in table.schema.fields.items()}
    kinds |= {EXTRA: Kind.JSON, EXPIRES: Kind.FLOAT}
    columns = []
    for column, values in zip(table.table.c, zip(*rows, strict=True), strict=True):
        oid, encode = _TYPES[kinds[column.name]]
        try:
            encoded = [_NULL if value is None else encode(value) for value in values]
        except (AttributeError, TypeError, ValueError, ArithmeticError, struct.error, psycopg.Error) as error:
            raise InvalidChangeError(f"{table.schema.name}.{column.name}: a value is not of its type") from error
        columns.append(Column(oid, encoded, None in values))
    return columns


def _data(value: bytes) -> bytes:
    return _length(len(value)) + value


def _text(value: str) -> bytes:
    data = value.encode()
    return _length(len(data)) + data


def _moment(value: datetime) -> bytes:
    return _integer(8, (value - _MOMENT_ZERO) // _MICROSECOND)


# The oid of a type is part of an array's format, and the same on every server (pg_type.dat).
_TYPES: Mapping[Kind, tuple[int, Encode]] = {
    Kind.TEXT: (25, _text),
    Kind.INTEGER: (20, lambda value: _integer(8, value)),
    Kind.FLOAT: (701, lambda value: _real(8, value)),
    Kind.BOOLEAN: (16, lambda value: b"\0\0\0\1\1" if value else b"\0\0\0\1\0"),
    Kind.DATETIME: (1184, _moment),
    Kind.DATE: (1082, lambda value: _day(4, value.toordinal() - _DATE_ZERO)),
    Kind.DECIMAL: (1700, lambda value: _data(bytes(dump_decimal_to_numeric_binary(value)))),
    Kind.UUID: (2950, lambda value: b"\0\0\0\x10" + value.bytes),
    Kind.BYTES: (17, _data),
    Kind.JSON: (114, _text),
}
