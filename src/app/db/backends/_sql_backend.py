"""What every SQL store does with an operation: prepare a statement and its parameters, and let the store run them."""

import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, cast

import sqlalchemy as sa

from ...connections.base import ConnectionManager
from ...core.errors import DuplicateRecordError
from ..query.operations import Count, Delete, Document, Find, Insert, OnConflict, Update, Upsert
from ..query.predicates import ALL, Predicate, both
from ._shapes import lower, shape
from ._sql import Dialect
from ._sql_mapped import MappedTable
from ._sql_rows import Row, RowCodec
from ._sql_statements import Statements, Where
from ._sql_table import Table
from .base import CollectionSchema, StorageBackend


@dataclass(slots=True)
class Write:
    """One writing statement, run once for each row of parameters: all of it or none."""

    sql: str
    rows: Sequence[Row]
    returns: bool = False
    """Whether it has a RETURNING."""
    first: tuple[str, Row] | None = None
    """A statement to run before it, in the same transaction."""
    check: Callable[[int, list[Row]], None] | None = None
    """Called with its result before the commit; what it raises undoes the write. The store may try again, and then
    calls it again."""
    then: "Write | None" = None
    """What to write after it, in the same transaction; what both touched and returned is the result."""

    @property
    def alone(self) -> bool:
        """Whether it is one statement, which is atomic by itself, and nothing comes between it and its commit."""
        return self.first is None and self.check is None and self.then is None and len(self.rows) == 1


class SQLBackend(StorageBackend):
    """One table. Each operation is one statement; a store runs it with `_read` and `_write`, and says the rest in its
    `dialect`.
    """

    dialect: ClassVar[Dialect]
    has_tables = True

    def __init__(self, manager: ConnectionManager[Any], schema: CollectionSchema) -> None:
        super().__init__(manager, schema)
        self._table = Table(schema, self.dialect) if schema.table is None else MappedTable(schema, self.dialect)
        self._statements = Statements(self._table)
        self._rows = RowCodec(self._table)

    @abstractmethod
    def _read(self, sql: str, parameters: Row) -> Awaitable[list[Row]]:
        """Run one SELECT, with the table ensured before, in the backend's transaction if it has one. Ours for the
        driver's errors.
        """

    @abstractmethod
    def _write(self, write: Write) -> Awaitable[tuple[int, list[Row]]]:
        """As `_read`, atomically: the number of records it touched, and what it returned, in the order of its rows."""

    @property
    def collection(self) -> sa.Table:
        return self._table.table if self.schema.table is None else self.schema.table

    @property
    def table(self) -> Table:
        return self._table

    async def insert(self, operation: Insert) -> tuple[Document, ...]:
        skip = operation.on_conflict is OnConflict.SKIP
        if self.schema.table is not None:
            return await self._insert_partly(operation, skip=skip)
        statement = self._statements.insert(skip=skip)
        rows = self._rows.encode_all(operation.documents, self._expires_at(operation.ttl))
        _, returned = await self._write(Write(statement.sql, rows, returns=skip, first=self._purge()))
        if not skip:
            return operation.documents
        place = self._table.key_place
        documents = {row[place]: document for row, document in zip(rows[::-1], operation.documents[::-1], strict=True)}
        return tuple(documents[key] for (key,) in returned)

    async def upsert(self, operation: Upsert) -> list[Document] | int:
        guard = self._where(operation.guard)
        on, returning = operation.on, operation.returning
        if self.schema.table is not None:
            return await self._upsert_partly(operation, guard)
        statement = self._statements.upsert(on, operation.keep, operation.increments, guard, returns=returning)
        rows = self._rows.encode_all(operation.documents, self._expires_at(operation.ttl))
        del operation  # with its documents: the rows have all, and it may be many that wait
        if guard.values:
            columns = len(rows[0])
            tail = statement.parameters([None] * columns + guard.values)[columns:]
            rows = [row + tail for row in rows]

        def complete(number: int, _: list[Row]) -> None:
            if number < len(rows):
                raise DuplicateRecordError(self.schema.name, on)

        # Of a single row that is missing, nothing is there to undo.
        check = complete if len(rows) > 1 else None
        write = Write(statement.sql, rows, returns=returning, first=self._purge(), check=check)
        number, returned = await self._write(write)
        complete(number, returned)
        return [self._rows.decode(row) for row in returned] if returning else number

    async def _insert_partly(self, operation: Insert, *, skip: bool) -> tuple[Document, ...]:
        """Documents that leave columns to the store: one statement for each set of columns that they have."""
        groups = self._rows.grouped(operation.documents)
        write = None
        for names, rows in reversed(groups.items()):
            statement = self._statements.insert(skip=skip, names=names)
            write = Write(statement.sql, [*rows.values()], returns=True, then=write)
        _, returned = await self._write(cast("Write", write))
        documents = [self._rows.decode(row) for row in returned]
        return tuple(documents if skip else _in_place(groups, documents))

    async def _upsert_partly(self, operation: Upsert, guard: Where) -> list[Document] | int:
        groups = self._rows.grouped(operation.documents)
        wanted = len(operation.documents)

        def complete(number: int, _: list[Row]) -> None:
            if number < wanted:
                raise DuplicateRecordError(self.schema.name, operation.on)

        write = None
        for names, rows in reversed(groups.items()):
            statement = self._statements.upsert(
                operation.on, operation.keep, operation.increments, guard, returns=True, names=names
            )
            tail = statement.parameters([None] * len(names) + guard.values)[len(names) :]
            write = Write(statement.sql, [row + tail for row in rows.values()], returns=True, then=write)
        first = cast("Write", write)
        first.check = None if first.alone else complete
        number, returned = await self._write(first)
        complete(number, returned)
        return _in_place(groups, [self._rows.decode(row) for row in returned]) if operation.returning else number

    async def find(self, operation: Find) -> list[Document]:
        sql, parameters = self._find(operation)
        rows = await self._read(sql, parameters)
        decode = self._rows.decoder(operation.fields)
        return [decode(row) for row in rows]

    async def update(self, operation: Update) -> list[Document] | int:
        where = self._where(operation.where, operation.guard)
        fields = self.schema.fields
        changes = self._table.changed_with(operation.changes, operation.increments)
        columns = tuple(name for name in changes if name in fields)
        values: list[Any] = [changes[name] for name in columns]
        values += operation.increments.values()
        appends: tuple[str, ...] = ()
        if operation.appends:
            appends = tuple(name for name in operation.appends if name in fields)
            values += [operation.appends[name] for name in appends]
        merges = len(columns) < len(changes) or len(appends) < len(operation.appends)
        if merges:
            values += [_beyond(changes, fields), _beyond(operation.appends, fields)]
        expires = operation.ttl is not None
        if expires:
            values.append(self._expires_at(operation.ttl))
        check = operation.check
        returns = operation.returning or check is not None
        statement = self._statements.update(
            where,
            columns,
            tuple(operation.increments),
            appends,
            merges=merges,
            expires=expires,
            returns=returns,
        )
        write = Write(statement.sql, (statement.parameters(values + where.values),), returns=returns)
        if self.schema.expires and any(index.unique and {*index.fields} & {*columns} for index in self.schema.indexes):
            write.first = self._purge()
        if check is not None:
            write.check = self._checking(check)
        number, rows = await self._write(write)
        return [self._rows.decode(row) for row in rows] if operation.returning else number

    async def delete(self, operation: Delete) -> int:
        where = self._where(operation.where, operation.guard)
        statement = self._statements.delete(where)
        number, _ = await self._write(Write(statement.sql, (statement.parameters(where.values),)))
        return number

    async def count(self, operation: Count) -> int:
        where = self._where(operation.where)
        values = where.values
        if operation.limit == 1:
            statement = self._statements.exists(where)
            return len(await self._read(statement.sql, statement.parameters(values)))
        limits = operation.limit is not None
        if limits:
            values.append(operation.limit)
        statement = self._statements.count(where, limits=limits)
        [[number]] = await self._read(statement.sql, statement.parameters(values))
        return int(number)

    def _find(self, operation: Find) -> tuple[str, Row]:
        where = self._where(operation.where)
        values = where.values
        limits, skips = operation.limit is not None, operation.skip > 0
        if limits:
            values.append(operation.limit)
        if skips:
            values.append(operation.skip)
        lock = operation.lock and self.dialect.locks_rows
        statement = self._statements.find(
            where, operation.order_by, operation.fields, limits=limits, skips=skips, lock=lock
        )
        return statement.sql, statement.parameters(values)

    def _where(self, predicate: Predicate, guard: Predicate = ALL) -> Where:
        lowered = lower(predicate if guard is ALL else both(predicate, guard), self.schema)
        values: list[Any] = []
        key = shape(lowered, values)
        if self.schema.expires:
            values.append(time.time())
        return Where(lowered, key, values)

    def _checking(self, check: Callable[[Document], None]) -> Callable[[int, list[Row]], None]:
        def check_rows(_: int, rows: list[Row]) -> None:
            for row in rows:
                check(self._rows.decode(row))

        return check_rows

    def _purge(self) -> tuple[str, Row] | None:
        """What removes the expired, which blocks neither its id nor its unique values."""
        return (self._statements.purge().sql, (time.time(),)) if self.schema.expires else None

    @staticmethod
    def _expires_at(ttl: float | None) -> float | None:
        return None if ttl is None else time.time() + ttl


def _in_place(groups: Mapping[Any, Mapping[int, Row]], documents: list[Document]) -> list[Document]:
    """The documents in the order in which they were given, and not by group."""
    places = [place for rows in groups.values() for place in rows]
    return [document for _, document in sorted(zip(places, documents, strict=True), key=itemgetter(0))]


def _beyond(values: Any, fields: Any) -> Document:
    return {name: value for name, value in values.items() if name not in fields}
