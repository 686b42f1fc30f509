"""Which manager serves which kind of store, and the live managers of one DataLayer by their names in the YAML."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from ..config.settings import ConnectionSettings, Settings, SQLiteSettings
from ..core.constants import ConnectionType
from ..core.current import on_current
from ..core.errors import ConfigurationError, MissingDependencyError, NotRegisteredError
from ..core.registry import Registry
from ..core.utils.logger import get_logger
from .base import ConnectionManager
from .closing import close_each

logger = get_logger(__name__)

ConnectionRegistry: Registry[type[ConnectionManager[Any]]] = Registry(
    "connection manager",
    {
        ConnectionType.SQLITE: ".connections.sqlite:SQLiteConnectionManager",
        ConnectionType.CHROMADB: ".connections.chromadb:ChromaDBConnectionManager",
        ConnectionType.MONGODB: ".connections.mongodb:MongoDBConnectionManager",
        ConnectionType.POSTGRES: ".connections.postgres:PostgresConnectionManager",
        ConnectionType.QDRANT: ".connections.qdrant:QdrantConnectionManager",
        ConnectionType.REDIS: ".connections.redis:RedisConnectionManager",
    },
    entry_point_group="manystore.connections",
)


class ConnectionFactory:
    """The live managers of one DataLayer. Called on the class, each method acts on the current DataLayer's."""

    _layer_attribute = "connections"

    def __init__(self, settings: Settings, *, close_with_loop: bool = False) -> None:
        self._settings = settings
        self._close_with_loop = close_with_loop
        self._data_dir = settings.data_dir.expanduser().absolute()
        self._managers: dict[str, ConnectionManager[Any]] = {}
        self._closed = False

    @on_current
    def get_connection_manager(self, name: str | ConnectionType) -> ConnectionManager[Any]:
        """Return the manager for a name of the settings, or for a type: the same one at each call, not yet connected.

        A type means the connection that is called like it, else the only one of that type.
        """
        if self._closed:
            raise ConfigurationError("this DataLayer is closed: open a new one with DataLayer.from_config(...)")
        key = self._resolve(name)
        manager = self._managers.get(key)
        if manager is None:
            section = self._section(key)
            manager_class = ConnectionRegistry.get(section.type)
            manager = manager_class(section, name=key, data_dir=self._data_dir)
            manager.closes_with_loop = manager.closes_with_loop or self._close_with_loop
            # Another thread may have been here first; a manager that was never connected costs nothing.
            manager = self._managers.setdefault(key, manager)
        return manager

    @on_current
    def list_available_connections(self) -> list[str]:
        """The configured names whose packages are installed and whose variables are set."""
        return [name for name in self._settings.connections if self._is_available(name)]

    @on_current
    def is_connection_available(self, name: str | ConnectionType) -> bool:
        try:
            return self._is_available(self._resolve(name))
        except (NotRegisteredError, ConfigurationError):
            return False

    @on_current
    def get_connection_status(self) -> dict[str, str]:
        """Each configured name with `connected`, `not connected` or why it cannot be; nothing is opened."""
        return {name: self._status(name) for name in self._settings.connections}

    @on_current
    async def close_all(self) -> None:
        """Close what is open, the youngest first; the next use opens it again."""
        managers = list(self._managers.values())
        await close_each((str(each), each.disconnect_all) for each in reversed(managers))

    async def close(self) -> None:
        """Close everything for good, the youngest first."""
        self._closed = True
        managers, self._managers = list(self._managers.values()), {}
        await close_each((str(each), each.close) for each in reversed(managers))

    @property
    def opened(self) -> Mapping[str, ConnectionManager[Any]]:
        """The managers asked for so far, oldest first."""
        return self._managers

    def of_type(self, connection_type: str) -> str | None:
        """The name that stands for a type, or None when no connection is of that type."""
        names = [name for name, section in self._settings.connections.items() if section.type == connection_type]
        if connection_type in names or not names:
            return connection_type if names else None
        if len(names) > 1:
            raise ConfigurationError(
                f"several connections are of type {connection_type}: name one of {', '.join(names)}"
            )
        return names[0]

    def _resolve(self, name: str) -> str:
        if name in self._settings.connections:
            return str(name)
        by_type = self.of_type(name)
        if by_type is None:
            raise NotRegisteredError.for_name("connection", str(name), self._settings.connections)
        return by_type

    def _section(self, name: str) -> ConnectionSettings:
        section = self._settings.connections[name]
        if isinstance(section, SQLiteSettings):
            return section
        if section.url is None:
            variable = self._settings.unset_variable("connections", name, "url")
            if variable:
                raise ConfigurationError(f"the connection {name!r} is not configured: set {variable}")
            if section.type not in _DIRECTORY_WITHOUT_URL:
                raise ConfigurationError(f"the connection {name!r} is not configured: it needs a url")
        return section

    def _is_available(self, name: str) -> bool:
        try:
            manager = self.get_connection_manager(name)
        except (ConfigurationError, NotRegisteredError, MissingDependencyError):
            return False
        return all(find_spec(module) is not None for module in manager.requires)

    def _status(self, name: str) -> str:
        manager = self._managers.get(name)
        if manager is not None and manager.connected:
            return "connected"
        try:
            self._section(name)
        except ConfigurationError as error:
            return str(error)
        return "not connected"


# Without a url, this engine is a directory of its own.
_DIRECTORY_WITHOUT_URL = frozenset({ConnectionType.CHROMADB})
