"""The migrations of all connections of a DataLayer."""

from collections.abc import Iterable
from typing import Any, Protocol

from ...config import Settings
from ...connections import ConnectionManager
from ...core.constants import ConnectionType
from ...core.errors import ConfigurationError, did_you_mean
from .migrator import Events, Migrator, Report
from .runner import StepMigrator
from .schemas import schemas_on
from .store import MigrationStoreRegistry

_SQL = (ConnectionType.POSTGRES, ConnectionType.SQLITE)


class Host(Protocol):
    """A DataLayer, as migrations see it."""

    settings: Settings

    def connection(self, name: str) -> ConnectionManager[Any]: ...

    def repository(self, name: Any) -> Any: ...

    @property
    def repositories(self) -> Iterable[Any]: ...

    @property
    def relational(self) -> Any: ...


class Migrations:
    """`data.migrations`: each connection has a directory of its name below `migrations.path`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._settings = host.settings.migrations
        self.path = self._settings.path.expanduser()

    def of(self, connection: str) -> Migrator:
        """The migrations of one connection; ConfigurationError for one that is not configured."""
        manager = self._host.connection(connection)
        directory, wait = self.path / manager.name, self._settings.wait
        if manager.connection_type in _SQL:
            from .sql.migrator import SQLMigrator  # noqa: PLC0415 - Alembic and SQLAlchemy

            return SQLMigrator(manager.name, directory, manager, self._host, wait=wait)
        store = MigrationStoreRegistry.get(manager.connection_type)(manager, schemas_on(self._host, manager))
        return StepMigrator(manager.name, directory, store, wait=wait)

    def connections(self) -> list[str]:
        """Those that have a directory of migrations, in the order of the settings."""
        known = self._host.settings.connections
        directories = {each.name for each in self.path.iterdir() if each.is_dir()} if self.path.is_dir() else set()
        for name in sorted(directories - {*known}):
            if not name.startswith((".", "_")):
                raise ConfigurationError(
                    f"{self.path / name} is called like no connection{did_you_mean(name, known)}; "
                    f"there is: {', '.join(known)}"
                )
        return [name for name in known if name in directories]

    def possible(self) -> list[str]:
        """Those whose store can be migrated, with a directory or without."""
        kinds = {*_SQL, *MigrationStoreRegistry.names()}
        return [name for name, each in self._host.settings.connections.items() if each.type in kinds]

    def write_alembic_ini(self) -> None:
        """Let the command `alembic` work on the SQL connections that have migrations: an `alembic.ini` beside them."""
        kinds = {name: each.type for name, each in self._host.settings.connections.items()}
        directories = {name: self.path / name for name in self.connections() if kinds[name] in _SQL}
        if directories:
            from .sql.configuration import write_ini  # noqa: PLC0415 - Alembic

            write_ini(self.path.absolute().parent / "alembic.ini", directories)

    async def up(self, *, events: Events | None = None) -> list[Report]:
        """Apply what is pending on every connection that has migrations, one after the other."""
        return [await self.of(name).up(events=events) for name in self.connections()]
