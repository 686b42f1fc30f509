"""What PostgreSQL does its own way: types of columns, and comparisons inside JSON."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import PGCompiler
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from ..models.mapped import MappedField
from ..models.schema import FieldSchema, Kind
from ..query.predicates import Op
from ._json import decode_json, encode_json, scalar_text
from ._postgres_json import compared_decimal, encode_nested, encode_number, stored_decimal
from ._shapes import LARGE, TEXTS
from ._sql import Binder, Codec, Condition, Dialect, compare

CODE_POINTS: Final = "C"
"""The collation that orders UTF-8 by code point."""
SCHEMA_LOCK: Final = int.from_bytes(b"manystor", "big", signed=True)
"""The advisory lock of whoever makes tables, for the transaction."""


class _Literal(sa.types.TypeDecorator[Any]):
    """Values as SQL text, where there are no parameters: conditions of indexes."""

    def process_literal_param(self, value: Any, dialect: Any) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        return literal(value)


class _Text(_Literal):
    impl = sa.TEXT(collation=CODE_POINTS)
    cache_ok = True


class _Moment(_Literal):
    """Comes out without a time zone, in UTC: with one it would be the session's, which may have no year 1 or 9999."""

    impl = postgresql.TIMESTAMP(timezone=True, precision=3)
    cache_ok = True

    def column_expression(self, column: Any) -> Condition:
        return sa.func.timezone(sa.literal_column("'UTC'"), column)


class _Json(_Literal):
    """Comes out as text, whatever the connection makes of JSON."""

    impl = postgresql.JSON(none_as_null=True)
    cache_ok = True

    def bind_processor(self, dialect: Any) -> None:  # noqa: ARG002 - SQLAlchemy's signature
        return None

    def column_expression(self, column: Any) -> Condition:
        return sa.cast(column, sa.TEXT())


_TYPES: Mapping[Kind, sa.types.TypeEngine[Any]] = {
    Kind.TEXT: _Text(),
    Kind.INTEGER: sa.BIGINT(),
    Kind.FLOAT: postgresql.DOUBLE_PRECISION(),
    Kind.BOOLEAN: sa.BOOLEAN(),
    Kind.DATETIME: _Moment(),
    Kind.DATE: sa.DATE(),
    Kind.DECIMAL: sa.NUMERIC(),
    Kind.UUID: sa.UUID(),
    Kind.BYTES: postgresql.BYTEA(),
    Kind.JSON: _Json(),
}
_JSONB: Final = postgresql.JSONB()


class _Compiler(PGCompiler):
    def render_literal_value(self, value: Any, type_: Any) -> str:
        """SQLAlchemy's own writes bytes as a text, which a bytea reads as its escapes."""
        return literal(value) if isinstance(value, bytes) else str(super().render_literal_value(value, type_))  # type: ignore[no-untyped-call]


class _Dialect(PGDialect_psycopg2):
    statement_compiler = _Compiler


class PostgresDialect(Dialect):
    # Not psycopg's own of SQLAlchemy, which casts every parameter. The server's own parameters need no escapes.
    sqlalchemy = _Dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    sessions = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    types = _TYPES
    locks_rows = True
    has_decimals: ClassVar[bool] = True
    """Whether there are Decimals in JSON, which equal what is no Decimal and so need a comparison of their own."""

    def encode_json(self, value: Any) -> str:
        return encode_nested(value)

    def codec(self, field: FieldSchema) -> tuple[Codec | None, Codec | None]:
        return _CODECS.get(field.kind, (None, None))

    def operand(self, field: FieldSchema) -> Codec | None:
        return compared_decimal if field.kind is Kind.DECIMAL else super().operand(field)

    def contains_text(self, column: Condition, part: Condition) -> Condition:
        return sa.func.strpos(column, part) > 0

    def starts_with(self, column: Condition, start: Condition) -> Condition:
        return sa.func.starts_with(column, start)

    def is_one_of(self, column: Condition, values: sa.BindParameter[Any]) -> Condition:
        return column == sa.any_(sa.cast(values, postgresql.ARRAY(column.type)))

    def encode_list(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def append(self, column: Condition, item: Condition) -> Condition:
        return _longer(column, item)

    def merge(self, column: Condition, changes: Condition, appends: Condition) -> Condition:
        """Joined by key, in the order that the keys have, and then in the order of the new ones."""
        old, new, more = (_members(each, name) for each, name in ((column, "old"), (changes, "new"), (appends, "more")))
        key = sa.func.coalesce(old.c.key, new.c.key)
        added = _longer(old.c.value, more.c.value)
        value = sa.case((more.c.key.is_not(None), added), else_=sa.func.coalesce(new.c.value, old.c.value))
        joined = old.join(new, old.c.key == new.c.key, full=True)
        joined = joined.join(more, key == more.c.key, full=True)
        places = (old.c.place.asc().nulls_last(), new.c.place.asc().nulls_last(), more.c.place)
        members = postgresql.aggregate_order_by(value, *places)
        merged = sa.func.json_object_agg(sa.func.coalesce(key, more.c.key), members)
        return sa.func.coalesce(
            sa.select(merged).select_from(joined).scalar_subquery(), sa.literal_column("'{}'::json")
        )

    def literal(self, value: Any) -> str:
        return literal(value)

    def index_comment(self, name: str, ddl: str) -> str:
        quoted = self.sqlalchemy.identifier_preparer.quote_identifier(name)
        return f"COMMENT ON INDEX {quoted} IS {literal(ddl)}"

    def by_code_point(self, text: Condition) -> Condition:
        return sa.cast(text, sa.Text()).collate(CODE_POINTS)

    def folds(self, column_type: sa.types.TypeEngine[Any]) -> bool:  # noqa: ARG002 - equality is exact here
        return False

    def listed(self, field: MappedField) -> sa.types.TypeEngine[Any]:
        """Without a length, which would cut the elements, and wide enough for any integer."""
        plain: dict[Kind, sa.types.TypeEngine[Any]] = {Kind.TEXT: sa.Text(), Kind.INTEGER: sa.BigInteger()}
        return plain.get(field.kind, field.column.type)

    def decimal_operand(self, column_type: sa.types.TypeEngine[Any], op: Op) -> Codec | None:  # noqa: ARG002
        return compared_decimal

    def insert(self, table: sa.Table) -> Any:
        return postgresql.insert(table)

    @staticmethod
    def nested(column: Condition, path: tuple[str, ...]) -> Condition:
        """What stands at the path. By text, since `#>` would lead into lists."""
        value: Condition = sa.cast(column, _JSONB)
        for name in path:
            value = value.op("->", precedence=15, return_type=_JSONB)(sa.cast(sa.literal(name, sa.TEXT()), sa.TEXT()))
        return value

    def compare_nested(self, column: Condition, path: tuple[str, ...], op: Op, kind: str, bind: Binder) -> Condition:
        """Each comparison asks for the JSON type too. Where one does not apply it may be NULL, which is not true."""
        value = self.nested(column, path)
        if op is Op.EQ and kind == "null":
            return sa.func.coalesce(sa.func.jsonb_typeof(value), "null") == "null"
        place = bind.take()
        number = kind in ("number", LARGE) and self.has_decimals
        text = value.op("#>>", return_type=sa.TEXT())(sa.literal_column("'{}'"))
        match op:
            case Op.EQ:
                same = value == _as_json(bind.again(place, _json_of))
                return sa.or_(same, _decimal(value) == bind.again(place, compared_decimal)) if number else same
            case Op.IN:
                return _in_list(value, bind, place, numbers=kind != TEXTS and self.has_decimals)
            case Op.CONTAINS:
                among = sa.and_(_is(value, "array"), _has(value, number=number, bind=bind, place=place))
                part = sa.and_(_is(value, "string"), self.contains_text(text, bind.again(place)))
                return sa.or_(part, among) if kind == "text" else among
            case Op.STARTSWITH:
                return sa.and_(_is(value, "string"), self.starts_with(text, bind.again(place)))
        if kind in ("number", LARGE):
            return _in_order(value, op, bind, place)
        by_code_point = text.collate(CODE_POINTS)
        if kind == "text":
            return sa.and_(_is(value, "string"), compare(by_code_point, op, bind.again(place)))
        if kind == "boolean":  # false < true, in Python as in the alphabet
            return sa.and_(_is(value, "boolean"), compare(by_code_point, op, bind.again(place, _json_of)))
        # What JSON has no type for stands inside an object of one key, in texts that sort as the values do.
        return compare(_tagged(value, f"${kind}").collate(CODE_POINTS), op, bind.again(place, scalar_text))


def literal(value: Any) -> str:
    """A value of the schema as SQL text; a column or a cast gives it its type."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case bytes():
            text = f"\\x{value.hex()}"
        case datetime():
            text = value.isoformat()
        case float():
            text = repr(value)
        case date() | UUID() | int() | str() | Decimal():
            text = str(value)
        case list():
            raise TypeError("an index has no condition with a list")
        case _:
            raise TypeError(type(value).__name__)
    # As a literal of no type yet. E'' has the same meaning whatever standard_conforming_strings says.
    quoted = text.replace("'", "''")
    return f"'{quoted}'" if "\\" not in quoted else "E'" + quoted.replace("\\", "\\\\") + "'"


def _in_list(value: Condition, bind: Binder, place: int, *, numbers: bool) -> Condition:
    items = sa.cast(bind.again(place, _json_list), postgresql.ARRAY(_JSONB))
    found = sa.func.coalesce(value, sa.literal_column("'null'::jsonb")) == sa.any_(items)
    if not numbers:
        return found
    decimals: Condition = sa.cast(bind.again(place, _decimals), postgresql.ARRAY(sa.NUMERIC()))
    return sa.or_(found, _decimal(value) == sa.any_(decimals))


def _has(value: Condition, *, number: bool, bind: Binder, place: int) -> Condition:
    """Whether a list has an element."""
    found = value.op("@>", is_comparison=True)(_as_json(bind.again(place, _json_in_list)))
    if not number:
        return found
    items = sa.case((_is(value, "array"), value), else_=_EMPTY_LIST)
    each = sa.func.jsonb_array_elements(items).table_valued(sa.column("value", _JSONB)).alias("each")
    same = _decimal(each.c.value) == bind.again(place, compared_decimal)
    return sa.or_(found, sa.exists().select_from(each).where(same))


def _in_order(value: Condition, op: Op, bind: Binder, place: int) -> Condition:
    """A float is compared as one, with the nearest float on the right side of the operand."""
    number: Condition = sa.cast(value, sa.NUMERIC())
    real: Condition = sa.cast(value, postgresql.DOUBLE_PRECISION())
    nearest = bind.again(place, _NEAREST[op])
    as_float = real <= nearest if op in (Op.LT, Op.LE) else real >= nearest
    as_integer = compare(number, op, bind.again(place, compared_decimal))
    of_number = sa.case((sa.func.scale(number) > 0, as_float), else_=as_integer)
    return sa.or_(
        # What is no number cannot be cast to one, and only CASE has an order.
        sa.case((_is(value, "number"), of_number), else_=sa.false()),
        compare(_decimal(value), op, bind.again(place, compared_decimal)),
    )


def _nearest_below(value: Any, *, itself: bool) -> float:
    """The largest float below the number, or at it with `itself`."""
    try:
        nearest = float(value)
    except OverflowError:
        nearest = math.copysign(math.inf, value)
    return nearest if nearest < value or (itself and nearest == value) else math.nextafter(nearest, -math.inf)


def _nearest_above(value: Any, *, itself: bool) -> float:
    return -_nearest_below(-Decimal(value) if isinstance(value, Decimal) else -value, itself=itself)


_NEAREST: Mapping[Op, Codec] = {
    Op.LT: lambda value: _nearest_below(value, itself=False),
    Op.LE: lambda value: _nearest_below(value, itself=True),
    Op.GT: lambda value: _nearest_above(value, itself=False),
    Op.GE: lambda value: _nearest_above(value, itself=True),
}
_EMPTY_LIST: Final = sa.literal_column("'[]'::jsonb", _JSONB)


def _is(value: Condition, kind: str) -> Condition:
    return sa.func.jsonb_typeof(value) == sa.literal_column(f"'{kind}'")


def _as_json(value: Condition) -> Condition:
    return sa.cast(value, _JSONB)


def _longer(items: Condition, item: Condition) -> Condition:
    """A list with one item more, as text, so that the others stay as spelt. What is no list counts as empty."""
    stripped = sa.func.rtrim(sa.cast(items, sa.TEXT()), sa.literal_column("E' \\t\\r\\n'"))
    begun = sa.func.left(stripped, sa.literal_column("-1")).concat(sa.literal_column("','"))
    opened = sa.literal_column("'['", sa.TEXT())
    has_some = sa.func.json_array_length(items) > 0
    # What is no list has no length, and only CASE has an order.
    head = sa.case(
        (sa.func.json_typeof(items) == sa.literal_column("'array'"), sa.case((has_some, begun), else_=opened)),
        else_=opened,
    )
    return sa.cast(head.concat(sa.cast(item, sa.TEXT())).concat(sa.literal_column("']'")), postgresql.JSON())


def _members(document: Condition, name: str) -> Any:
    each = sa.func.json_each(sa.cast(document, postgresql.JSON()))
    columns = each.table_valued("key", sa.column("value", postgresql.JSON()), with_ordinality="place")
    return columns.alias(name).render_derived()


def _tagged(value: Condition, tag: str) -> Condition:
    return value.op("->>", precedence=15, return_type=sa.TEXT())(sa.literal_column(f"'{tag}'"))


def _decimal(value: Condition) -> Condition:
    """A Decimal inside JSON as a number; NULL for everything else. What has the tag is one, as callers' keys cannot."""
    return sa.cast(_tagged(value, "$decimal"), sa.NUMERIC())


def _json_of(value: Any) -> str | None:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return encode_number(value)
    return encode_json(value)


def _json_in_list(value: Any) -> str | None:
    item = _json_of(value)
    return None if item is None else f"[{item}]"


def _json_list(values: Sequence[Any]) -> list[str]:
    return [item for item in map(_json_of, values) if item is not None]


def _decimals(values: Sequence[Any]) -> list[Decimal]:
    return [compared_decimal(v) for v in values if isinstance(v, int | float | Decimal) and not isinstance(v, bool)]


def _decode_moment(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


_CODECS: Mapping[Kind, tuple[Codec | None, Codec | None]] = {
    Kind.DATETIME: (None, _decode_moment),
    Kind.DECIMAL: (stored_decimal, None),
    Kind.JSON: (encode_nested, decode_json),
}
