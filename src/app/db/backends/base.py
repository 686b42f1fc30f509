"""What a store has to do to hold a collection, and what it must know of it."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from ...connections.base import ConnectionManager
from ...core.constants import ConnectionType
from ...core.registry import Registry
from ..models.schema import FieldSchema
from ..query.operations import Count, Delete, Document, Find, Insert, Operation, Update
from ..query.predicates import ALL, Predicate, both

Handler: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Carries out an operation of one type; its result is what the operation's class says."""


class Capability(StrEnum):
    """What not every store can do. Where it is missing, the operation that needs it raises before any write."""

    TTL = "ttl"
    UNIQUE_INDEX = "unique index"
    PARTIAL_INDEX = "partial index"


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


class StorageBackend(ABC):
    """One collection on one store. Everything it needs there is ensured once, on first use, by any number of processes.

    The driver's errors leave it as ours, `raise … from` the driver's.
    """

    capabilities: ClassVar[frozenset[Capability]]

    def __init__(self, manager: ConnectionManager[Any], schema: CollectionSchema) -> None:
        self.manager = manager
        self.schema = schema

    @abstractmethod
    async def insert(self, operation: Insert) -> tuple[Document, ...]: ...

    @abstractmethod
    async def find(self, operation: Find) -> list[Document]: ...

    @abstractmethod
    async def update(self, operation: Update) -> list[Document] | int: ...

    @abstractmethod
    async def delete(self, operation: Delete) -> int: ...

    @abstractmethod
    async def count(self, operation: Count) -> int: ...

    @property
    @abstractmethod
    def collection(self) -> Any:
        """The driver's own handle of the collection, or the description that statements are made from."""

    @property
    def handlers(self) -> Mapping[type[Operation], Handler]:
        return {
            Insert: self.insert,
            Find: self.find,
            Update: self.update,
            Delete: self.delete,
            Count: self.count,
        }


BackendRegistry: Registry[type[StorageBackend]] = Registry(
    "storage backend",
    {
        ConnectionType.REDIS: ".db.backends.redis:RedisBackend",
        ConnectionType.SQLITE: ".db.backends.sqlite:SQLiteBackend",
    },
    entry_point_group="manystore.backends",
)
