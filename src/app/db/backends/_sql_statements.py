"""The statements of a table, compiled once for each shape of an operation and then only bound."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from ...core.errors import InvalidFilterError
from ..query.operations import Order
from ..query.predicates import ALL, Predicate
from ._sql import EXPIRES, EXTRA, Binder, Condition, Statement, compiled
from ._sql_table import Table


class Where(NamedTuple):
    """A predicate in the terms of the columns."""

    predicate: Predicate
    shape: Hashable
    """What of it decides the text of a statement."""
    values: list[Any]
    """What it binds, in this order, and last the time now where records expire."""


class Statements:
    """Each method says in which order its statement binds values; `where` stands for its own."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._made: dict[Hashable, Statement] = {}

    def insert(self, *, skip: bool, names: tuple[str, ...] | None = None) -> Statement:
        """Binds all columns. With `skip` it returns the key of the row unless its key was taken.

        With `names` it binds these, and returns the row as it is stored.
        """

        def build(bind: Binder) -> sa.ClauseElement:
            insert = self._insert(bind, names)
            key = self._table.key
            if skip:
                insert = insert.on_conflict_do_nothing(index_elements=[key])
            if names is not None:
                insert = insert.returning(*self._table.columns)
            elif skip:
                insert = insert.returning(key)
            return cast("sa.ClauseElement", insert)

        return self._statement(("insert", skip, names), build)

    def upsert(
        self,
        on: tuple[str, ...],
        keep: tuple[str, ...],
        increments: tuple[str, ...],
        guard: Where,
        *,
        returns: bool,
        names: tuple[str, ...] | None = None,
    ) -> Statement:
        """Binds all columns, or those of `names`, and `guard`. A record that is in the way and does not meet it is not
        touched.
        """

        def build(bind: Binder) -> sa.ClauseElement:
            table, key = self._table.table, self._table.key
            insert = self._insert(bind, names)
            stays = {key.key, *keep}
            written = table.c.keys() if names is None else names
            values = {name: insert.excluded[name] for name in written if name not in stays}
            values |= {name: table.c[name] + sa.literal_column("1") for name in increments}
            met = None if guard.predicate == ALL else self._table.condition(guard.predicate, bind)
            # Without a change it still has to answer.
            upsert = insert.on_conflict_do_update(set_=values or {key.key: key}, where=met, **self._target(on))
            return cast("sa.ClauseElement", upsert.returning(*self._table.columns) if returns else upsert)

        return self._statement(("upsert", on, keep, increments, guard.shape, returns, names), build)

    def find(
        self,
        where: Where,
        order_by: tuple[Order, ...],
        fields: tuple[str, ...],
        *,
        limits: bool,
        skips: bool,
        lock: bool = False,
    ) -> Statement:
        """Binds `where`, the limit and the number of rows to skip."""

        def build(bind: Binder) -> sa.Select[Any]:
            select = sa.select(*self._table.selected(fields)).where(self._live(where, bind))
            if not self._table.has_at_most_one(where.predicate):
                select = select.order_by(*self._table.order(order_by))
            select = select.limit(bind.next()) if limits else select
            select = select.offset(bind.next()) if skips else select
            return select.with_for_update() if lock else select

        return self._statement(("find", where.shape, order_by, fields, limits, skips, lock), build)

    def exists(self, where: Where) -> Statement:
        """Binds `where`; it gives one row, or none."""

        def build(bind: Binder) -> sa.Select[Any]:
            one: sa.ColumnClause[int] = sa.literal_column("1")
            return sa.select(one).select_from(self._table.table).where(self._live(where, bind)).limit(one)

        return self._statement(("exists", where.shape), build)

    def count(self, where: Where, *, limits: bool) -> Statement:
        """Binds `where` and the limit."""

        def build(bind: Binder) -> sa.Select[Any]:
            condition = self._live(where, bind)
            if not limits:
                return sa.select(sa.func.count()).select_from(self._table.table).where(condition)
            found: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(self._table.table).where(condition)
            return sa.select(sa.func.count()).select_from(found.limit(bind.next()).subquery())

        return self._statement(("count", where.shape, limits), build)

    def update(
        self,
        where: Where,
        columns: tuple[str, ...],
        increments: tuple[str, ...],
        appends: tuple[str, ...],
        *,
        merges: bool,
        expires: bool,
        returns: bool,
    ) -> Statement:
        """Binds the columns, the increments, the appends, with `merges` the changes of and the appends to fields
        beyond the model, with `expires` the time of it, and `where`.
        """

        def build(bind: Binder) -> sa.Update:
            c, dialect = self._table.table.c, self._table.dialect
            values: dict[str, Any] = {name: bind.next(self._table.encoders[name]) for name in columns}
            for name in increments:
                values[name] = sa.func.coalesce(c[name], 0) + bind.next()
            for name in appends:
                values[name] = dialect.append(c[name], bind.next(dialect.encode_json))
            if merges:
                changes, items = bind.next(dialect.encode_json), bind.next(dialect.encode_json)
                values[EXTRA] = dialect.merge(c[EXTRA], changes, items)
            if expires:
                values[EXPIRES] = bind.next()
            if values:
                values |= self._table.made_by_sql(values, new=False)
            # An update of nothing still answers whether the record is there.
            values = values or {self._table.key.key: self._table.key}
            update = sa.update(self._table.table).values(values).where(self._live(where, bind))
            return update.returning(*self._table.columns) if returns else update

        shape = (columns, increments, appends, merges, expires, returns)
        return self._statement(("update", where.shape, shape), build)

    def delete(self, where: Where) -> Statement:
        """Binds `where`."""
        return self._statement(
            ("delete", where.shape), lambda bind: sa.delete(self._table.table).where(self._live(where, bind))
        )

    def purge(self) -> Statement:
        """Binds the time now, when what has expired goes."""
        table = self._table.table
        return self._statement("purge", lambda bind: sa.delete(table).where(table.c[EXPIRES] <= bind.next()))

    def _insert(self, bind: Binder, names: tuple[str, ...] | None) -> Any:
        table = self._table.table
        values: dict[str, Any] = {name: bind.next() for name in (table.c.keys() if names is None else names)}
        return self._table.dialect.insert(table).values(values | self._table.made_by_sql(values, new=True))

    def _target(self, on: tuple[str, ...]) -> dict[str, Any]:
        """The unique index that finds the record, named by its columns and condition."""
        if on == (self._table.key.key,):
            return {"index_elements": [self._table.key]}
        indexes = self._table.schema.indexes
        index = next((each for each in indexes if each.unique and {*each.fields} == {*on}), None)
        if index is None:
            raise InvalidFilterError(f"{self._table.schema.name} has no unique index on {', '.join(on)}")
        where = self._table.index_condition(index)
        return {
            "index_elements": [self._table.indexed(name) for name in index.fields],
            "index_where": None if where is None else sa.literal_column(where),
        }

    def _live(self, where: Where, bind: Binder) -> Condition:
        condition = self._table.condition(where.predicate, bind)
        if not self._table.schema.expires:
            return condition
        expires = self._table.table.c[EXPIRES]
        return sa.and_(condition, sa.or_(expires.is_(None), expires > bind.next()))

    def _statement(self, key: Hashable, build: Callable[[Binder], sa.ClauseElement]) -> Statement:
        """Return the statement for a shape, compiled on first use. `build` binds the values in their order."""
        statement = self._made.get(key)
        if statement is None:
            binder = Binder()
            statement = compiled(build(binder), binder, self._table.dialect)
            if len(self._made) >= _MOST_STATEMENTS:
                self._made.clear()
            self._made[key] = statement
        return statement


_MOST_STATEMENTS = 512
