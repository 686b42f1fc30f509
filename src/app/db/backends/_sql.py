"""From operations to SQL, for every SQL store: SQLAlchemy describes and compiles, the driver runs.

Compiling costs some 200 µs, so a statement is compiled once for each shape of an operation (its fields, operators and
kinds of values) and then only bound. What differs between stores is in `Dialect`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect as SADialect
from sqlalchemy.sql.elements import ColumnElement

from ...core.errors import ConfigurationError, InvalidFilterError, UnsupportedOperationError, did_you_mean
from ..models.schema import FieldSchema, Kind
from ..models.values import storable
from ..query.operations import Order
from ..query.predicates import ALL, And, Compare, Not, Op, Or, Predicate
from ._names import check_identifier
from ._shapes import VALUE_KINDS, lower, shape, value_kind, without_lists
from .base import CollectionSchema, Index

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

Codec: TypeAlias = Callable[[Any], Any]
Condition: TypeAlias = ColumnElement[Any]

EXPIRES = "_expires_at"
EXTRA = "_extra"


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text, and for each parameter the place of its value in the operation, with its codec."""

    sql: str
    binds: tuple[tuple[int, Codec | None], ...]
    constants: tuple[Any, ...] = ()
    """Values that belong to the shape; their places follow those of the operation, counted from the end."""

    def parameters(self, values: list[Any]) -> tuple[Any, ...]:
        if self.constants:
            values = [*values, *self.constants]
        return tuple([values[i] if encode is None else encode(values[i]) for i, encode in self.binds])


class Dialect(ABC):
    """What one SQL store does its own way."""

    sqlalchemy: SADialect
    types: Mapping[Kind, sa.types.TypeEngine[Any]]

    @abstractmethod
    def codec(self, field: FieldSchema) -> tuple[Codec | None, Codec | None]:
        """How a value (never None) of the field goes in and comes out. None means: as it is."""

    @abstractmethod
    def compare_nested(self, column: Condition, path: tuple[str, ...], op: Op, kind: str, bind: "Binder") -> Condition:
        """A comparison inside a JSON column, true only for values of the same kind (one of `value_kind`)."""

    @abstractmethod
    def is_one_of(self, column: Condition, values: sa.BindParameter[Any]) -> Condition:
        """Whether the column equals an element of one parameter, which `encode_list` made."""

    @abstractmethod
    def encode_list(self, values: Sequence[Any]) -> Any:
        """The parameter of `is_one_of`."""

    @abstractmethod
    def contains_text(self, column: Condition, part: Condition) -> Condition: ...

    @abstractmethod
    def starts_with(self, column: Condition, start: Condition) -> Condition: ...

    def ordering(self, column: Condition, field: FieldSchema) -> Condition:  # noqa: ARG002 - for stores that need it
        """The expression that compares and sorts like the values of the column."""
        return column


class Binder:
    """Gives each value of an operation a parameter while the expression is built."""

    def __init__(self) -> None:
        self.binds: dict[str, tuple[int, Codec | None]] = {}
        self._next = 0

    def take(self) -> int:
        """The place of the next value, which the statement may need or not."""
        self._next += 1
        return self._next - 1

    def next(self, encode: Codec | None = None) -> sa.BindParameter[Any]:
        return self.again(self.take(), encode)

    def again(self, index: int, encode: Codec | None = None) -> sa.BindParameter[Any]:
        name = f"p{len(self.binds)}"
        self.binds[name] = (index, encode)
        return sa.bindparam(name, unique=False)


class LiteralBinder(Binder):
    """For DDL, which takes no parameters: values of the schema (never of a user) as literals."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__()
        self._values = values

    def again(self, index: int, encode: Codec | None = None) -> sa.BindParameter[Any]:
        value = self._values[index]
        return sa.bindparam(None, value if encode is None else encode(value), literal_execute=True)


class Table:
    """A collection as a table: columns, codecs, and the statements made for it so far."""

    def __init__(self, schema: CollectionSchema, dialect: Dialect) -> None:
        self.schema = schema
        self.dialect = dialect
        self.encoders: dict[str, Codec | None] = {}
        self.decoders: dict[str, Codec | None] = {}
        for name, field in schema.fields.items():
            encode, self.decoders[name] = dialect.codec(field)
            self.encoders[name] = None if encode is None else _unless_none(encode)
        if len({name.lower() for name in schema.fields}) < len(schema.fields):
            raise ConfigurationError(f"{schema.name}: two fields have names that differ only by case")
        columns = [
            sa.Column(
                check_identifier(name),
                dialect.types[field.kind],
                primary_key=name == schema.key,
                nullable=field.nullable or field.kind is Kind.JSON,
            )
            for name, field in schema.fields.items()
        ]
        if schema.open:
            columns.append(sa.Column(EXTRA, dialect.types[Kind.TEXT], nullable=False))
        if schema.expires:
            columns.append(sa.Column(EXPIRES, dialect.types[Kind.FLOAT], nullable=True))
        self.table = sa.Table(check_identifier(schema.name), sa.MetaData(), *columns, quote=True)
        self._statements: dict[Hashable, Statement] = {}

    @cached_property
    def columns(self) -> tuple[sa.Column[Any], ...]:
        """The columns of a document, in the order of `schema.fields`, and the fields beyond the model last."""
        names = [*self.schema.fields, *([EXTRA] if self.schema.open else [])]
        return tuple(self.table.c[name] for name in names)

    def statement(self, key: Hashable, build: Callable[[Binder], sa.ClauseElement]) -> Statement:
        """Return the statement for a shape, compiled on first use. `build` binds the values in their order."""
        statement = self._statements.get(key)
        if statement is None:
            binder = Binder()
            compiled = cast("SQLCompiler", build(binder).compile(dialect=self.dialect.sqlalchemy))
            names = compiled.positiontup or ()
            fixed = [name for name in dict.fromkeys(names) if name not in binder.binds]
            places = {**binder.binds, **{name: (i - len(fixed), None) for i, name in enumerate(fixed)}}
            constants = tuple(compiled.params[name] for name in fixed)
            statement = Statement(str(compiled), tuple(places[name] for name in names), constants)
            if len(self._statements) >= _MOST_STATEMENTS:
                self._statements.clear()
            self._statements[key] = statement
        return statement

    def quote(self, identifier: str) -> str:
        return self.dialect.sqlalchemy.identifier_preparer.quote_identifier(identifier)

    def ddl(self, element: sa.ClauseElement) -> str:
        return str(element.compile(dialect=self.dialect.sqlalchemy)).strip()

    def default_literal(self, name: str) -> str:
        """The field's default as SQL text, since DDL takes no parameters."""
        try:
            default = storable(self.schema.fields[name].default())
        except ValueError as error:
            raise ConfigurationError(f"the default of {self.schema.name}.{name} cannot be stored: {error}") from None
        encode = self.encoders[name]
        match default if encode is None else encode(default):
            case None:
                return "NULL"
            case bool(number) | int(number) | float(number):
                return str(+number)
            case bytes(data):
                return f"X'{data.hex()}'"
            case text:
                return "'" + str(text).replace("'", "''") + "'"

    def index_ddl(self, index: Index, name: str) -> str:
        values: list[Any] = []
        only = lower(without_lists(index.where), self.schema)
        shape(only, values)
        where = None if only == ALL else self.condition(only, LiteralBinder(values))
        clause = f" WHERE {self._literal(where)}" if where is not None else ""
        fields = ", ".join(self._literal(self._ordering(each)) for each in index.fields)
        unique = "UNIQUE " if index.unique else ""
        return f"CREATE {unique}INDEX {self.quote(name)} ON {self.quote(self.schema.name)} ({fields}){clause}"

    def index_name(self, index: Index) -> str:
        """The index's own name, else one with the table's in it, since SQL has index names unique in a database."""
        kind = "unique" if index.unique else "index"
        return check_identifier(index.name or f"{self.schema.name}_{'_'.join(index.fields)}_{kind}")

    def condition(self, predicate: Predicate, bind: Binder) -> Condition:
        """The WHERE of a predicate. Its parts may be NULL where they mean false, and Not takes care of that."""
        match predicate:
            case Compare():
                return self._comparison(predicate, bind)
            case Not(term):
                return self.condition(term, bind).is_not(sa.true())
            case And(terms):
                return sa.and_(sa.true(), *[self.condition(term, bind) for term in terms])
            case Or(terms):
                return sa.or_(sa.false(), *[self.condition(term, bind) for term in terms])

    def order(self, order_by: tuple[Order, ...]) -> list[Condition]:
        clauses: list[Condition] = []
        for order in order_by:
            column = self._ordering(order.field)
            clauses.append(column.desc().nulls_last() if order.descending else column.asc().nulls_first())
        if not any(order.field == self.schema.key for order in order_by):
            clauses.append(self.table.c[self.schema.key].asc())
        return clauses

    def _ordering(self, name: str) -> Condition:
        field = self._field(name)
        if field.kind is Kind.JSON:
            raise UnsupportedOperationError(f"{self.schema.name}: cannot sort or index by {name!r}, which is nested")
        return self.dialect.ordering(self.table.c[field.name], field)

    def _literal(self, element: Condition) -> str:
        return str(element.compile(dialect=self.dialect.sqlalchemy, compile_kwargs={"literal_binds": True})).replace(
            f"{self.dialect.sqlalchemy.identifier_preparer.format_table(self.table)}.", ""
        )

    def _field(self, name: str) -> FieldSchema:
        field = self.schema.fields.get(name)
        if field is None:
            raise InvalidFilterError(
                f"{self.schema.name} has no field {name!r}{did_you_mean(name, self.schema.fields)}; "
                f"there is: {', '.join(self.schema.fields)}"
            )
        return field

    def _comparison(self, predicate: Compare, bind: Binder) -> Condition:
        name, *rest = predicate.path.split(".")
        field = self.schema.fields.get(name)
        op, kind = predicate.op, value_kind(predicate.op, predicate.value)
        if field is None and self.schema.open:
            return self.dialect.compare_nested(self.table.c[EXTRA], (name, *rest), op, kind, bind)
        field = self._field(name)
        if field.kind is Kind.JSON:
            return self.dialect.compare_nested(self.table.c[name], tuple(rest), op, kind, bind)
        column = self.table.c[name]
        if op is Op.EQ and kind == "null":
            return column.is_(None)
        if op is not Op.IN and kind not in VALUE_KINDS[field.kind]:
            bind.take()
            return sa.false()
        return self._in_column(column, field, op, bind)

    def _in_column(self, column: Condition, field: FieldSchema, op: Op, bind: Binder) -> Condition:
        """A comparison with a value of the column's own kind."""
        encode = self.encoders[field.name]
        if op in (Op.CONTAINS, Op.STARTSWITH):
            part = bind.next(encode)
            if field.kind is not Kind.TEXT:
                return sa.false()
            in_text = self.dialect.contains_text if op is Op.CONTAINS else self.dialect.starts_with
            return in_text(column, part)
        ordered = self.dialect.ordering(column, field)
        if op is Op.IN:
            return self.dialect.is_one_of(ordered, bind.next(self._list_encoder(encode)))
        return compare(ordered, op, bind.next(encode))

    def _list_encoder(self, encode: Codec | None) -> Codec:
        encode_list = self.dialect.encode_list
        return encode_list if encode is None else lambda items: encode_list([encode(item) for item in items])


_MOST_STATEMENTS = 512


def compare(left: Condition, op: Op, right: Condition) -> Condition:
    match op:
        case Op.EQ:
            return left == right
        case Op.LT:
            return left < right
        case Op.LE:
            return left <= right
        case Op.GT:
            return left > right
        case Op.GE:
            return left >= right
    raise ValueError(op)


def _unless_none(encode: Codec) -> Codec:
    return lambda value: None if value is None else encode(value)
