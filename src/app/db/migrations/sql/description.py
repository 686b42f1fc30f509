"""What the tables of a connection should be: those of its repositories, and those of declarative classes."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Protocol

import sqlalchemy as sa

from ....config import Settings
from ....connections.base import ConnectionManager
from ....core.errors import AppError, ConfigurationError
from ...backends._sql_backend import SQLBackend
from ...backends._sql_mapped import MappedTable
from ...backends._sql_table import Table
from ...models.base import Entity
from ...repositories.base import Repository
from ...repositories.registry import RepositoryRegistry

DESCRIBED: Final = "manystore"
"""In the `info` of a repository's table: the same with its indexes, which are not for Alembic to compare."""


class Host(Protocol):
    """A DataLayer, as migrations see it."""

    settings: Settings

    def connection(self, name: str) -> Any: ...

    def repository(self, name: Any) -> Any: ...

    @property
    def repositories(self) -> Iterable[Any]: ...

    @property
    def relational(self) -> Any: ...


def describe(host: Host, manager: ConnectionManager[Any], owners: Mapping[str, str]) -> sa.MetaData:
    """All tables of the connection with their indexes. `owners` has the table of each index that is there already.

    Index names are for a whole database, so one that another table has is lengthened, as on first use.
    """
    metadata = sa.MetaData()
    modules = [_imported(name) for name in host.settings.migrations.models]
    for each in _declared(host, manager):
        _copied(each, metadata)
    taken = dict(owners)
    for each in metadata.tables.values():
        taken |= {str(index.name): each.name for index in each.indexes}
    for backend in _backends(host, manager, modules):
        if backend.schema.name in metadata.tables:
            continue
        table = backend.table
        if isinstance(table, MappedTable):
            _copied(table.given, metadata)
        else:
            copy = table.table.to_metadata(metadata)
            copy.info[DESCRIBED] = table.described(sa.MetaData(), partial(_index_name, table, taken))
    return metadata


def _copied(table: sa.Table, metadata: sa.MetaData) -> None:
    """With the names of its constraints: what a column's `unique=True` stands for is made anew, and without one."""
    names = {
        tuple(each.columns.keys()): each.name for each in table.constraints if isinstance(each, sa.UniqueConstraint)
    }
    for each in table.to_metadata(metadata).constraints:
        if isinstance(each, sa.UniqueConstraint) and each.name is None:
            each.name = names[tuple(each.columns.keys())]


def _index_name(table: Table, taken: dict[str, str], own: str) -> str:
    name, longer = table.schema.name, table.lengthened(own)
    found = longer if taken.get(longer) == name or taken.get(own, name) != name else own
    taken[found] = name
    return found


def _imported(name: str) -> ModuleType | type[Any]:
    path, _, attribute = name.partition(":")
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"migrations.models: {path} cannot be imported: {error}") from error
    if not attribute:
        return module
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        raise ConfigurationError(f"migrations.models: {path} has no class {attribute}")
    return found


def _declared(host: Host, manager: ConnectionManager[Any]) -> Iterator[sa.Table]:
    """The tables of `app.db.relational`, where an application has imported it, on the connection of its sessions."""
    base = sys.modules.get(f"{__package__.rpartition('.migrations')[0]}.relational.base")
    if base is not None and base.Base.metadata.tables and host.relational.connection is manager:
        yield from base.Base.metadata.sorted_tables


def _backends(
    host: Host, manager: ConnectionManager[Any], listed: list[ModuleType | type[Any]]
) -> Iterator[SQLBackend]:
    """Those of the repositories on this connection, and of the collections beside them."""
    for each in _repositories(host, listed):
        try:
            backend = host.repository(each).backend if isinstance(each, str | type) else each.backend
        except AppError:
            if isinstance(each, str) and each not in host.settings.repositories:
                continue  # the library's own, which this application has no place for
            raise
        if backend.manager is manager:
            yield backend
            yield from backend.companions.values()


def _repositories(host: Host, listed: list[ModuleType | type[Any]]) -> Iterator[Any]:
    yield from host.repositories
    own = [name for name in RepositoryRegistry.names() if name in host.settings.repositories]
    yield from own
    classes = [each for place in listed for each in _classes(place)]
    yield from (each for each in classes if issubclass(each, Repository))
    served = {getattr(each, "model", None) for each in classes}
    served |= {getattr(RepositoryRegistry.get_class(name), "model", None) for name in RepositoryRegistry.names()}
    yield from (each for each in classes if not issubclass(each, Repository) and each not in served)
    yield from (name for name in RepositoryRegistry.names() if name not in own)


def _classes(place: ModuleType | type[Any]) -> Iterator[type[Any]]:
    """The repositories and entities that a module defines, but for those that only others are derived from."""
    if isinstance(place, type):
        yield place
        return
    for each in vars(place).values():
        if isinstance(each, type) and each.__module__ == place.__name__:
            is_model = issubclass(each, Entity) and not each.__subclasses__()
            if is_model or (issubclass(each, Repository) and hasattr(each, "model")):
                yield each
