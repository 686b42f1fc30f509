"""A collection as an SQL table: its columns and indexes, and predicates as conditions on them."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.elements import quoted_name

from ...core.errors import (
    ConfigurationError,
    InvalidFilterError,
    MigrationError,
    UnsupportedOperationError,
    did_you_mean,
)
from ..models.schema import FieldSchema, Kind
from ..models.values import storable
from ..query.keyset import complete
from ..query.operations import Order
from ..query.predicates import ALL, And, Compare, Not, Op, Or, Predicate
from ._names import check_identifier
from ._shapes import VALUE_KINDS, lower, shape, value_kind, without_lists
from ._sql import EXPIRES, EXTRA, Binder, Codec, Condition, Dialect, LiteralBinder, compare
from .base import CollectionSchema, Index

TABLE: Final = "manystore"
"""In the `info` of a table that `Table.described` made: the Table."""


@contextmanager
def migrated() -> Iterator[None]:
    """In a database with a ledger of migrations, a difference is theirs to remove."""
    try:
        yield
    except MigrationError as error:
        raise MigrationError(f"{error}; {_BY_MIGRATION}") from None


def refuse_missing(table: "Table", missing: Sequence[str]) -> None:
    if missing:
        raise MigrationError(f"{table.schema.name} is not as the model has it (not yet {', nor '.join(missing)})")


def check_unknown(table: "Table", unknown: Mapping[str, bool], *, has_ledger: bool) -> None:
    """Refuse columns that the model has not. The values say which can be left out when a row is written.

    With a ledger such columns are those of a newer version, beside which this one goes on until it is replaced.
    """
    wrong = [column for column, can_be_left_out in unknown.items() if not (has_ledger and can_be_left_out)]
    if wrong:
        name = table.quote(table.schema.name)
        drops = "; ".join(f"ALTER TABLE {name} DROP COLUMN {table.quote(column)}" for column in wrong)
        way_out = "" if has_ledger else f"; or where no version of the application needs what is in them, run {drops}"
        raise MigrationError(
            f"the table {table.schema.name} has columns that the model has not ({', '.join(wrong)}): "
            f"add them to the model{way_out}"
        )


def is_same_ddl(first: str, second: str) -> bool:
    """Whether two statements make the same index; a migration quotes names only where it has to."""
    return " ".join(first.replace('"', "").split()) == " ".join(second.replace('"', "").split())


_BY_MIGRATION = (
    "this database has migrations, so it is one of them that does it: `manystore migrate up` applies what is pending, "
    "and `manystore migrate new` writes what is missing"
)


class Table:
    """A collection as a table: columns, codecs, and the statements made for it so far."""

    def __init__(self, schema: CollectionSchema, dialect: Dialect) -> None:
        self.schema = schema
        self.dialect = dialect
        self.encoders: dict[str, Codec | None] = {}
        """They take None too; those of `plain_encoders` do not."""
        self.plain_encoders: dict[str, Codec | None] = {}
        self.decoders: dict[str, Codec | None] = {}
        for name, field in schema.fields.items():
            encode, self.decoders[name] = self._codec(field)
            self.plain_encoders[name] = encode
            self.encoders[name] = None if encode is None else _unless_none(encode)
        if len({name.lower() for name in schema.fields}) < len(schema.fields):
            raise ConfigurationError(f"{schema.name}: two fields have names that differ only by case")
        self.table = self._described()

    def _codec(self, field: FieldSchema) -> tuple[Codec | None, Codec | None]:
        return self.dialect.codec(field)

    def _described(self) -> sa.Table:
        schema, dialect = self.schema, self.dialect
        columns = [
            sa.Column(
                check_identifier(name),
                dialect.types[field.kind],
                primary_key=name == schema.key,
                autoincrement="auto" if name != schema.key else False,  # keys are made by the model
                nullable=field.nullable or field.kind is Kind.JSON,
            )
            for name, field in schema.fields.items()
        ]
        if schema.open:
            columns.append(sa.Column(EXTRA, dialect.types[Kind.JSON], nullable=False))
        if schema.expires:
            columns.append(sa.Column(EXPIRES, dialect.types[Kind.FLOAT], nullable=True))
        return sa.Table(check_identifier(schema.name), sa.MetaData(), *columns, quote=True, **dialect.table_options)

    @cached_property
    def columns(self) -> tuple[sa.Column[Any], ...]:
        """The columns of a document, in the order of `schema.fields`, and the fields beyond the model last."""
        names = [*self.schema.fields, *([EXTRA] if self.schema.open else [])]
        return tuple(self.table.c[name] for name in names)

    @cached_property
    def key(self) -> sa.Column[Any]:
        return self.table.c[self.schema.key]

    @cached_property
    def key_place(self) -> int:
        """Where the key stands among the columns."""
        return list(self.schema.fields).index(self.schema.key)

    def selected(self, fields: tuple[str, ...]) -> tuple[sa.Column[Any], ...]:
        """The columns that have these fields; none named means all."""
        if not fields:
            return self.columns
        beyond = [name for name in fields if name not in self.schema.fields]
        if beyond and not self.schema.open:
            self._field(beyond[0])
        wanted = [name for name in self.schema.fields if name in fields]
        return tuple(self.table.c[name] for name in (*wanted, *([EXTRA] if beyond else [])))

    def fields_of(self, columns: Iterable[str]) -> tuple[str, ...]:
        """The fields that have these columns."""
        fields = {column.name: str(column.key) for column in self.table.c}
        return tuple(fields.get(name, name) for name in columns)

    def quote(self, identifier: str) -> str:
        return self.dialect.sqlalchemy.identifier_preparer.quote_identifier(identifier)

    def ddl(self, element: sa.ClauseElement) -> str:
        return str(element.compile(dialect=self.dialect.sqlalchemy)).strip()

    def add_column(self, column: sa.Column[Any]) -> str:
        """The default becomes part of the column, so it is also what a process with the older model writes."""
        name = self.schema.name
        kind = column.type.compile(self.dialect.sqlalchemy)
        add = f"ALTER TABLE {self.quote(name)} ADD COLUMN {self.quote(column.name)} {kind}"
        if not self.has_added_default(column.name):
            raise MigrationError(
                f"the table {name} has no column {column.name!r}, which the model requires: give the field a default, "
                f"or run {add} NOT NULL DEFAULT …, with the value that old records shall have"
            )
        # As SQL text, since DDL takes no parameters.
        default = self.dialect.literal(self.added_default(column.name))
        return f"{add}{'' if column.nullable else ' NOT NULL'} DEFAULT {default}"

    def has_added_default(self, name: str) -> bool:
        """Whether old records can get a new column; the model may require a value."""
        return name in (EXTRA, EXPIRES) or not self.schema.fields[name].required

    def added_default(self, name: str) -> Any:
        """What a new column has in old records, as it is stored."""
        if name in (EXTRA, EXPIRES):
            return "{}" if name == EXTRA else None
        try:
            default = storable(self.schema.fields[name].default())
        except ValueError as error:
            raise ConfigurationError(f"the default of {self.schema.name}.{name} cannot be stored: {error}") from None
        encode = self.encoders[name]
        return default if encode is None else encode(default)

    def lengthened(self, name: str) -> str:
        """The name of an index with the table's before it, as short as the store needs it."""
        longer, most = f"{self.schema.name}_{name}", self.dialect.sqlalchemy.max_identifier_length
        if len(longer) <= most:
            return longer
        # The store would cut it, and take two that begin alike for one.
        digest = hashlib.sha256(longer.encode()).hexdigest()[:8]
        return f"{longer[: most - 9]}_{digest}"

    def described(self, metadata: sa.MetaData, name_of: Callable[[str], str] = str) -> sa.Table:
        """The table with its indexes in another metadata, for SQLAlchemy and Alembic; `name_of` may rename an index."""
        table = self.table.to_metadata(metadata)
        table.info[TABLE] = self
        for index in self.schema.indexes:
            self._index(table, index, quoted_name(name_of(self.index_name(index)), quote=True))
        if self.schema.expires:
            self._expires_index(table)
        return table

    def index_ddl(self, index: Index, name: str) -> str:
        copy = self.table.to_metadata(sa.MetaData())
        return self.ddl(sa.schema.CreateIndex(self._index(copy, index, quoted_name(name, quote=True))))

    def expires_ddl(self) -> str:
        return self.ddl(sa.schema.CreateIndex(self._expires_index(self.table.to_metadata(sa.MetaData()))))

    def _expires_index(self, table: sa.Table) -> sa.Index:
        return sa.Index(quoted_name(self.lengthened("expires"), quote=True), table.c[EXPIRES])

    def _index(self, table: sa.Table, index: Index, name: str) -> sa.Index:
        where = self.index_condition(index)
        options: Any = {} if where is None else {f"{self.dialect.sqlalchemy.name}_where": sa.literal_column(where)}
        fields = [self.dialect.ordering(table.c[each.name], each) for each in map(self._sortable, index.fields)]
        return sa.Index(name, *fields, unique=index.unique, **options)

    def index_condition(self, index: Index) -> str | None:
        """The condition of a partial index as SQL text, which an upsert has to repeat to the letter."""
        values: list[Any] = []
        only = lower(without_lists(index.where), self.schema)
        shape(only, values)
        return None if only == ALL else self._literal(self.condition(only, LiteralBinder(values)))

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

    def has_at_most_one(self, predicate: Predicate) -> bool:
        """Whether a unique index says by its form alone that no two records meet the predicate."""
        terms = predicate.terms if isinstance(predicate, And) else (predicate,)
        equal = {
            each.path for each in terms if isinstance(each, Compare) and each.op is Op.EQ and each.value is not None
        }
        if self.schema.key in equal:
            return True
        for index in self.schema.indexes:
            only = index.where.terms if isinstance(index.where, And) else (index.where,)
            values: list[Any] = []
            shape(index.where, values)
            # A condition with values in it cannot be recognised by its form.
            if index.unique and equal.issuperset(index.fields) and not values and all(each in terms for each in only):
                return True
        return False

    def order(self, order_by: tuple[Order, ...]) -> list[Condition]:
        clauses: list[Condition] = []
        for order in complete(order_by, self.schema.key):
            column = self.ordering(order.field)
            clause = column.desc() if order.descending else column.asc()
            nullable = self.schema.fields[order.field].nullable
            clauses.append(
                clause if not nullable else clause.nulls_last() if order.descending else clause.nulls_first()
            )
        return clauses

    def ordering(self, name: str) -> Condition:
        """The field as it is compared, sorted and indexed."""
        field = self._sortable(name)
        return self._in_order(self.table.c[field.name], field)

    def indexed(self, name: str) -> Condition:
        """The field as an index has it."""
        return self.ordering(name)

    def _sortable(self, name: str) -> FieldSchema:
        field = self._field(name)
        if field.kind is Kind.JSON:
            raise UnsupportedOperationError(f"{self.schema.name}: cannot sort or index by {name!r}, which is nested")
        return field

    def made_by_sql(self, names: Collection[str], *, new: bool) -> dict[str, Any]:  # noqa: ARG002 - of mapped classes
        """What the statement itself gives to columns beyond the named ones, in a new row or in one that changes."""
        return {}

    def changed_with(self, changes: Mapping[str, Any], increments: Collection[str]) -> Mapping[str, Any]:  # noqa: ARG002
        """The changes with what goes with any change of a row."""
        return changes

    def _literal(self, element: Condition) -> str:
        options = {"literal_binds": True, "include_table": False}
        return str(element.compile(dialect=self.dialect.sqlalchemy, compile_kwargs=options))

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
        encode = self._operand(field, op)
        if op in (Op.CONTAINS, Op.STARTSWITH):
            part = bind.next(encode)
            if field.kind is not Kind.TEXT:
                return sa.false()
            in_text = self.dialect.contains_text if op is Op.CONTAINS else self.dialect.starts_with
            return in_text(self._in_order(column, field), part)
        ordered = self._in_order(column, field)
        if op is Op.IN:
            return self.dialect.is_one_of(ordered, bind.next(self._list_encoder(encode)))
        return compare(ordered, op, bind.next(encode))

    def _in_order(self, column: Condition, field: FieldSchema) -> Condition:
        return self.dialect.ordering(column, field)

    def _operand(self, field: FieldSchema, op: Op) -> Codec | None:  # noqa: ARG002 - of mapped classes
        return self.dialect.operand(field)

    def _list_encoder(self, encode: Codec | None) -> Codec:
        encode_list = self.dialect.encode_list
        return encode_list if encode is None else lambda items: encode_list([encode(item) for item in items])


def _unless_none(encode: Codec) -> Codec:
    return lambda value: None if value is None else encode(value)
