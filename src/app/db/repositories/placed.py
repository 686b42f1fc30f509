"""What a repository is before anything is asked of it: its model, its connection, and the chain to the store."""

import copy
import weakref
from collections.abc import Awaitable, Callable
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, get_args, get_origin

from ...connections.adopt import adopted
from ...connections.base import ConnectionManager
from ...core import current
from ...core.errors import ConfigurationError
from ..backends.base import Capability, Index, StorageBackend, Transaction
from ..cache.cache import CacheStats
from ..cache.policy import CachePolicy
from ..middleware import CacheRule, Declaration, Visibility
from ..models.base import SoftDeletable
from ..models.naming import collection_name
from ..models.schema import ModelSchema, is_model, schema_of
from ..query.operations import Operation
from .cached import is_cached
from .placement import Binding, Host, Placement, bind, cache_of
from .registry import DEFAULT_CONNECTIONS, TABLE_CONNECTIONS

EntityT = TypeVar("EntityT")


class PlacedRepository(Generic[EntityT]):
    """Finds its store: at each call where it was made without one, so that it acts on the current DataLayer."""

    COLLECTION_NAME: ClassVar[str] = ""
    """The table or collection; by default the model's name in plural. `collection = "…"` says the same."""
    key: ClassVar[str] = "id"
    """The field that identifies a record."""
    indexes: ClassVar[tuple[Index, ...]] = ()
    ttl: ClassVar[float | None] = None
    """Seconds that a record lives after it was written."""
    keeps_history: ClassVar[bool] = False
    """Whether every state of a record is kept (`history`, `as_of`, `revert`); its model has to be Versioned."""
    audited: ClassVar[bool] = False
    """Whether every write leaves a row that says who did what (`audit_log`)."""
    cache: ClassVar[CachePolicy | None] = None
    """Keep what is read by id or by a unique field."""

    model: ClassVar[Any]
    """The class of its entities: a pydantic model, or a class that SQLAlchemy maps."""
    schema: ClassVar[ModelSchema[Any]]
    _has_cached_methods: ClassVar[bool] = False
    registered_name: ClassVar[str | None] = None
    connections: ClassVar[tuple[str, ...]] = DEFAULT_CONNECTIONS

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        named = cls.__dict__.get("collection")
        if isinstance(named, str):
            # `collection = "products"` in the class says what it is called; on an instance it is the store's handle.
            cls.COLLECTION_NAME = named
            del cls.collection
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin = get_origin(base)
            if not (isinstance(origin, type) and issubclass(origin, PlacedRepository)):
                continue
            (model,) = get_args(base)
            if isinstance(model, TypeVar):
                return
            if not is_model(model):
                raise ConfigurationError(
                    f"{cls.__name__}: Repository[…] takes a pydantic model class or a mapped class, not {model!r}"
                )
            cls.model = model
        cls._has_cached_methods = any(is_cached(getattr(cls, name, None)) for name in dir(cls))
        if hasattr(cls, "model"):
            cls.schema = schema_of(cls.model, cls.key)
            cls.key = cls.schema.key
            if cls.schema.table is not None:
                cls._adopt(cls.schema.table.name)
            cls.COLLECTION_NAME = cls.COLLECTION_NAME or collection_name(cls.model)

    @classmethod
    def _adopt(cls, table: str) -> None:
        """Live in the table of a mapped class, with the indexes that it has."""
        if cls.COLLECTION_NAME not in ("", table):
            raise ConfigurationError(
                f"{cls.__name__}: {cls.model.__name__} is mapped to the table {table!r}, so leave out the collection"
            )
        if cls.indexes:
            raise ConfigurationError(
                f"{cls.__name__}: declare the indexes in {cls.model.__name__}, whose table they are of"
            )
        cls.COLLECTION_NAME = table
        cls.keeps_history = cls.keeps_history or bool(getattr(cls.model, "__keeps_history__", False))
        cls.audited = cls.audited or bool(getattr(cls.model, "__audited__", False))
        if cls.connections is DEFAULT_CONNECTIONS:
            cls.connections = TABLE_CONNECTIONS

    def __init__(self, db: Any = None) -> None:
        """`db` is a DataLayer, one of its connections, or a driver's own asynchronous client or database."""
        if not hasattr(type(self), "schema"):
            raise ConfigurationError(f"{type(self).__name__} names no model: derive it from Repository[YourModel]")
        self._origin: Self | None = None
        self._visibility = Visibility.LIVE
        self._lens: Callable[[Binding], Binding] | None = None
        self._view: tuple[Binding, Binding] | None = None
        self._host: Host | None = None
        self._placement: Placement | None = None
        self._bound: Binding | None = None
        self._bindings: weakref.WeakKeyDictionary[Host, Binding] = weakref.WeakKeyDictionary()
        if db is None:
            return
        if isinstance(db, ConnectionManager):
            self._placement = Placement(db)
        elif hasattr(type(db), "place"):  # asked of the class, since a pymongo database has every attribute
            self._host = db
        else:
            manager = adopted(db)
            if manager is None:
                raise TypeError(
                    f"{type(self).__name__}(db=…) takes a DataLayer, a connection of one (data.connection('sqlite')), "
                    f"or a driver's asynchronous client, not {type(db).__module__}.{type(db).__name__}"
                )
            self._placement = Placement(manager)

    def with_deleted(self) -> Self:
        """The same repository, seeing deleted records too."""
        return self._seeing(Visibility.ALL)

    def only_deleted(self) -> Self:
        return self._seeing(Visibility.DELETED)

    def from_reader(self) -> Self:
        """The same repository, whose reads go to the `reader_url` of its connection, and may be older than its last
        write. Writes, transactions, the history and the audit log are the writer's.

        StoreUnavailableError while the reader is down: nothing falls back to the writer by itself.
        """
        return self._through(methodcaller("from_reader"))

    def from_writer(self) -> Self:
        """The same repository, where its settings say `reads_from: reader`, reading what was written last."""
        return self._through(attrgetter("writer"))

    @property
    def manager(self) -> ConnectionManager[Any]:
        """The manager of the connection that the records live on."""
        return self._binding.backend.manager

    @property
    def backend(self) -> StorageBackend:
        """What its operations end at."""
        return self._binding.backend

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the store can do that not every store can."""
        return self._binding.backend.capabilities

    @property
    def stored_as(self) -> str:
        """The name of the table or collection."""
        return self._binding.backend.schema.name

    @property
    def features(self) -> tuple[bool, ...]:
        """Whether its writes go to a cache, an audit log and a history."""
        declaration = self._binding.declaration
        return (declaration.cache is not None, declaration.audited, declaration.keeps_history)

    @property
    def cache_stats(self) -> CacheStats:
        """Hits, misses and failures of the cache that this repository uses, counted in this process."""
        rule = self._binding.declaration.cache
        return CacheStats() if rule is None else rule.cache.stats

    @property
    def db(self) -> Any:
        """What holds the collection: on MongoDB the driver's database, elsewhere the manager."""
        return self._binding.backend.db

    @property
    def native(self) -> Any:
        """The driver's own object, for what this contract has not. It knows nothing of soft deletes and the like."""
        return self._binding.backend.native

    if TYPE_CHECKING:
        collection: Any
    else:

        @property
        def collection(self) -> Any:
            """The store's own handle of the collection: on SQL stores the SQLAlchemy table."""
            return self._binding.backend.collection

    @property
    def _binding(self) -> Binding:
        if self._bound is not None:
            return self._bound
        if self._origin is not None:
            return self._binding_of_view(self._origin._binding)  # noqa: SLF001 - another instance of this class
        if self._placement is None and self._host is None:
            return self._bind_to(cast("Host", current.layer()))
        self._bound = self._bind(self._placement or cast("Host", self._host).place(type(self)))
        return self._bound

    def _binding_of_view(self, origin: Binding) -> Binding:
        if self._view is None or self._view[0] is not origin:
            self._view = (origin, origin if self._lens is None else self._lens(origin))
        return self._view[1]

    def _bind_to(self, host: Host) -> Binding:
        binding = self._bindings.get(host)
        if binding is None:
            binding = self._bindings[host] = self._bind(host.place(type(self)))
        return binding

    def _bind(self, placement: Placement) -> Binding:
        binding = bind(
            placement,
            self.schema,
            collection=self.COLLECTION_NAME,
            indexes=self.indexes,
            ttl=self.ttl,
            declaration=Declaration(
                self.schema.model,
                keeps_history=_first(placement.keeps_history, self.keeps_history),
                audited=_first(placement.audited, self.audited),
                cache=self._cache_rule(placement),
            ),
        )
        if not placement.reads_from_reader:
            return binding
        if binding.cache is not None:
            raise ConfigurationError(
                f"{self.COLLECTION_NAME}: reads from a reader are not kept in a cache, which would keep what a write "
                "has changed already; leave out `reads_from` or the cache, and ask `from_reader()` where it may be old"
            )
        return binding.from_reader()

    def _cache_rule(self, placement: Placement) -> CacheRule | None:
        policy = placement.policy or self.cache
        if policy is None and not self._has_cached_methods:
            return None
        return CacheRule(cache_of(placement), policy)

    def within(self, transaction: Transaction) -> Self:
        """The same repository, taking part in a transaction of its connection."""
        view = copy.copy(self)
        view._bound = self._binding.within(transaction)  # noqa: SLF001 - another instance
        return view

    def _run(self, operation: Operation) -> Awaitable[Any]:
        return (self._bound or self._binding).handlers[type(operation)](operation)

    def _key(self, value: Any) -> Any:
        """The id in the type of the key field, or None for what no record can have as id."""
        try:
            return self.schema.fields[self.key].accept(value)
        except ValueError:
            return None

    def _partner(self, name: Any) -> "PlacedRepository[Any]":
        """Another repository, for a transaction of this one's connection."""
        if self._placement is not None and isinstance(name, type) and issubclass(name, PlacedRepository):
            return name(self._placement.manager)
        host = self._host or cast("Host", current.layer())
        return cast("PlacedRepository[Any]", host.repository(name))

    def _seeing(self, visibility: Visibility) -> Self:
        if not issubclass(self.schema.model, SoftDeletable):
            raise ConfigurationError(f"{self.model.__name__} is not SoftDeletable, so there is nothing deleted to see")
        view = self._through(methodcaller("seeing", visibility))
        view._visibility = visibility  # noqa: SLF001 - another instance of this class
        return view

    def _through(self, lens: Callable[[Binding], Binding]) -> Self:
        view = copy.copy(self)
        view._origin, view._lens = self, lens  # noqa: SLF001 - another instance of this class
        view._bound = view._view = None  # noqa: SLF001
        return view


def _first(placed: bool | None, declared: bool) -> bool:
    return declared if placed is None else placed
