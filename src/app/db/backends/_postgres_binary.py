"""Values in PostgreSQL's binary format, each behind its length: as COPY has them in a row, and an array its elements.

The formats are those of the types' receive functions (`int8recv`, `timestamptz_recv`, …) in the server's source.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.types.numeric import dump_decimal_to_numeric_binary

from ...core.errors import InvalidChangeError
from ..models.schema import Kind
from ..query.operations import Document
from ._postgres_json import encode_nested, stored_decimal
from ._sql_table import Table

Values = Sequence[Any]

_NULL: Final = struct.pack("!i", -1)
_MOMENT_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_DATE_ZERO = date(2000, 1, 1).toordinal()
_SECONDS = 86_400

_length = struct.Struct("!i").pack
_integer = struct.Struct("!iq").pack
_real = struct.Struct("!id").pack
_day = struct.Struct("!ii").pack


class Column(NamedTuple):
    """The values of one column, encoded."""

    oid: int
    values: list[bytes]
    has_null: bool


def encode_columns(table: Table, documents: Sequence[Document], expires_at: float | None) -> list[Column]:
    """The columns in the order of the table. InvalidChangeError names the field of a value that is not of its type."""
    schema = table.schema
    columns = []
    for name, field in schema.fields.items():
        values = [document.get(name) for document in documents]
        try:
            columns.append(_column(field.kind, values))
        except InvalidChangeError as error:
            raise InvalidChangeError(f"{schema.name}.{name}: {error}") from None
        except (AttributeError, TypeError, ValueError, ArithmeticError, struct.error, psycopg.Error) as error:
            raise InvalidChangeError(f"{schema.name}.{name}: a value is not of its type") from error
    if schema.open:
        known = schema.fields
        columns.append(
            _column(Kind.JSON, [{name: each[name] for name in each if name not in known} for each in documents])
        )
    if schema.expires:
        columns.append(_column(Kind.FLOAT, [expires_at] * len(documents)))
    return columns


def _column(kind: Kind, values: Values) -> Column:
    oid, encode = _TYPES[kind]
    return Column(oid, encode(values), None in values)


# A comprehension each and no call for each value: these take most of the time of a bulk write.


def _texts(values: Values) -> list[bytes]:
    return [_NULL if value is None else _length(len(data := value.encode())) + data for value in values]


def _nested(values: Values) -> list[bytes]:
    return [_NULL if value is None else _length(len(data := encode_nested(value).encode())) + data for value in values]


def _data(values: Values) -> list[bytes]:
    return [_NULL if value is None else _length(len(value)) + value for value in values]


def _integers(values: Values) -> list[bytes]:
    return [_NULL if value is None else _integer(8, value) for value in values]


def _reals(values: Values) -> list[bytes]:
    return [_NULL if value is None else _real(8, value) for value in values]


def _flags(values: Values) -> list[bytes]:
    return [_NULL if value is None else b"\0\0\0\1\1" if value else b"\0\0\0\1\0" for value in values]


def _moments(values: Values) -> list[bytes]:
    zero = _MOMENT_ZERO
    return [
        _NULL
        if value is None
        else _integer(8, ((past := value - zero).days * _SECONDS + past.seconds) * 1_000_000 + past.microseconds)
        for value in values
    ]


def _days(values: Values) -> list[bytes]:
    return [_NULL if value is None else _day(4, value.toordinal() - _DATE_ZERO) for value in values]


def _decimals(values: Values) -> list[bytes]:
    return _data([None if value is None else dump_decimal_to_numeric_binary(stored_decimal(value)) for value in values])


def _uuids(values: Values) -> list[bytes]:
    return _data([None if value is None else value.bytes for value in values])


# The oid of a type is part of an array's format, and the same on every server (pg_type.dat).
_TYPES: Mapping[Kind, tuple[int, Callable[[Values], list[bytes]]]] = {
    Kind.TEXT: (25, _texts),
    Kind.INTEGER: (20, _integers),
    Kind.FLOAT: (701, _reals),
    Kind.BOOLEAN: (16, _flags),
    Kind.DATETIME: (1184, _moments),
    Kind.DATE: (1082, _days),
    Kind.DECIMAL: (1700, _decimals),
    Kind.UUID: (2950, _uuids),
    Kind.BYTES: (17, _data),
    Kind.JSON: (114, _nested),
}
