"""One cross-cutting rule for all operations of all stores, and the chain they are called in."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel

from ...core.errors import AppError, DuplicateRecordError, TransactionError
from ..backends.base import Capability, CollectionSchema, Handler, StorageBackend, Transaction
from ..cache.cache import Cache
from ..cache.policy import CachePolicy
from ..query.operations import Operation

R = TypeVar("R")
CallNext: TypeAlias = Callable[[Operation], Awaitable[Any]]


class Visibility(Enum):
    """Which records are there for a repository whose model is soft-deleted."""

    LIVE = "live"
    ALL = "all"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class CacheRule:
    """What a repository keeps in which cache. Without a policy single records are not kept, and writes only mark it."""

    cache: Cache
    policy: CachePolicy | None


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a repository asks for, by its model and its class."""

    model: type[BaseModel]
    visibility: Visibility = Visibility.LIVE
    keeps_history: bool = False
    audited: bool = False
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
        return self.backend.companion(schema)

    async def has_transactions(self) -> bool:
        """Whether `atomically` can be used, which some stores know only once they are connected."""
        if self.backend.transaction is not None:
            return True
        await self.backend.prepare()
        return Capability.TRANSACTIONS in self.backend.capabilities

    async def atomically(
        self, work: Callable[["Store"], Awaitable[R]], *, turn: Hashable = None, again_on_duplicate: bool = False
    ) -> R:
        """Do several operations as one, on the same store in a transaction.

        In the caller's transaction they take part in it, and what is raised is the caller's to undo. Else they commit
        at the end, and are done again from the beginning, at most for some twenty times, where another writer was in
        the way (with `again_on_duplicate` once more where a unique value was taken meanwhile). Those on this loop that
        have the same `turn` go one after the other, and so are in nobody's way.
        """
        if self.backend.transaction is not None:
            return await self._inside(self.backend.transaction, work)
        async with self.in_turn(turn):
            attempt, duplicates = 0, int(again_on_duplicate)
            while True:
                attempt += 1
                # Inside the transaction it would be done for each of them, and undone with it.
                for each in (self.backend, *self.backend.companions.values()):
                    await each.prepare()
                transaction = await self.backend.begin(self.backend.manager)
                try:
                    return await self._within(transaction, work)
                except TransactionError:
                    if attempt == _ATTEMPTS:
                        raise
                except DuplicateRecordError:
                    duplicates -= 1
                    if duplicates < 0:
                        raise
                await asyncio.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.05)))  # noqa: S311 - no secret

    @asynccontextmanager
    async def in_turn(self, turn: Hashable) -> AsyncIterator[None]:
        """Wait for those on this loop that have the same turn of the collection; None waits for nobody."""
        if turn is None:
            yield
            return
        name = (asyncio.get_running_loop(), self.backend.manager, self.backend.schema.name, turn)
        lock = _turns.get(name)
        if lock is None:
            lock = _turns[name] = asyncio.Lock()
        async with lock:
            yield

    async def _inside(self, transaction: Transaction, work: Callable[["Store"], Awaitable[R]]) -> R:
        """In the caller's transaction, which must not commit a part of it: a caller may go on after a cancellation."""
        if Capability.SAVEPOINTS in self.backend.capabilities:
            async with transaction.savepoint():
                return await work(self)
        try:
            return await work(self)
        except AppError:
            raise
        except BaseException:
            transaction.spoil()
            raise

    async def _within(self, transaction: Transaction, work: Callable[["Store"], Awaitable[R]]) -> R:
        try:
            backend = self.backend.within(transaction)
            result = await work(Store(backend, self._inner, chain(self._inner, backend)))
        except BaseException:
            await transaction.end(commit=False)
            raise
        await transaction.end(commit=True)
        return result


_ATTEMPTS = 20
_turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()


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
