"""One cross-cutting rule for all operations of all stores, and the chain they are called in."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self, TypeAlias

from pydantic import BaseModel

from ..backends.base import CollectionSchema, Handler, StorageBackend
from ..cache.cache import Cache
from ..query.operations import Operation

CallNext: TypeAlias = Callable[[Operation], Awaitable[Any]]


class Visibility(Enum):
    """Which records are there for a repository whose model is soft-deleted."""

    LIVE = "live"
    ALL = "all"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class CacheRule:
    """What a repository keeps in which cache. Without a `ttl` single records are not kept, and writes mark it only."""

    cache: Cache
    ttl: float | None
    absent_ttl: float


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a repository asks for, by its model and its class."""

    model: type[BaseModel]
    visibility: Visibility = Visibility.LIVE
    cache: CacheRule | None = None


class Middleware(ABC):
    """Sees an operation before the store does, may change it (also into one of another type), and sees the result."""

    handles: ClassVar[tuple[type[Operation], ...]]
    """The operations that pass through; the others are called as if the middleware were not there."""

    @classmethod
    @abstractmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        """The rule as the repository declares it; None where it does not."""

    def adapt(self, schema: CollectionSchema) -> CollectionSchema:
        """Say what the rule needs of the collection, such as a condition on its unique indexes."""
        return schema

    def attached(self, store: "Store") -> "Middleware":
        """The rule on one store. One that asks more of it than the operation at hand returns another of itself."""
        del store
        return self

    @abstractmethod
    def __call__(self, operation: Any, call_next: CallNext) -> Awaitable[Any]:
        """Usually `async def`. What only changes the operation returns `call_next(…)`: no frame for each call then."""


class Store:
    """What lies behind a middleware: the rest of the chain, and the connection that its operations go to."""

    def __init__(
        self, backend: StorageBackend, inner: Sequence[Middleware], handlers: Mapping[type[Operation], Handler]
    ) -> None:
        self.backend = backend
        self._inner = inner
        self._handlers = handlers

    def run(self, operation: Operation) -> Awaitable[Any]:
        """Carry out an operation as if it came from the middleware in front."""
        return self._handlers[type(operation)](operation)

    def beside(self, schema: CollectionSchema) -> StorageBackend:
        """Another collection on the same connection, without middleware, in the same transaction if there is one."""
        backend = type(self.backend)(self.backend.manager, schema)
        transaction = self.backend.transaction
        return backend if transaction is None else backend.within(transaction)

    @asynccontextmanager
    async def atomically(self) -> "AsyncIterator[Store]":
        """The same store in a transaction, which is the caller's where there is one, and else commits at the end.

        UnsupportedOperationError where the store has no transactions.
        """
        if self.backend.transaction is not None:
            yield self
            return
        await self.backend.prepare()
        transaction = await self.backend.begin(self.backend.manager)
        try:
            backend = self.backend.within(transaction)
            yield Store(backend, self._inner, chain(self._inner, backend))
        except BaseException:
            await transaction.end(commit=False)
            raise
        await transaction.end(commit=True)


def chain(middleware: Sequence[Middleware], backend: StorageBackend) -> dict[type[Operation], Handler]:
    """The way from the repository to the store, built once, with only those on it that handle the operation."""
    current = dict(backend.handlers)
    for position in reversed(range(len(middleware))):
        store = Store(backend, middleware[position + 1 :], current)
        current = {**current, **_through(middleware[position].attached(store), current)}
    return current


def _through(middleware: Middleware, inner: Mapping[type[Operation], Handler]) -> dict[type[Operation], Handler]:
    def call_next(operation: Operation) -> Awaitable[Any]:
        return inner[type(operation)](operation)

    def handler(operation: Operation) -> Awaitable[Any]:
        return middleware(operation, call_next)

    return dict.fromkeys(middleware.handles, handler)
