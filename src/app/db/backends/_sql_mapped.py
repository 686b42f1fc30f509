"""The table of a class that SQLAlchemy maps: what is in its columns is what a session writes and reads there.

The types' own processors make parameters of values and values of results. Comparisons keep to the definition, which a
column's own order may not: text is compared by code point, and an enumeration by its values and not by its labels.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, cast

import sqlalchemy as sa

from ...core.errors import UnsupportedOperationError
from ..models.mapped import MappedField, made_by
from ..models.schema import FieldSchema, Kind
from ..query.predicates import ALL, Op
from ._sql import Binder, Codec, Condition, compare
from ._sql_table import Table
from .base import Index

_FLOAT_OID: Final = 701
_NUMERIC_OID: Final = 1700


class MappedTable(Table):
    """Columns are known by their attributes, whatever they are called in the database."""

    def _codec(self, field: FieldSchema) -> tuple[Codec | None, Codec | None]:
        return _codec(_mapped(field), self.dialect.sessions)

    @property
    def given(self) -> sa.Table:
        """The table as the class maps it."""
        return cast("sa.Table", self.schema.table)

    def _described(self) -> sa.Table:
        columns = [
            sa.Column(
                each.column.name,
                each.column.type,
                key=name,
                primary_key=each.column.primary_key,
                autoincrement=False,
                # What the store makes is left out of the statement, however the store makes it.
                server_default=sa.FetchedValue() if each.generated else None,
                nullable=each.column.nullable,
            )
            for name, each in ((name, _mapped(field)) for name, field in self.schema.fields.items())
        ]
        return sa.Table(self.given.name, sa.MetaData(), *columns)

    def quote(self, identifier: str) -> str:
        return self.dialect.sqlalchemy.identifier_preparer.quote(identifier)

    def ordering(self, name: str) -> Condition:
        if self._field(name).kind is Kind.OTHER:
            raise UnsupportedOperationError(
                f"{self.schema.name}: cannot sort by {name!r}, whose values are only known to be equal or not"
            )
        return super().ordering(name)

    def indexed(self, name: str) -> Condition:
        return self.table.c[name]

    def made_by_sql(self, names: Collection[str], *, new: bool) -> dict[str, Any]:
        found = {}
        for name, each in self.schema.fields.items():
            column = _mapped(each).column
            default: Any = column.default if new else column.onupdate
            if name in names or default is None or default.is_scalar or default.is_callable:
                continue
            found[name] = default.next_value() if default.is_sequence else default.arg
        return found

    def changed_with(self, changes: Mapping[str, Any], increments: Collection[str]) -> Mapping[str, Any]:
        if not changes and not increments:
            return changes
        given = dict(changes)
        for name, each in self.schema.fields.items():
            field = _mapped(each)
            if field.column.onupdate is not None and name not in given and name not in increments:
                value = made_by(field.column.onupdate, given)
                if value is not None:
                    given[name] = field.accept(value)
        return given

    def _in_column(self, column: Condition, field: FieldSchema, op: Op, bind: Binder) -> Condition:
        mapped = _mapped(field)
        if mapped.kind is Kind.OTHER and op is not Op.EQ:
            raise UnsupportedOperationError(
                f"{self.schema.name}.{field.name}: of values of the type {mapped.column.type!r} it is known only "
                f"whether they are equal, and not {op.value}"
            )
        if op is Op.EQ:
            return compare(self._exact(column, mapped), op, bind.next(self._operand(field, op)))
        if op is Op.IN:
            encode = self._list_encoder(self._operand(field, op))
            listed = sa.type_coerce(self._exact(column, mapped), self.dialect.listed(mapped))
            return self.dialect.is_one_of(listed, bind.next(encode))
        return super()._in_column(column, field, op, bind)

    def _operand(self, field: FieldSchema, op: Op) -> Codec | None:
        mapped = _mapped(field)
        if mapped.members is not None:
            return mapped.members.get if op is Op.EQ else None
        if mapped.kind is Kind.OTHER:
            return _or_never(self.plain_encoders[field.name])
        if mapped.kind is Kind.DECIMAL:
            return self.dialect.decimal_operand(mapped.column.type, op) or self.plain_encoders[field.name]
        return self.plain_encoders[field.name]

    def _exact(self, column: Condition, field: MappedField) -> Condition:
        """As it is where an index can serve it; not where letters of either case are the same to the column."""
        return self._in_order(column, field) if self.dialect.folds(field.column.type) else column

    def _in_order(self, column: Condition, field: FieldSchema) -> Condition:
        members = _mapped(field).members
        if members is not None:
            column = self._value_of_label(sa.cast(column, sa.Text()), members)
        if field.kind is not Kind.TEXT:
            return column
        return self.dialect.by_code_point(column)

    def _value_of_label(self, stored: Condition, members: Mapping[Any, str]) -> Condition:
        literal = self.dialect.literal
        values = [(stored == _text(literal(label)), _text(literal(value))) for value, label in members.items()]
        is_text = all(isinstance(value, str) for value in members)
        return sa.cast(sa.case(*values), sa.Text() if is_text else sa.BigInteger())


def indexes_of(table: sa.Table, fields: Mapping[str, FieldSchema]) -> tuple[Index, ...]:
    """The unique indexes and constraints, but for those on expressions.

    A condition is left out: that of the library, on `deleted_at`, comes with the soft deletion.
    """
    names = {_mapped(field).column.name: name for name, field in fields.items()}
    found: dict[tuple[str, ...], Index] = {}
    given: Iterable[Any] = (*table.constraints, *table.indexes)
    for each in sorted(given, key=lambda each: str(each.name)):
        is_unique = isinstance(each, sa.UniqueConstraint) or (isinstance(each, sa.Index) and each.unique)
        if not is_unique or (isinstance(each, sa.Index) and len(each.expressions) != len(each.columns)):
            continue
        columns = tuple(column.name for column in each.columns)
        if all(name in names for name in columns):
            keys = tuple(names[name] for name in columns)
            found[keys] = Index(*keys, unique=True, name=str(each.name or ""), where=ALL)
    return tuple(found.values())


def _mapped(field: FieldSchema) -> MappedField:
    return cast("MappedField", field)


def _text(literal: str) -> Condition:
    return sa.literal_column(literal)


def _codec(field: MappedField, dialect: Any) -> tuple[Codec | None, Codec | None]:
    """How a session would write and read the value, and the way between its values and the documents'."""
    column_type = field.column.type
    own = column_type.dialect_impl(dialect)
    number = _FLOAT_OID if isinstance(column_type, sa.Float) else _NUMERIC_OID
    bind: Codec | None = own.bind_processor(dialect)
    result: Codec | None = own.result_processor(dialect, number)
    if field.members is not None and result is not None:
        result = _of_text(result)
    return _both(field.to_python, bind), _both(result, field.to_document)


def _both(first: Codec | None, second: Codec | None) -> Codec | None:
    if first is None or second is None:
        return first or second
    return lambda value: second(first(value))


def _of_text(read: Callable[[Any], Any]) -> Codec:
    """A type that the database's own driver does not know comes as bytes."""
    return lambda value: read(value.decode() if isinstance(value, bytes) else value)


def _or_never(encode: Codec | None) -> Codec | None:
    """What the type cannot be made of is equal to nothing that it has."""
    if encode is None:
        return None

    def encode_or_none(value: Any) -> Any:
        try:
            return encode(value)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError):
            return None

    return encode_or_none
