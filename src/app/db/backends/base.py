"""What a store has to do to hold a collection, and what it must know of it."""

import copy
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeAlias

from ...connections.base import ConnectionManager
from ...core.constants import ConnectionType
from ...core.errors import TransactionError, UnsupportedOperationError
from ...core.registry import Registry
from ..models.schema import FieldSchema, Kind
from ..query.keyset import complete, following
from ..query.operations import (
    Aggregate,
    Count,
    Delete,
    Document,
    Explain,
    Find,
    Insert,
    Operation,
    Stream,
    Update,
    Upsert,
)
from ..query.pipeline import run_pipeline
from ..query.pipeline_plan import plan
from ..query.predicates import ALL, Predicate, both

if TYPE_CHECKING:
    import sqlalchemy as sa

LEDGER: Final = "manystore_migrations"
"""The collection or table of what was migrated. Where it is there, migrations alone change what a table looks like."""

Handler: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Carries out an operation of one type; its result is what the operation's class says."""


class Capability(StrEnum):
    """What not every store can do. Where it is missing, the operation that needs it raises before any write."""

    TTL = "ttl"
    UNIQUE_INDEX = "unique index"
    PARTIAL_INDEX = "partial index"
    TRANSACTIONS = "transactions"
    SAVEPOINTS = "savepoints"
    ORDERED_STREAM = "ordered streams"


@dataclass(frozen=True, slots=True)
class Index:
    """An index on fields. `where` limits it, and with `unique` its promise, to the documents that match."""

    fields: tuple[str, ...]
    unique: bool = False
    name: str = ""
    where: Predicate = ALL

    def __init__(self, *fields: str, unique: bool = False, name: str = "", where: Predicate = ALL) -> None:
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "unique", unique)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "where", where)

    def limited_to(self, where: Predicate) -> "Index":
        return Index(*self.fields, unique=self.unique, name=self.name, where=both(self.where, where))


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """What a backend builds a table or collection from."""

    name: str
    key: str
    fields: Mapping[str, FieldSchema]
    indexes: tuple[Index, ...] = ()
    expires: bool = False
    """Whether documents may carry a time to live."""
    open: bool = False
    """Whether documents may have fields that the model does not name."""
    table: "sa.Table | None" = None
    """The table of a mapped class; its fields are `MappedField`s then."""


class Transaction(ABC):
    """Open on one store, for one task at a time. It ends once, by `end`."""

    _spoiled = False

    @cached_property
    def notes(self) -> dict[Any, Any]:
        """What middleware remembers until the end."""
        return {}

    @cached_property
    def _at_end(self) -> list[Callable[[], Awaitable[None]]]:
        return []

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have something done when it has ended, in either way."""
        self._at_end.append(callback)

    def spoil(self) -> None:
        """Let it only be rolled back: something in it was interrupted half way."""
        self._spoiled = True

    async def end(self, *, commit: bool) -> None:
        """Commit, and where that fails roll back and raise; or roll back."""
        try:
            if not commit or self._spoiled:
                await self.rollback()
                if commit:
                    raise TransactionError("a write in this transaction was interrupted, so nothing of it is committed")
                return
            try:
                await self.commit()
            except BaseException:
                await self.rollback()
                raise
        finally:
            for callback in self._at_end:
                await callback()

    @abstractmethod
    async def commit(self) -> None:
        """Make it all last; DuplicateRecordError or TransactionError, and nothing is changed, where it cannot be."""

    @abstractmethod
    async def rollback(self) -> None:
        """Undo it all. Also where the connection is lost, it does not raise."""

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo what is done inside when it raises, and nothing else."""
        raise UnsupportedOperationError(f"{type(self).__name__} has no savepoints: undo the whole transaction")


class StorageBackend(ABC):
    """One collection on one store. Everything it needs there is ensured once, on first use, by any number of processes.

    The driver's errors leave it as ours, `raise … from` the driver's.
    """

    capabilities: ClassVar[frozenset[Capability]]
    has_tables: ClassVar[bool] = False
    """Whether it keeps a collection in a table that may also be given, by a mapped class."""
    transaction: Any = None
    """What the operations belong to; None lets each stand for itself."""

    def __init__(self, manager: ConnectionManager[Any], schema: CollectionSchema) -> None:
        self.manager = manager
        self.schema = schema
        self._companions: dict[str, StorageBackend] = {}

    @property
    def companions(self) -> Mapping[str, "StorageBackend"]:
        """The collections that are kept beside this one; the same for all views of it."""
        return self._companions

    def companion(self, schema: CollectionSchema) -> "StorageBackend":
        """Another collection on the same connection, in the same transaction if there is one. Made once."""
        found = self._companions.get(schema.name)
        if found is None:
            found = self._companions[schema.name] = type(self)(self.manager, schema)
        return found if self.transaction is None else found.within(self.transaction)

    @abstractmethod
    async def insert(self, operation: Insert) -> tuple[Document, ...]: ...

    @abstractmethod
    async def upsert(self, operation: Upsert) -> list[Document] | int: ...

    @abstractmethod
    async def find(self, operation: Find) -> list[Document]: ...

    @abstractmethod
    async def update(self, operation: Update) -> list[Document] | int: ...

    @abstractmethod
    async def delete(self, operation: Delete) -> int: ...

    @abstractmethod
    async def count(self, operation: Count) -> int: ...

    @abstractmethod
    async def explain(self, operation: Explain) -> dict[str, Any]: ...

    async def stream(self, operation: Stream) -> AsyncGenerator[list[Document], None]:
        """Keyset pages: no cursor and no connection is held between two of them."""
        return self._pages(operation)

    async def aggregate(self, operation: Aggregate) -> list[Document]:
        """The store counts, and sorts for a limit; the other stages run here, over a stream of the fields they read."""
        match operation.stages:
            case ({"$count": name}, *rest):
                number = await self.count(Count(operation.where))
                return await run_pipeline(_batch([{name: number}] if number else []), rest)
        fields = self.schema.fields.items()
        sortable = [name for name, field in fields if field.kind not in (Kind.JSON, Kind.OTHER)]
        asked = plan(operation.stages, self.schema.key, self.schema.fields, sortable, is_open=self.schema.open)
        if asked.limit is not None:
            find = Find(operation.where, asked.order_by, asked.skip, asked.limit, asked.fields)
            return await run_pipeline(_batch(await self.find(find)), asked.stages)
        stream = Stream(operation.where, fields=asked.fields)
        return await run_pipeline(await self.stream(stream), asked.stages)

    @abstractmethod
    async def prepare(self) -> None:
        """Connect, and ensure the collection. Every operation does so by itself."""

    @property
    @abstractmethod
    def collection(self) -> Any:
        """The driver's own handle of the collection, or the description that statements are made from."""

    @property
    def db(self) -> Any:
        """What the collection is in: on stores whose driver has no name for it, the manager."""
        return self.manager

    @property
    @abstractmethod
    def native(self) -> Any:
        """The driver's own object behind the collection: client, pool, engine; connected."""

    @classmethod
    async def begin(cls, manager: ConnectionManager[Any]) -> Transaction:
        """Begin a transaction on a connection. Without the capability nothing is sent."""
        raise UnsupportedOperationError(
            f"{manager.name} ({manager.connection_type}) has no transactions: use another connection"
        )

    def from_reader(self) -> Self:
        """The same collection, read from a replica, and so perhaps as it was a moment ago."""
        raise UnsupportedOperationError(
            f"{self.manager.name} ({self.manager.connection_type}) has no reader: only one to PostgreSQL has, its "
            "`reader_url`"
        )

    def within(self, transaction: Transaction) -> Self:
        """The same collection, whose operations belong to the transaction."""
        view = copy.copy(self)
        view.transaction = transaction
        return view

    async def _pages(self, operation: Stream) -> AsyncGenerator[list[Document], None]:
        order = complete(operation.order_by, self.schema.key)
        names = {each.field for each in order}
        fields = operation.fields and tuple(dict.fromkeys((*operation.fields, *names)))
        where = operation.where
        while True:
            documents = await self.find(Find(where, order, limit=operation.batch_size, fields=fields))
            if documents:
                last = documents[-1]
                where = both(operation.where, following([last[each.field] for each in order], order))
                yield documents
            if len(documents) < operation.batch_size:
                return

    @property
    def handlers(self) -> Mapping[type[Operation], Handler]:
        return {
            Insert: self.insert,
            Upsert: self.upsert,
            Find: self.find,
            Stream: self.stream,
            Explain: self.explain,
            Aggregate: self.aggregate,
            Update: self.update,
            Delete: self.delete,
            Count: self.count,
        }


BackendRegistry: Registry[type[StorageBackend]] = Registry(
    "storage backend",
    {
        ConnectionType.MONGODB: ".db.backends.mongodb:MongoDBBackend",
        ConnectionType.POSTGRES: ".db.backends.postgres:PostgresBackend",
        ConnectionType.REDIS: ".db.backends.redis:RedisBackend",
        ConnectionType.SQLITE: ".db.backends.sqlite:SQLiteBackend",
    },
    entry_point_group="manystore.backends",
)


async def _batch(documents: list[Document]) -> AsyncGenerator[list[Document], None]:
    yield documents
