"""The composition root: settings in, ready connections, repositories, stores and embeddings out."""

import asyncio
import os
import warnings
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from ..config import Settings, load
from ..connections import ConnectionFactory, ConnectionHealth, ConnectionManager
from ..core import current
from ..core.constants import VectorDBType
from ..core.errors import AppError, ConfigurationError, NotRegisteredError, did_you_mean
from ..core.sync import SyncLayer
from ..core.utils.logger import get_logger
from .backends.base import BackendRegistry, Transaction
from .cache.cache import Cache
from .cache.memory import MemoryStore
from .cache.policy import CachePolicy
from .cache.redis import RedisStore
from .models.schema import is_model
from .repositories.base import Repository
from .repositories.placement import Placement
from .repositories.registry import TABLE_CONNECTIONS, RepositoryRegistry
from .repositories.unit_of_work import UnitOfWork
from .statistics.base import StoreState, StoreStatistics, statistics_of
from .vector.providers.db_provider import VectorStoreFactory
from .vector.providers.embedding_provider import EmbeddingFactory

if TYPE_CHECKING:
    from contextvars import Token

    from ..connections.postgres import PostgresConnectionManager
    from ..connections.qdrant import QdrantConnectionManager
    from ..connections.redis import RedisConnectionManager
    from ..connections.sqlite import SQLiteConnectionManager
    from .migrations.migrations import Migrations
    from .relational.engines import Engines
    from .repositories.signup_session_repository import SignupSessionRepository
    from .repositories.user_repository import UserRepository
    from .vector.base import VectorDB
    from .vector.embeddings.model import EmbeddingModel

logger = get_logger(__name__)

RepositoryT = TypeVar("RepositoryT", bound=Repository[Any])
ModelT = TypeVar("ModelT")


class DataLayer:
    """Owns what is live: one manager for each connection, one instance for each name. Nothing connects before its use.

    Use it as `async with DataLayer.from_config(...) as data:`, or `await data.close()` at the end. Inside the `async
    with`, calls that name no layer (`UserRepository()`, `VectorStoreFactory.get_vector_store(...)`) mean this one; so
    they do outside, while it is the only one open in the process.
    """

    def __init__(self, settings: Settings, *, close_with_loop: bool = False) -> None:
        self.settings = settings
        self.connections = ConnectionFactory(settings, close_with_loop=close_with_loop)
        self.embeddings = EmbeddingFactory(settings, self.connections)
        self.vector_stores = VectorStoreFactory(settings, self.connections, self.embeddings)
        self._repositories: dict[Any, Repository[Any]] = {}
        self._features: dict[tuple[ConnectionManager[Any], str], tuple[bool, ...]] = {}
        self._token: Token[current.Layer | None] | None = None
        self._closed = False
        self._forgettable = close_with_loop
        self._unmigrated = False

    @classmethod
    def from_config(
        cls, config: str | os.PathLike[str] | Mapping[str, Any] | Settings | None = None, *, migrate: bool = False
    ) -> "DataLayer":
        """Build from a YAML file, a dict of the same shape, settings, or None.

        None means the file that MANYSTORE_CONFIG names, else `config/default.yaml`, else the embedded default. No I/O
        but reading the file. ConfigurationError names the file, the line and what is wrong there.

        With `migrate`, entering it applies what is pending of all connections' migrations, before anything else is
        used: `async with`, the `with` of `sync()`, or `await data.start()` where neither is at hand. MigrationError
        where that cannot be, and then nothing is open.
        """
        layer = cls(load(config))
        layer._unmigrated = migrate
        current.opened(layer)
        return layer

    async def start(self) -> None:
        """Apply pending migrations where `from_config` was told to; entering the layer does it."""
        self._refuse_if_closed()
        if self._unmigrated:
            self._unmigrated = False
            try:
                await self.migrations.up()
            except BaseException:
                self._unmigrated = True
                raise

    @overload
    def connection(self, name: Literal["sqlite"]) -> "SQLiteConnectionManager": ...
    @overload
    def connection(self, name: Literal["postgres"]) -> "PostgresConnectionManager": ...
    @overload
    def connection(self, name: Literal["redis"]) -> "RedisConnectionManager": ...
    @overload
    def connection(self, name: Literal["qdrant"]) -> "QdrantConnectionManager": ...
    @overload
    def connection(self, name: str) -> Any: ...
    def connection(self, name: str) -> ConnectionManager[Any]:
        """Return the manager of the connection of that name, or of that type: the same one at each call."""
        if self._unmigrated:
            self._refuse_unready()
        return self.connections.get_connection_manager(name)

    @overload
    def repository(self, name: Literal["user"]) -> "UserRepository": ...
    @overload
    def repository(self, name: Literal["signup_session"]) -> "SignupSessionRepository": ...
    @overload
    def repository(self, name: str) -> Any: ...
    @overload
    def repository(self, name: type[RepositoryT]) -> RepositoryT: ...
    @overload
    def repository(self, name: type[ModelT]) -> Repository[ModelT]: ...
    def repository(self, name: str | type[Any]) -> Repository[Any]:
        """Return the repository by its registered name, by its class, or for a model: the same one at each call."""
        self._refuse_unready()
        repository = self._repositories.get(name)
        if repository is None:
            repository = _repository_class(name)(self)
            self._refuse_another_way(repository)
            # Another thread may have been here first.
            repository = self._repositories.setdefault(name, repository)
        return repository

    def transaction(self, connection: str) -> UnitOfWork[None]:
        """Begin a transaction on a connection: `async with data.transaction("postgres") as tx:`.

        `tx.repository("user")` takes part in it, where it lives on that connection.
        """
        self._refuse_unready()
        manager = self.connections.get_connection_manager(connection)

        async def begin() -> Transaction:
            return await BackendRegistry.get(manager.connection_type).begin(manager)

        return UnitOfWork(begin, manager, self.repository)

    def vector_store(self, name: str | VectorDBType) -> "VectorDB":
        self._refuse_unready()
        return self.vector_stores.get_vector_store(name)

    def embedding(self, name: str = "default") -> "EmbeddingModel":
        """Return the embedding model under that name of the settings."""
        self._refuse_unready()
        return self.embeddings.embedding(name)

    def sync(self) -> SyncLayer:
        """Return the same without `await`, for code that has no event loop: `with layer.sync() as data:`.

        A thread of its own runs the loop, so any number of threads may use it; leaving the `with` closes this layer
        and ends the thread. In a thread whose event loop is running each call raises ConfigurationError.
        """
        self._refuse_if_closed()
        return SyncLayer(self)

    async def health(self) -> dict[str, ConnectionHealth]:
        """Ask every configured connection for a sign of life, all at once. An outage is an answer, not an error."""
        names = list(self.settings.connections)
        return dict(zip(names, await asyncio.gather(*map(self._health_of, names)), strict=True))

    async def statistics(self, *connections: str) -> dict[str, StoreStatistics]:
        """Ask the named connections, or all, what is in their stores: sizes, rows, indexes and their use, the pool.

        All at once, each within its `timeout`; nothing is written. An outage is an answer, not an error.
        docs/maintenance.md says what it costs.
        """
        for name in connections:
            if name not in self.settings.connections:
                raise NotRegisteredError.for_name("connection", name, self.settings.connections)
        names = list(connections or self.settings.connections)
        return dict(zip(names, await asyncio.gather(*map(self._statistics_of, names)), strict=True))

    async def close(self) -> None:
        """Close everything that was opened, the youngest first, on all loops; idempotent."""
        if self._closed:
            return
        self._closed = True
        current.closed(self)
        self._repositories.clear()
        try:
            await self.vector_stores.close_all()
            if "relational" in self.__dict__:
                await self.relational.close()
            await self.embeddings.close_all()
        finally:
            await self.connections.close()

    @cached_property
    def cache(self) -> Cache:
        """Where the repositories that ask for it keep answers: in Redis, or in this process."""
        settings = self.settings.cache
        if settings.connection is None:
            return Cache(MemoryStore(settings.max_entries))
        return Cache(RedisStore(self.connections.get_connection_manager(settings.connection), settings.prefix))

    @cached_property
    def migrations(self) -> "Migrations":
        """The migrations of each connection: `await data.migrations.of("postgres").status()`."""
        from .migrations.migrations import Migrations  # noqa: PLC0415 - Alembic is loaded on use

        return Migrations(self)

    @property
    def repositories(self) -> tuple[Repository[Any], ...]:
        """Those that were asked for so far."""
        return tuple(self._repositories.values())

    @cached_property
    def relational(self) -> "Engines":
        """The engines of SQLAlchemy's, for `app.db.relational`."""
        self._refuse_unready()
        from .relational.engines import Engines  # noqa: PLC0415 - on use only

        return Engines(self.settings, self.connections)

    @property
    def closed(self) -> bool:
        return self._closed

    def place(self, repository: type[Repository[Any]]) -> Placement:
        """Where a repository lives: where the settings say, else on the best of the types it was made for."""
        self._refuse_unready()
        name = repository.registered_name or repository.COLLECTION_NAME
        section = self.settings.repositories.get(name)
        if section is None:
            self._refuse_misspelt(name)
        else:
            manager = self.connections.get_connection_manager(section.connection)
            given = section.cache
            policy = None if given is None else CachePolicy(given.ttl, given.absent_ttl)
            return Placement(
                manager,
                section.collection,
                section.ttl,
                keeps_history=section.keeps_history,
                audited=section.audited,
                policy=policy,
                cache=self.cache,
                reads_from_reader=section.reads_from == "reader",
            )
        if repository.connections is TABLE_CONNECTIONS:
            return Placement(self.relational.connection, cache=self.cache)  # where sessions are
        for connection_type in repository.connections:
            connection = self.connections.of_type(connection_type)
            if connection is not None:
                return Placement(self.connections.get_connection_manager(connection), cache=self.cache)
        raise ConfigurationError(
            f"the repository {name!r} is placed on no connection: "
            f"add `{name}: {{connection: …}}` under `repositories`, or a connection of type "
            f"{' or '.join(repository.connections)}"
        )

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        self._token = current.enter(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            current.leave(self._token)
            self._token = None
        await self.close()

    def __del__(self) -> None:
        if self._closed or self._forgettable:
            return
        opened = [manager for manager in self.connections.opened.values() if manager.connected]
        if opened:
            names = ", ".join(manager.name for manager in opened)
            warnings.warn(
                f"a DataLayer was forgotten with {names} open: use `async with`", ResourceWarning, stacklevel=2
            )
            for manager in opened:
                manager.abandon()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ConfigurationError("this DataLayer is closed: open a new one with DataLayer.from_config(...)")

    def _refuse_unready(self) -> None:
        self._refuse_if_closed()
        if self._unmigrated:
            raise ConfigurationError(
                "this DataLayer is to migrate first: enter it (`async with data:`), or `await data.start()`"
            )

    def _refuse_another_way(self, repository: Repository[Any]) -> None:
        """Of two repositories of one collection, one would write what the cache and the journal of the other miss."""
        features = repository.features
        known = self._features.setdefault((repository.manager, repository.stored_as), features)
        if known != features:
            raise ConfigurationError(
                f"{type(repository).__name__}: another repository of {repository.stored_as!r} has another cache, audit "
                "log or history than this one; give both the same, in the class or under `repositories`"
            )

    def _refuse_misspelt(self, name: str) -> None:
        """An entry under `repositories` that nothing is called, and that is nearly this one, was meant for it."""
        nameless = [each for each in self.settings.repositories if each not in RepositoryRegistry.names()]
        if did_you_mean(name, nameless):
            near = did_you_mean(name, nameless)
            raise ConfigurationError(f"the repository {name!r} has no entry under `repositories`{near}")

    async def _health_of(self, name: str) -> ConnectionHealth:
        try:
            return await self.connections.get_connection_manager(name).health()
        except AppError as error:
            kind = self.settings.connections[name].type
            return ConnectionHealth(name, kind, healthy=False, detail=str(error))

    async def _statistics_of(self, name: str) -> StoreStatistics:
        section = self.settings.connections[name]
        state = StoreState.UNAVAILABLE
        try:
            return await statistics_of(self.connections.get_connection_manager(name))
        except AppError as error:
            if isinstance(error, ConfigurationError) and getattr(section, "url", "") is None:
                state = StoreState.NOT_CONFIGURED
            return StoreStatistics(name, section.type, state, error=str(error))


def _repository_class(name: object) -> type[Repository[Any]]:
    if isinstance(name, str):
        return RepositoryRegistry.get_class(name)
    if isinstance(name, type) and issubclass(name, Repository):
        return name
    if isinstance(name, type) and is_model(name):
        registered = RepositoryRegistry.classes_of(name)
        if len(registered) > 1:
            names = ", ".join(repr(each.registered_name) for each in registered)
            raise ConfigurationError(f"{name.__name__} has several repositories: ask for one of {names}")
        if registered:
            return registered[0]
        return type(f"{name.__name__}Repository", (Repository,), {"model": name})
    raise TypeError(
        f"repository(…) takes a registered name, a Repository class or a pydantic model or mapped class, not {name!r}"
    )


def build_default() -> DataLayer:
    """The layer behind calls that name none while none is open. What it opens on a loop closes with that loop."""
    return DataLayer(load(), close_with_loop=True)
