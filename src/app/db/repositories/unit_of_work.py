"""Several operations as one: a transaction on one connection, with the repositories that take part in it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from ...connections.base import ConnectionManager
from ...core.errors import TransactionError
from ..backends.base import Transaction

if TYPE_CHECKING:
    from .placed import PlacedRepository

RepositoryT = TypeVar("RepositoryT", bound="PlacedRepository[Any] | None")


class _State(Enum):
    NEW = "has not begun: use it as `async with … as tx`"
    OPEN = "is open"
    COMMITTED = "was committed"
    ROLLED_BACK = "was rolled back"


class UnitOfWork(Generic[RepositoryT]):
    """A transaction: `async with data.transaction("postgres") as tx:`, then `tx.repository("user")`.

    Leaving the block commits; any exception, a cancellation too, rolls back, and so does `await tx.rollback()`. After
    `await tx.commit()` nothing more can be done in it. Made by `repo.transaction()` it has that repository's methods
    too. One transaction is for one task at a time.
    """

    def __init__(
        self,
        begin: Callable[[], Awaitable[Transaction]],
        manager: ConnectionManager[Any],
        find: Callable[[Any], "PlacedRepository[Any]"],
        primary: "PlacedRepository[Any] | None" = None,
    ) -> None:
        self._begin = begin
        self._manager = manager
        self._find = find
        self._primary = primary
        self._state = _State.NEW
        self._transaction: Transaction | None = None
        self._views: dict[int, tuple[PlacedRepository[Any], PlacedRepository[Any]]] = {}

    def repository(self, name: Any) -> Any:
        """Return the repository as `data.repository` does, in this transaction; it must live on its connection."""
        repository = self._find(name)
        if repository.manager is not self._manager:
            raise TransactionError(
                f"{name!r} lives on {repository.manager.name!r} and this transaction on {self._manager.name!r}: "
                "a transaction is of one connection"
            )
        return self._view(repository)

    async def commit(self) -> None:
        """Make all of it last. On an error nothing of it does."""
        transaction = self._open()
        self._state = _State.ROLLED_BACK
        await transaction.end(commit=True)
        self._state = _State.COMMITTED

    async def rollback(self) -> None:
        transaction = self._open()
        self._state = _State.ROLLED_BACK
        await transaction.end(commit=False)

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None, None]:
        """Undo what is done inside when it raises; the transaction goes on."""
        async with self._open().savepoint():
            yield

    async def __aenter__(self) -> Self:
        if self._state is not _State.NEW:
            raise TransactionError(f"this transaction {self._state.value}: begin another")
        self._transaction = await self._begin()
        self._state = _State.OPEN
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._state is not _State.OPEN:
            return
        if exc is None:
            await self.commit()
        else:
            await self.rollback()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._primary is None:
            raise AttributeError(f"a transaction has no {name!r}: reach it through tx.repository(…)")
        return getattr(self._view(self._primary), name)

    def _view(self, repository: "PlacedRepository[Any]") -> "PlacedRepository[Any]":
        """The repository in this transaction: the same one at each call."""
        found = self._views.get(id(repository))
        if found is None:
            found = self._views[id(repository)] = (repository, repository.within(self._open()))
        self._open()
        return found[1]

    def _open(self) -> Transaction:
        if self._state is not _State.OPEN:
            raise TransactionError(f"this transaction {self._state.value}")
        return cast("Transaction", self._transaction)
