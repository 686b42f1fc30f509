"""Repositories on one connection of a pool, held for as long as a block lasts."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from ...connections import ConnectionFactory, ConnectionManager
from ...core.constants import ConnectionType
from ...core.errors import ConfigurationError
from .base import Repository
from .registry import RepositoryRegistry

if TYPE_CHECKING:
    from ..backends._postgres_transaction import PostgresTransaction

RepositoryT = TypeVar("RepositoryT", bound=Repository[Any])


class RepositoryPool:
    """`async with RepositoryPool(manager) as pool:`, then `pool.repository(UserRepository)`.

    On PostgreSQL the block holds one connection, and what its repositories do runs there, each statement for itself:
    settings, temporary tables and advisory locks of the session hold for all of them. It takes one caller at a time.
    Through a pooler (`pooled`) there is no such session: UnsupportedOperationError.
    The drivers of the other stores have one client for all, so there it connects and holds nothing. Without a manager
    it is the PostgreSQL connection of the current DataLayer.
    """

    def __init__(self, connection_manager: ConnectionManager[Any] | None = None) -> None:
        self._given = connection_manager
        self._manager: ConnectionManager[Any] | None = None
        self._session: PostgresTransaction | None = None

    @property
    def manager(self) -> ConnectionManager[Any]:
        if self._manager is None:
            raise ConfigurationError("this pool holds no connection: use it as `async with RepositoryPool(…) as pool`")
        return self._manager

    @property
    def connection(self) -> Any:
        """The driver's connection that is held, or its client."""
        return self.manager.live if self._session is None else self._session.connection

    @overload
    def repository(self, name: str) -> Any: ...
    @overload
    def repository(self, name: type[RepositoryT]) -> RepositoryT: ...
    def repository(self, name: str | type[Repository[Any]]) -> Repository[Any]:
        """Return the repository of that class or registered name, on the connection that is held."""
        kind = RepositoryRegistry.get_class(name) if isinstance(name, str) else name
        repository = kind(self.manager)
        return repository if self._session is None else repository.within(self._session)

    def stats(self) -> dict[str, int]:
        """Connections and callers of the running loop's pool; empty where the driver does not tell."""
        tell = getattr(self.manager, "get_pool_stats", None)
        return {} if tell is None else dict(tell())

    async def __aenter__(self) -> Self:
        if self._manager is not None:
            raise ConfigurationError("this pool holds a connection already: make one for each task")
        manager = self._given or ConnectionFactory.get_connection_manager(ConnectionType.POSTGRES)
        self._manager = manager
        try:
            client = await manager.connect()
            if manager.connection_type == ConnectionType.POSTGRES:
                from ..backends._postgres_session import PostgresSession  # noqa: PLC0415 - an optional package

                self._session = await PostgresSession.open(client)
        except BaseException:
            self._manager = None
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session, self._manager = self._session, None, None
        if session is not None:
            await session.rollback()
