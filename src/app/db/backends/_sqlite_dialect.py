"""What SQLite does its own way: codecs of columns, comparisons inside JSON, and functions of ours."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, cast
from uuid import UUID

import sqlalchemy as sa
import sqlalchemy.dialects.sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ..models.mapped import MappedField
from ..models.schema import FieldSchema, Kind
from ..query.predicates import Op
from ._json import decode_json, encode_json, json_holds, scalar_text
from ._shapes import LARGE, TEXTS
from ._sql import Binder, Codec, Condition, Dialect, compare

MERGE: Final = "manystore_merge"
APPEND: Final = "manystore_append"
HOLDS: Final = "manystore_holds"
DECIMAL: Final = "manystore_decimal"


def register_functions(connection: sqlite3.Connection) -> None:
    """Functions live on a connection, not in the file, so the statements that use them run on ours alone."""
    connection.create_function(MERGE, 3, _merge, deterministic=True)
    connection.create_function(APPEND, 2, _append, deterministic=True)
    connection.create_function(HOLDS, 4, json_holds, deterministic=True)
    connection.create_collation(DECIMAL, _compare_decimals)


def _merge(document: str, changes: str, appends: str) -> str:
    """Replace top-level values, and add to lists. SQLite's own functions reach no key with a quote in it."""
    merged = json.loads(document)
    merged.update(json.loads(changes))
    for name, value in json.loads(appends).items():
        present = merged.get(name)
        merged[name] = [*(present if isinstance(present, list) else []), value]
    return json.dumps(merged, ensure_ascii=False, separators=(",", ":"))


def _append(items: str | None, item: str) -> str:
    return json.dumps([*json.loads(items or "[]"), json.loads(item)], ensure_ascii=False, separators=(",", ":"))


def _compare_decimals(left: str, right: str) -> int:
    first, second = Decimal(left), Decimal(right)
    return (first > second) - (first < second)


@lru_cache(maxsize=64)  # the same moment is in many records that are written together
def _encode_datetime(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds")


_CODECS: Mapping[Kind, tuple[Codec | None, Codec | None]] = {
    Kind.BOOLEAN: (None, bool),
    # One length for all years, so that text sorts as time.
    Kind.DATETIME: (_encode_datetime, datetime.fromisoformat),
    Kind.DATE: (date.isoformat, date.fromisoformat),
    Kind.DECIMAL: (lambda value: str(Decimal(value)), Decimal),
    Kind.UUID: (str, UUID),
    Kind.JSON: (encode_json, decode_json),
}

# The types that a STRICT table knows.
_TYPES: Mapping[Kind, sa.types.TypeEngine[Any]] = {
    Kind.TEXT: sa.TEXT(),
    Kind.INTEGER: sa.INTEGER(),
    Kind.FLOAT: sa.REAL(),
    Kind.BOOLEAN: sa.INTEGER(),
    Kind.DATETIME: sa.TEXT(),
    Kind.DATE: sa.TEXT(),
    Kind.DECIMAL: sa.TEXT(),
    Kind.UUID: sa.TEXT(),
    Kind.BYTES: sa.BLOB(),
    Kind.JSON: sa.TEXT(),
}


class _Compiler(SQLiteCompiler):
    def limit_clause(self, select: Any, **options: Any) -> str:
        """SQLAlchemy's own has an OFFSET 0 where there is none."""
        if select._offset_clause is not None:  # noqa: SLF001 - as the overridden method does
            return str(super().limit_clause(select, **options))  # type: ignore[no-untyped-call]
        return f"\n LIMIT {self.process(select._limit_clause, **options)}"  # noqa: SLF001

    def render_literal_value(self, value: Any, type_: Any) -> str:
        """SQLAlchemy's own writes bytes as a text, which equals none of them."""
        return f"X'{value.hex()}'" if isinstance(value, bytes) else str(super().render_literal_value(value, type_))


class _Dialect(SQLiteDialect_pysqlite):
    statement_compiler = _Compiler
    supports_statement_cache = False


class SQLiteDialect(Dialect):
    sqlalchemy = _Dialect(paramstyle="qmark")
    sessions = SQLiteDialect_pysqlite()
    types = _TYPES
    table_options: ClassVar[Mapping[str, Any]] = {"sqlite_strict": True}

    def codec(self, field: FieldSchema) -> tuple[Codec | None, Codec | None]:
        return _CODECS.get(field.kind, (None, None))

    def contains_text(self, column: Condition, part: Condition) -> Condition:
        return sa.func.instr(column, part) > 0

    def starts_with(self, column: Condition, start: Condition) -> Condition:
        # GLOB and LIKE would read the value as a pattern.
        return sa.func.instr(column, start) == 1

    def append(self, column: Condition, item: Condition) -> Condition:
        return cast("Condition", getattr(sa.func, APPEND)(column, item))

    def merge(self, column: Condition, changes: Condition, appends: Condition) -> Condition:
        return cast("Condition", getattr(sa.func, MERGE)(column, changes, appends))

    def literal(self, value: Any) -> str:
        match value:
            case None:
                return "NULL"
            case bool(number) | int(number) | float(number):
                return str(+number)
            case bytes(data):
                return f"X'{data.hex()}'"
            case text:
                return "'" + str(text).replace("'", "''") + "'"

    def by_code_point(self, text: Condition) -> Condition:
        return text.collate("BINARY")

    def folds(self, column_type: sa.types.TypeEngine[Any]) -> bool:
        own = column_type.dialect_impl(self.sessions)
        return isinstance(own, sa.String) and own.collation is not None

    def listed(self, field: MappedField) -> sa.types.TypeEngine[Any]:
        return self.types[field.kind]

    def decimal_operand(self, column_type: sa.types.TypeEngine[Any], op: Op) -> Codec | None:
        """SQLAlchemy's Numeric is a float here, of which what is read is rounded to some digits."""
        if not isinstance(column_type, sa.Numeric):
            return None
        digits = column_type.scale
        return partial(_on_grid, op, column_type._default_decimal_return_scale if digits is None else digits)  # noqa: SLF001

    def insert(self, table: sa.Table) -> sa.dialects.sqlite.Insert:
        return sa.dialects.sqlite.insert(table)

    def ordering(self, column: Condition, field: FieldSchema) -> Condition:
        return column.collate(DECIMAL) if field.kind is Kind.DECIMAL else column

    def is_one_of(self, column: Condition, values: sa.BindParameter[Any]) -> Condition:
        """One parameter for any number of values: SQLite allows neither 1,000 terms of OR nor 250,000 parameters."""
        return column.in_(sa.select(sa.func.json_each(values).table_valued("value").c.value))

    def encode_list(self, values: Sequence[Any]) -> str:
        return json.dumps(values, ensure_ascii=False)

    def compare_nested(self, column: Condition, path: tuple[str, ...], op: Op, kind: str, bind: Binder) -> Condition:
        """Each comparison asks for the JSON type too: `= 1` alone would match true, and `> 0` text and arrays.

        What SQLite's functions cannot decide exactly is left to the definition, called for each record.
        """
        where = "$" + "".join(f'."{name}"' for name in path)
        found = sa.func.json_type(column, where)
        value = sa.func.json_extract(column, where)
        if op is Op.EQ and kind == "null":
            return sa.func.coalesce(found, "null") == "null"
        place = bind.take()
        if kind == "text":
            text = bind.again(place)
            if op is Op.CONTAINS:
                is_part = sa.and_(found == "text", self.contains_text(value, text))
                return sa.or_(is_part, sa.and_(found == "array", _has_text(column, where, text)))
            test = self.starts_with(value, text) if op is Op.STARTSWITH else compare(value, op, text)
            return sa.and_(found == "text", test)
        if kind == TEXTS:
            return sa.and_(found == "text", self.is_one_of(value, bind.again(place, self.encode_list)))
        holds = getattr(sa.func, HOLDS)
        by_definition: Condition = holds(column, ".".join(path), op.value, bind.again(place, encode_json)) == 1
        if op in (Op.CONTAINS, Op.IN) or kind == LARGE:
            return by_definition
        if kind == "boolean":
            # false < true, in Python as in the alphabet.
            return sa.and_(_is_either(found, "true", "false"), compare(found, op, bind.again(place, _json_boolean)))
        if kind == "number":
            # Fractions are left out: what SQLite reads from their text is the nearest double on some platforms only.
            is_integer = sa.and_(found == "integer", compare(value, op, bind.again(place)))
            return sa.or_(is_integer, sa.and_(_is_either(found, "real", "object"), by_definition))
        # What JSON has no type for stands inside an object of one key.
        tag = f'{where}."${kind}"'
        stored = sa.func.json_extract(column, tag)
        return sa.and_(sa.func.json_type(column, tag) == "text", compare(stored, op, bind.again(place, scalar_text)))


def _on_grid(op: Op, digits: int, value: Any) -> float | None:
    """The float of the nearest decimal with so many digits that says the same as the number; None for nothing is."""
    given = Decimal(value)
    step = Decimal(1).scaleb(-digits)
    with localcontext() as context:
        context.prec = max(given.adjusted() + digits + 2, 28)
        nearest = given.quantize(step, ROUND_FLOOR if op in (Op.LE, Op.GT) else ROUND_CEILING)
    return float(nearest) if nearest == given or op is not Op.EQ else None


def _has_text(column: Condition, where: str, text: Condition) -> Condition:
    each = sa.func.json_each(column, where).table_valued("type", "atom").alias("each")
    return sa.exists().select_from(each).where(each.c.type == "text", each.c.atom == text)


def _is_either(found: Condition, first: str, second: str) -> Condition:
    return sa.or_(found == first, found == second)


def _json_boolean(value: bool) -> str:
    return "true" if value else "false"
