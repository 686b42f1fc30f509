"""Collections as STRICT tables of SQLite, one statement for each operation."""

import sqlite3
import time
from collections.abc import Hashable
from typing import Any

import sqlalchemy as sa

from ...connections.base import ConnectionManager
from ...connections.sqlite import SQLiteEngine
from ...core.errors import AppError, DuplicateRecordError, InvalidChangeError, StoreUnavailableError
from ..query.operations import Count, Delete, Document, Find, Insert, OnConflict, Update
from ..query.predicates import Predicate, both
from ._json import decode_json, encode_json
from ._shapes import lower, shape
from ._sql import EXPIRES, EXTRA, Binder, Condition, Table
from ._sqlite_dialect import APPEND, MERGE, SQLiteDialect, register_functions
from ._sqlite_schema import ensure_table
from .base import Capability, CollectionSchema, StorageBackend


class SQLiteBackend(StorageBackend):
    """One table. Statements run on the engine's thread; writes of concurrent callers share a commit."""

    capabilities = frozenset({Capability.TTL, Capability.UNIQUE_INDEX, Capability.PARTIAL_INDEX})

    def __init__(self, manager: ConnectionManager[SQLiteEngine], schema: CollectionSchema) -> None:
        super().__init__(manager, schema)
        self._table = Table(schema, SQLiteDialect())
        self._ready: SQLiteEngine | None = None
        self._names = tuple(schema.fields)
        self._decoders = tuple((name, decode) for name, decode in self._table.decoders.items() if decode is not None)
        self._encoders = tuple(self._table.encoders.items())

    async def prepare(self) -> None:
        await self._engine()

    @property
    def native(self) -> Any:
        return self.manager.live

    @property
    def collection(self) -> sa.Table:
        return self._table.table

    async def insert(self, operation: Insert) -> tuple[Document, ...]:
        engine = await self._engine()
        skip = operation.on_conflict is OnConflict.SKIP
        statement = self._table.statement(("insert", skip), lambda _: self._insert_statement(skip=skip))
        expires_at = None if operation.ttl is None else time.time() + operation.ttl
        rows = [self._row(document, expires_at) for document in operation.documents]
        try:
            if len(rows) == 1 and not self.schema.expires:
                stored = [await engine.write(statement.sql, rows[0])]
            else:
                stored = await engine.transact(lambda connection: self._insert_all(connection, statement.sql, rows))
        except sqlite3.Error as error:
            raise self._translated(error) from error
        return tuple(document for document, returned in zip(operation.documents, stored, strict=True) if returned)

    async def find(self, operation: Find) -> list[Document]:
        engine = await self._engine()
        where, values, key = self._prepare(operation.where)
        paged = operation.limit is not None or operation.skip > 0
        values += [-1 if operation.limit is None else operation.limit, operation.skip] if paged else []

        def build(bind: Binder) -> sa.Select[Any]:
            select = sa.select(*self._table.columns).where(self._live(where, bind))
            select = select.order_by(*self._table.order(operation.order_by))
            return select.limit(bind.next()).offset(bind.next()) if paged else select

        statement = self._table.statement(("find", key, operation.order_by, paged), build)
        try:
            rows = await engine.read(statement.sql, statement.parameters(values))
        except sqlite3.Error as error:
            raise self._translated(error) from error
        return [self._document(row) for row in rows]

    async def update(self, operation: Update) -> list[Document] | int:
        engine = await self._engine()
        where, tail, key = self._prepare(both(operation.where, operation.guard))
        columns = [name for name in operation.changes if name in self.schema.fields]
        extra = {name: value for name, value in operation.changes.items() if name not in self.schema.fields}
        extra_appends = {name: value for name, value in operation.appends.items() if name not in self.schema.fields}
        appends = [name for name in operation.appends if name in self.schema.fields]
        values: list[Any] = [operation.changes[name] for name in columns]
        values += operation.increments.values()
        values += [operation.appends[name] for name in appends]
        values += [extra, extra_appends] if extra or extra_appends else []
        values += [] if operation.ttl is None else [time.time() + operation.ttl]
        merges = bool(extra or extra_appends)
        fields = (tuple(columns), tuple(operation.increments), tuple(appends), merges, operation.ttl is not None)

        def build(bind: Binder) -> sa.Update:
            assignments = self._assignments(bind, *fields)
            statement = sa.update(self._table.table).values(assignments).where(self._live(where, bind))
            return statement.returning(*self._table.columns) if returns else statement

        check = operation.check
        returns = operation.returning or check is not None
        statement = self._table.statement(("update", *fields, key, returns), build)
        parameters = statement.parameters(values + tail)
        purges = self.schema.expires and any(
            index.unique and {*index.fields} & {*columns} for index in self.schema.indexes
        )

        def change(connection: sqlite3.Connection) -> list[Document] | int:
            if purges:
                self._purge(connection)
            changed = connection.execute(statement.sql, parameters)
            if not returns:
                return changed.rowcount
            documents = [self._document(row) for row in changed.fetchall()]
            if check is not None:
                for document in documents:
                    check(document)
            return documents if operation.returning else len(documents)

        try:
            if returns and check is None and not purges:
                return [self._document(row) for row in await engine.write(statement.sql, parameters)]
            return await engine.transact(change)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    async def delete(self, operation: Delete) -> int:
        engine = await self._engine()
        where, values, key = self._prepare(both(operation.where, operation.guard))
        statement = self._table.statement(
            ("delete", key), lambda bind: sa.delete(self._table.table).where(self._live(where, bind))
        )
        parameters = statement.parameters(values)
        try:
            return await engine.transact(lambda connection: connection.execute(statement.sql, parameters).rowcount)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    async def count(self, operation: Count) -> int:
        engine = await self._engine()
        where, values, key = self._prepare(operation.where)
        limited = operation.limit is not None
        values += [operation.limit] if limited else []

        def build(bind: Binder) -> sa.Select[Any]:
            condition = self._live(where, bind)
            if not limited:
                return sa.select(sa.func.count()).select_from(self._table.table).where(condition)
            found: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(self._table.table).where(condition)
            return sa.select(sa.func.count()).select_from(found.limit(bind.next()).subquery())

        statement = self._table.statement(("count", key, limited), build)
        try:
            [[number]] = await engine.read(statement.sql, statement.parameters(values))
        except sqlite3.Error as error:
            raise self._translated(error) from error
        return int(number)

    async def _engine(self) -> SQLiteEngine:
        """The open engine, with the table as the model has it."""
        engine: SQLiteEngine = self.manager.live or await self.manager.connect()
        if engine is not self._ready:
            try:
                await engine.transact(self._ensure)
            except sqlite3.Error as error:
                raise self._translated(error) from error
            self._ready = engine
        return engine

    def _ensure(self, connection: sqlite3.Connection) -> None:
        register_functions(connection)
        ensure_table(connection, self._table)

    def _prepare(self, predicate: Predicate) -> tuple[Predicate, list[Any], Hashable]:
        """The predicate in the terms of the columns, its values in the order they are bound, and its shape."""
        where = lower(predicate, self.schema)
        values: list[Any] = []
        key = shape(where, values)
        if self.schema.expires:
            values.append(time.time())
        return where, values, key

    def _live(self, where: Predicate, bind: Binder) -> Condition:
        condition = self._table.condition(where, bind)
        if not self.schema.expires:
            return condition
        expires = self._table.table.c[EXPIRES]
        return sa.and_(condition, sa.or_(expires.is_(None), expires > bind.next()))

    def _insert_statement(self, *, skip: bool) -> sa.Insert:
        table = self._table.table
        insert = sa.dialects.sqlite.insert(table).values({column.name: sa.bindparam(column.name) for column in table.c})
        key = table.c[self.schema.key]
        return (insert.on_conflict_do_nothing([key]) if skip else insert).returning(key)

    def _insert_all(
        self, connection: sqlite3.Connection, sql: str, rows: list[tuple[Any, ...]]
    ) -> list[list[tuple[Any, ...]]]:
        if self.schema.expires:
            self._purge(connection)
        return [connection.execute(sql, row).fetchall() for row in rows]

    def _purge(self, connection: sqlite3.Connection) -> None:
        """What has expired blocks neither its id nor its unique values."""
        connection.execute(f'DELETE FROM "{self.schema.name}" WHERE "{EXPIRES}" <= ?', (time.time(),))  # noqa: S608

    def _assignments(
        self,
        bind: Binder,
        columns: tuple[str, ...],
        increments: tuple[str, ...],
        appends: tuple[str, ...],
        merges: bool,
        expires: bool,
    ) -> dict[str, Any]:
        c = self._table.table.c
        result: dict[str, Any] = {name: bind.next(self._table.encoders[name]) for name in columns}
        for name in increments:
            result[name] = sa.func.coalesce(c[name], 0) + bind.next()
        for name in appends:
            result[name] = getattr(sa.func, APPEND)(c[name], bind.next(encode_json))
        if merges:
            result[EXTRA] = getattr(sa.func, MERGE)(c[EXTRA], bind.next(encode_json), bind.next(encode_json))
        if expires:
            result[EXPIRES] = bind.next()
        # An update of nothing still answers whether the record is there.
        return result or {self.schema.key: c[self.schema.key]}

    def _row(self, document: Document, expires_at: float | None) -> tuple[Any, ...]:
        row = []
        name = ""
        try:
            for name, encode in self._encoders:
                value = document.get(name)
                row.append(value if encode is None else encode(value))
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            # Nothing validated the entity: it was made by `model_construct`, or changed afterwards.
            raise InvalidChangeError(f"{self.schema.name}.{name}: {type(value).__name__} is not its type") from error
        if self.schema.open:
            fields = self.schema.fields
            row.append(encode_json({name: value for name, value in document.items() if name not in fields}))
        if self.schema.expires:
            row.append(expires_at)
        return tuple(row)

    def _document(self, row: tuple[Any, ...]) -> Document:
        document = dict(zip(self._names, row, strict=False))
        for name, decode in self._decoders:
            value = document[name]
            if value is not None:
                document[name] = decode(value)
        if self.schema.open:
            document.update(decode_json(row[-1]))
        return document

    def _translated(self, error: sqlite3.Error) -> AppError:
        name = getattr(error, "sqlite_errorname", "")
        if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
            columns = str(error).partition(": ")[2].split(", ")
            return DuplicateRecordError(self.schema.name, [column.rpartition(".")[2] for column in columns])
        # Python 3.11 has no name for the error of a STRICT column.
        if isinstance(error, sqlite3.IntegrityError) or name in ("SQLITE_MISMATCH", "SQLITE_TOOBIG"):
            return InvalidChangeError(f"{self.schema.name}: SQLite refused a value: {error}")
        return StoreUnavailableError(f"{self.schema.name}: SQLite failed: {error}")
