"""Collections as tables of PostgreSQL, one statement for each operation."""

import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, TypeVar

import psycopg

from ...connections._postgres_connection import Connection as OurConnection
from ...connections._postgres_exchange import Exchanges, fetch
from ...connections.base import ConnectionManager
from ...core.errors import AppError, ConfigurationError, DuplicateRecordError, MigrationError, StoreUnavailableError
from ..query.operations import Document, Explain, Insert, OnConflict, Upsert
from ..query.predicates import ALL
from ._names import check_collection
from ._postgres_bulk import BULK, BulkStatements, arrays, run_bulk
from ._postgres_copy import copy_in
from ._postgres_dialect import PostgresDialect
from ._postgres_errors import quiet, translated
from ._postgres_schema import complete_table, ensure_table, known_indexes
from ._postgres_transaction import PostgresTransaction
from ._postgres_write import run
from ._sql_backend import SQLBackend, Write
from ._sql_rows import Row
from .base import Capability, CollectionSchema, Transaction

Connection = psycopg.AsyncConnection[Any]
Pool = Exchanges[Any]
R = TypeVar("R")

_DDL_TIMEOUT = 600.0
"""Seconds: an index on a large table takes longer than an operation may."""


class PostgresBackend(SQLBackend):
    """One table, in the schema that the connection's search path begins with."""

    capabilities = frozenset(
        {
            Capability.TTL,
            Capability.UNIQUE_INDEX,
            Capability.PARTIAL_INDEX,
            Capability.TRANSACTIONS,
            Capability.SAVEPOINTS,
            Capability.ORDERED_STREAM,
        }
    )
    dialect = PostgresDialect()
    transaction: PostgresTransaction | None
    _reader: ConnectionManager[Pool] | None = None

    def __init__(self, manager: ConnectionManager[Pool], schema: CollectionSchema) -> None:
        if schema.table is None:
            check_collection(schema.name)
        super().__init__(manager, schema)
        self._bulk = BulkStatements(self._table)
        self._token = object()  # the same one in each transaction's view of this backend
        self._indexes: Mapping[str, tuple[str, ...]] = known_indexes(self._table)

    async def prepare(self) -> None:
        await self._pool()

    @property
    def native(self) -> Any:
        return self.manager.live

    @classmethod
    async def begin(cls, manager: ConnectionManager[Any]) -> Transaction:
        return await PostgresTransaction.begin(manager.live or await manager.connect())

    async def insert(self, operation: Insert) -> tuple[Document, ...]:
        skips = operation.on_conflict is OnConflict.SKIP
        if skips or self.schema.expires or self.schema.table is not None or len(operation.documents) < BULK:
            return await super().insert(operation)
        await self._change(lambda connection: copy_in(connection, self._table, operation.documents))
        return operation.documents

    async def upsert(self, operation: Upsert) -> list[Document] | int:
        if self.schema.table is not None or len(operation.documents) < BULK:
            return await super().upsert(operation)
        guard = self._where(operation.guard)
        statement = self._bulk.upsert(
            operation.on, operation.keep, operation.increments, guard, returns=operation.returning
        )
        given = arrays(self._table, operation.documents, self._expires_at(operation.ttl))
        parameters = statement.parameters([*given, *guard.values])

        def complete(number: int, _: list[Row]) -> None:
            if number < len(operation.documents):
                raise DuplicateRecordError(self.schema.name, operation.on)

        check = None if operation.guard == ALL else complete
        write = Write(statement.sql, (parameters,), operation.returning, self._purge(), check)
        number, returned = await self._change(lambda connection: run_bulk(connection, write))
        return [self._rows.decode(row) for row in returned] if operation.returning else number

    def from_reader(self) -> Self:
        reader = getattr(self.manager, "reader", None)
        if reader is None:
            raise ConfigurationError(f"the connection {self.manager.name!r} has no reader: give it a `reader_url`")
        view = copy.copy(self)
        view._reader = reader  # noqa: SLF001 - another instance
        return view

    async def _read(self, sql: str, parameters: Row) -> list[Row]:
        if self._reader is not None and self.transaction is None:
            return await self._read_from(self._reader, sql, parameters)
        pool = await self._pool()
        if self.transaction is not None:
            return await self._change(lambda connection: fetch(connection, sql, parameters))
        try:
            return await pool.fetch(sql, parameters)
        except psycopg.Error as error:
            raise self._translated(pool, error) from quiet(error)

    async def _read_from(self, reader: ConnectionManager[Pool], sql: str, parameters: Row) -> list[Row]:
        """A reader that is away is an error: whoever asked for it may ask the writer, and has not been answered by it.

        It may be behind, so what the model needs and it has not yet is made on the writer, and missed here meanwhile.
        """
        pool: Pool = reader.live or await reader.connect()
        if self._token not in pool.known:
            if await self._is_complete(pool):
                pool.known.add(self._token)
            else:
                await self._pool()
        try:
            return await pool.fetch(sql, parameters)
        except psycopg.Error as error:
            ours = self._translated(pool, error)
            if isinstance(ours, MigrationError):
                ours = StoreUnavailableError(f"{self.schema.name}: {reader.name} has not yet what its writer has")
            raise ours from quiet(error)

    async def _is_complete(self, pool: Pool) -> bool:
        connection = await pool.take()
        try:
            return await complete_table(connection, self._table) is not None
        except psycopg.Error as error:
            ours = pool.translated(error, connection, write=False)
            raise ours or self._translated(pool, error) from quiet(error)
        finally:
            await pool.give(connection)

    async def _write(self, write: Write) -> tuple[int, list[Row]]:
        return await self._change(lambda connection: run(connection, write))

    async def explain(self, operation: Explain) -> dict[str, Any]:
        sql, parameters = self._find(operation.find)
        [[plan]] = await self._read(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        return {"store": "postgres", "index": _index_of(plan[0]["Plan"]), "plan": plan}

    async def _change(self, work: Callable[[Connection], Awaitable[R]]) -> R:
        """Run it in the transaction, or on a connection of its own."""
        pool = await self._pool()
        transaction = self.transaction
        connection = await pool.take() if transaction is None else transaction.connection
        try:
            return await work(connection)
        except psycopg.Error as error:
            ours = pool.translated(error, connection, write=True) if transaction is None else transaction.lost(error)
            raise ours or self._translated(pool, error) from quiet(error)
        finally:
            if transaction is None:
                await pool.give(connection)

    async def _pool(self) -> Pool:
        """The running loop's pool, on a database that has the table as the model has it."""
        transaction = self.transaction
        pool: Pool = self.manager.live or await self.manager.connect() if transaction is None else transaction.pool
        if self._token not in pool.known:
            async with pool.first_use:
                if self._token not in pool.known:
                    await self._ensure(pool)
                    pool.known.add(self._token)
        return pool

    async def _ensure(self, pool: Pool) -> None:
        """Look at the table; what is missing is made on another connection than the transaction's.

        A table that others may use must not go with a rollback.
        """
        if self.transaction is not None:
            try:
                found = await complete_table(self.transaction.connection, self._table)
            except psycopg.Error as error:
                raise self.transaction.lost(error) or self._translated(pool, error) from quiet(error)
            if found is not None:
                self._indexes = found
                return
        connection = await pool.take()
        if isinstance(connection, OurConnection):
            connection.timeout = _DDL_TIMEOUT
        try:
            self._indexes = await ensure_table(connection, self._table)
        except psycopg.Error as error:
            ours = pool.translated(error, connection, write=False)
            raise ours or self._translated(pool, error) from quiet(error)
        finally:
            await pool.give(connection)

    def _translated(self, pool: Pool, error: psycopg.Error) -> AppError:
        ours = translated(self.schema.name, self._indexes, error)
        if isinstance(ours, MigrationError):
            pool.known.discard(self._token)
        return ours


def _index_of(plan: Mapping[str, Any]) -> str | None:
    """The first index of a plan, from its root down."""
    if "Index Name" in plan:
        return str(plan["Index Name"])
    return next((found for each in plan.get("Plans", ()) if (found := _index_of(each)) is not None), None)
