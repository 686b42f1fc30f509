"""Where a repository lives: its connection, its collection, and the chain from it to the store."""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ...connections.base import ConnectionManager
from ...core.errors import ConfigurationError, UnsupportedOperationError
from ..backends.base import BackendRegistry, Capability, CollectionSchema, Handler, Index, StorageBackend, Transaction
from ..cache.cache import Cache
from ..cache.memory import MemoryStore
from ..cache.policy import CachePolicy
from ..middleware import ORDER, CacheRule, Declaration, Middleware, Visibility, chain
from ..models.schema import ModelSchema
from ..query.operations import Aggregate, Count, Explain, Find, Operation, Stream
from ..query.predicates import ALL

_READS: tuple[type[Operation], ...] = (Find, Stream, Aggregate, Count, Explain)


@dataclass(frozen=True, slots=True)
class Placement:
    """What the settings say of a repository. None leaves it to the repository's class."""

    manager: ConnectionManager[Any]
    collection: str | None = None
    ttl: float | None = None
    keeps_history: bool | None = None
    audited: bool | None = None
    policy: CachePolicy | None = None
    cache: Cache | None = None
    """Where answers are kept; None means beside the connection."""
    reads_from_reader: bool = False


class Host(Protocol):
    """A DataLayer, as a repository sees it."""

    def place(self, repository: type[Any]) -> Placement: ...

    def repository(self, name: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Binding:
    """A repository on its store. Without I/O until the first operation."""

    backend: StorageBackend
    handlers: Mapping[type[Operation], Handler]
    ttl: float | None

    declaration: Declaration

    @property
    def writer(self) -> "Binding":
        """The same where nothing is read from a reader."""
        return self

    @property
    def cache(self) -> CacheRule | None:
        """Where reads are kept."""
        return self.declaration.cache

    def from_reader(self) -> "Binding":
        """Its reads go to the store's reader and past the cache, which would keep what a write has changed already."""
        reads = connect(self.backend.from_reader(), replace(self.declaration, cache=None), self.ttl).handlers
        handlers = {**self.handlers, **{kind: reads[kind] for kind in _READS}}
        return ReaderBinding(self.backend, handlers, self.ttl, self.declaration, self)

    def within(self, transaction: Transaction) -> "Binding":
        return connect(self.backend.within(transaction), self.declaration, self.ttl)

    def seeing(self, visibility: Visibility) -> "Binding":
        return connect(self.backend, replace(self.declaration, visibility=visibility), self.ttl)


@dataclass(frozen=True, slots=True)
class ReaderBinding(Binding):
    origin: Binding

    @property
    def writer(self) -> Binding:
        return self.origin

    @property
    def cache(self) -> CacheRule | None:
        return None

    def from_reader(self) -> Binding:
        return self

    def within(self, transaction: Transaction) -> Binding:
        return self.origin.within(transaction)

    def seeing(self, visibility: Visibility) -> Binding:
        return self.origin.seeing(visibility).from_reader()


def bind(
    placement: Placement,
    schema: ModelSchema[Any],
    *,
    collection: str,
    indexes: tuple[Index, ...],
    ttl: float | None,
    declaration: Declaration,
) -> Binding:
    backend_class = BackendRegistry.get(placement.manager.connection_type)
    lifetime = placement.ttl or ttl
    if lifetime is not None and declaration.cache is not None:
        raise ConfigurationError(f"{collection}: records that live for a time cannot be kept in a cache as well")
    if schema.table is not None:
        from ..backends._sql_mapped import indexes_of  # noqa: PLC0415 - it loads SQLAlchemy

        _require_table(schema, placement, backend_class, expires=lifetime is not None)
        indexes = indexes_of(schema.table, schema.fields)
    described = CollectionSchema(
        name=placement.collection or collection,
        key=schema.key,
        fields=schema.fields,
        indexes=indexes,
        expires=lifetime is not None,
        open=schema.open,
        table=schema.table,
    )
    for each in declared(declaration):
        described = each.adapt(described)
    _require(backend_class, described)
    backend = backend_class(placement.manager, described)
    return connect(backend, declaration, lifetime)


def connect(backend: StorageBackend, declaration: Declaration, ttl: float | None) -> Binding:
    return Binding(backend, chain(declared(declaration), backend), ttl, declaration)


def declared(declaration: Declaration) -> tuple[Middleware, ...]:
    """What the repository declares of all that there is, in its order."""
    found = (each.declared(declaration) for each in ORDER)
    return tuple(each for each in found if each is not None)


def cache_of(placement: Placement) -> Cache:
    """The cache of a repository that no DataLayer gave one: one for each connection, in this process."""
    if placement.cache is not None:
        return placement.cache
    return _caches.setdefault(placement.manager, Cache(MemoryStore()))


_caches: weakref.WeakKeyDictionary[ConnectionManager[Any], Cache] = weakref.WeakKeyDictionary()


def _require_table(
    schema: ModelSchema[Any], placement: Placement, backend: type[StorageBackend], *, expires: bool
) -> None:
    """A mapped class brings its table along."""
    name = schema.entity_class.__name__
    if not backend.has_tables:
        raise ConfigurationError(
            f"{name} is mapped to a table, and {placement.manager.name!r} ({placement.manager.connection_type}) has no "
            "tables: place its repository on a PostgreSQL or SQLite connection"
        )
    if placement.collection not in (None, str(schema.table)):
        raise ConfigurationError(f"{name} is mapped to the table {schema.table}, so `collection` cannot name another")
    if expires:
        raise ConfigurationError(
            f"{name} is mapped to a table, which has no column for a time to live: leave out `ttl`"
        )


def _require(backend: type[StorageBackend], schema: CollectionSchema) -> None:
    needed = {
        Capability.TTL: schema.expires,
        Capability.UNIQUE_INDEX: any(index.unique for index in schema.indexes),
        Capability.PARTIAL_INDEX: any(index.where != ALL for index in schema.indexes),
    }
    missing = [capability for capability, used in needed.items() if used and capability not in backend.capabilities]
    if missing:
        raise UnsupportedOperationError(
            f"{schema.name} needs {', '.join(missing)}, which {backend.__name__} has not: use another connection"
        )
