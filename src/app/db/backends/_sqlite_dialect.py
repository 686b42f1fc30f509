"""What SQLite does its own way: codecs of columns, comparisons inside JSON, and two functions of ours."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import sqlalchemy.dialects.sqlite
from pydantic_core import to_json

from ...core.errors import InvalidChangeError, UnsupportedOperationError
from ..models.schema import FieldSchema, Kind
from ..query.predicates import Op
from ._sql import Binder, Codec, Condition, Dialect, compare

MERGE: Final = "manystore_merge"
DECIMAL: Final = "manystore_decimal"
APPEND: Final[sa.ColumnElement[str]] = sa.literal_column("'$[#]'")


def register_functions(connection: sqlite3.Connection) -> None:
    """Functions live on a connection, not in the file, so the statements that use them run on ours alone."""
    connection.create_function(MERGE, 3, _merge, deterministic=True)
    connection.create_collation(DECIMAL, _compare_decimals)


def encode_extra(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidChangeError(f"a field that the model does not name must be plain JSON: {error}") from None


def _merge(document: str, changes: str, appends: str) -> str:
    """Replace top-level values, and add to lists. SQLite's own functions reach no key with a quote in it."""
    merged = json.loads(document)
    merged.update(json.loads(changes))
    for name, value in json.loads(appends).items():
        present = merged.get(name)
        merged[name] = [*(present if isinstance(present, list) else []), value]
    return json.dumps(merged, ensure_ascii=False)


def _compare_decimals(left: str, right: str) -> int:
    first, second = Decimal(left), Decimal(right)
    return (first > second) - (first < second)


def _encode_json(value: Any) -> str | None:
    return None if value is None else to_json(value, bytes_mode="base64", inf_nan_mode="constants").decode()


def _encode_datetime(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds")


def _encode_decimal(value: Any) -> str:
    return str(Decimal(value))


_CODECS: Mapping[Kind, tuple[Codec | None, Codec | None]] = {
    Kind.BOOLEAN: (None, bool),
    # One length for all years, so that text sorts as time.
    Kind.DATETIME: (_encode_datetime, datetime.fromisoformat),
    Kind.DATE: (date.isoformat, date.fromisoformat),
    Kind.DECIMAL: (_encode_decimal, Decimal),
    Kind.UUID: (str, UUID),
}

_JSON_TYPES = {
    "number": ("integer", "real"),
    "text": ("text",),
    "boolean": ("true", "false"),
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


class SQLiteDialect(Dialect):
    sqlalchemy = sa.dialects.sqlite.dialect(paramstyle="qmark")
    types = _TYPES

    def codec(self, field: FieldSchema) -> tuple[Codec | None, Codec | None]:
        if field.kind is Kind.JSON:
            return _encode_json, _json_decoder(field)
        if field.enum is not None:
            enum = field.enum
            return (lambda value: getattr(value, "value", value)), enum
        encode, decode = _CODECS.get(field.kind, (None, None))
        return (None if encode is None else _unless_none(encode)), decode

    def decode_extra(self, text: str) -> dict[str, Any]:
        return json.loads(text)  # type: ignore[no-any-return]

    def contains_text(self, column: Condition, part: Condition) -> Condition:
        return sa.func.instr(column, part) > 0

    def starts_with(self, column: Condition, start: Condition) -> Condition:
        # GLOB and LIKE would read the value as a pattern.
        return sa.func.instr(column, start) == 1

    def ordering(self, column: Condition, field: FieldSchema) -> Condition:
        return column.collate(DECIMAL) if field.kind is Kind.DECIMAL else column

    def compare_nested(self, column: Condition, path: tuple[str, ...], op: Op, kind: Any, bind: Binder) -> Condition:
        """Each comparison asks for the JSON type too: `= 1` alone would match true, and `> 0` text and arrays."""
        where = sa.literal("$" + "".join(f'."{name}"' for name in path))
        if op is Op.IN:
            return sa.or_(sa.false(), *[self.compare_nested(column, path, Op.EQ, each, bind) for each in kind])
        found = sa.func.json_type(column, where)
        if kind == "null" and op is Op.EQ:
            return sa.func.coalesce(found, "null") == "null"
        if op is Op.CONTAINS:
            return self._nested_contains(column, where, kind, bind)
        if kind not in _JSON_TYPES:
            raise UnsupportedOperationError(f"SQLite keeps no {kind} inside nested values, so none can be looked for")
        if kind == "boolean":
            # false < true, in Python as in the alphabet.
            return sa.and_(_is_one_of(found, _JSON_TYPES[kind]), compare(found, op, bind.next(_json_boolean)))
        value = sa.func.json_extract(column, where)
        parameter = bind.next(_json_number if kind == "number" else None)
        test = self.starts_with(value, parameter) if op is Op.STARTSWITH else compare(value, op, parameter)
        return sa.and_(_is_one_of(found, _JSON_TYPES[kind]), test)

    def _nested_contains(self, column: Condition, where: Condition, kind: str, bind: Binder) -> Condition:
        """Membership in a list; and, where text is looked for, a part of a text."""
        each = sa.func.json_each(column, where).table_valued("type", "atom").alias("each")
        is_list = sa.func.json_type(column, where) == "array"
        if kind == "null":
            return sa.and_(is_list, sa.exists().select_from(each).where(each.c.type == "null"))
        if kind not in _JSON_TYPES:
            raise UnsupportedOperationError(f"SQLite keeps no {kind} inside nested values, so none can be looked for")
        encode = {"boolean": _json_boolean, "number": _json_number}.get(kind)
        parameter = bind.next(encode)
        subject = each.c.type if kind == "boolean" else each.c.atom
        in_list = sa.exists().select_from(each).where(_is_one_of(each.c.type, _JSON_TYPES[kind]), subject == parameter)
        member = sa.and_(is_list, in_list)
        if kind != "text":
            return member
        is_text = sa.func.json_type(column, where) == "text"
        return sa.or_(member, sa.and_(is_text, self.contains_text(sa.func.json_extract(column, where), parameter)))


def _json_decoder(field: FieldSchema) -> Codec:
    validate = field.validator.validate_json
    return lambda text: validate(text, by_name=True, by_alias=True)


def _unless_none(encode: Codec) -> Codec:
    return lambda value: None if value is None else encode(value)


def _is_one_of(found: Condition, types: tuple[str, ...]) -> Condition:
    return sa.or_(*[found == each for each in types])


def _json_boolean(value: bool) -> str:
    return "true" if value else "false"


def _json_number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value
