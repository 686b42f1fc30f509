"""The repository: what an application asks, in terms of its own model, on any store."""

import copy
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel

from ...connections.base import ConnectionManager
from ...core import current
from ...core.errors import ConfigurationError, InvalidFilterError, RecordNotFoundError, did_you_mean
from ..backends.base import Index
from ..middleware import Middleware, SoftDelete, Visibility
from ..models.schema import ModelSchema, schema_of
from ..query.operations import Count, Delete, Find, Insert, OnConflict, Operation, Order, Update
from ..query.predicates import And, Compare, Filter, Op, Predicate, always, compare, to_predicate
from .placement import Binding, Host, Placement, bind, collection_name, middleware_for
from .registry import DEFAULT_CONNECTIONS

EntityT = TypeVar("EntityT", bound=BaseModel)
OrderBy = str | Sequence[str | tuple[str, str]] | None


class Repository(Generic[EntityT]):
    """One collection of one model. One call is one statement of the store, and atomic.

    A subclass names its model (`Repository[User]`) and what it needs of the store. Made without arguments it acts on
    the current DataLayer, looked up at each call; made with a DataLayer or a connection manager it stays there. What
    was passed in is never closed by it.
    """

    COLLECTION_NAME: ClassVar[str] = ""
    """The table or collection; by default the model's name in plural."""
    key: ClassVar[str] = "id"
    """The field that identifies a record."""
    indexes: ClassVar[tuple[Index, ...]] = ()
    ttl: ClassVar[float | None] = None
    """Seconds that a record lives after it was written."""

    model: ClassVar[type[BaseModel]]
    schema: ClassVar[ModelSchema[Any]]
    registered_name: ClassVar[str | None] = None
    connections: ClassVar[tuple[str, ...]] = DEFAULT_CONNECTIONS

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if not (isinstance(origin, type) and issubclass(origin, Repository)):
                continue
            (model,) = get_args(base)
            if isinstance(model, TypeVar):
                return
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                raise ConfigurationError(f"{cls.__name__}: Repository[…] takes a pydantic model class, not {model!r}")
            cls.model = model
        if hasattr(cls, "model"):
            cls.schema = schema_of(cls.model, cls.key)
            cls.COLLECTION_NAME = cls.COLLECTION_NAME or collection_name(cls.model)

    _bound: Binding | None
    _bindings: weakref.WeakKeyDictionary[Host, Binding]

    def __init__(self, db: Host | ConnectionManager[Any] | None = None) -> None:
        if not hasattr(type(self), "schema"):
            raise ConfigurationError(f"{type(self).__name__} names no model: derive it from Repository[YourModel]")
        self._middleware: tuple[Middleware, ...] = middleware_for(self.model)
        self._host: Host | None = None
        self._placement: Placement | None = None
        self._reset()
        if db is None:
            return
        if isinstance(db, ConnectionManager):
            self._placement = Placement(db)
        elif hasattr(type(db), "place"):  # asked of the class, since a pymongo database has every attribute
            self._host = db
        else:
            raise TypeError(
                f"{type(self).__name__}(db=…) takes a DataLayer or one of its connections "
                f"(data.connection('sqlite')), not {type(db).__module__}.{type(db).__name__}"
            )

    async def create(self, entity: EntityT) -> EntityT:
        """Store a new record; DuplicateRecordError names the field whose value is taken."""
        [stored] = await self._run(Insert((self.schema.new_document(entity),), ttl=self._binding.ttl))
        return self._entity(stored)

    async def create_many(self, entities: Iterable[EntityT]) -> list[EntityT]:
        """Store all or none."""
        documents = tuple(self.schema.new_document(entity) for entity in entities)
        if not documents:
            return []
        return [self._entity(each) for each in await self._run(Insert(documents, ttl=self._binding.ttl))]

    async def put_if_absent(self, entity: EntityT) -> bool:
        """Store a new record unless its id is taken; whether it was stored."""
        operation = Insert((self.schema.new_document(entity),), on_conflict=OnConflict.SKIP, ttl=self._binding.ttl)
        return bool(await self._run(operation))

    async def get(self, id: Any) -> EntityT | None:
        """Return the record, or None, also for an id that no record can have."""
        where = self._by_key(id)
        return None if where is None else await self._first(where)

    async def get_or_raise(self, id: Any) -> EntityT:
        entity = await self.get(id)
        if entity is None:
            raise RecordNotFoundError(f"{self.COLLECTION_NAME} has no record with the {self.key} {id!r}")
        return entity

    async def get_many(self, ids: Iterable[Any]) -> list[EntityT]:
        """Return the records in the order asked for, absent ones left out."""
        keys = [key for key in map(self._key, ids) if key is not None]
        if not keys:
            return []
        documents = await self._run(Find(Compare(self.key, Op.IN, tuple(dict.fromkeys(keys)))))
        found = {document[self.key]: document for document in documents}
        return [self._entity(found[key]) for key in keys if key in found]

    async def find(
        self,
        filter: Filter = None,
        *,
        order_by: OrderBy = None,
        skip: int = 0,
        limit: int | None = None,
    ) -> list[EntityT]:
        """Return what matches. `order_by` is `"name"`, `"-name"`, or a list of these or of `("name", "desc")`."""
        operation = Find(self._where(filter), self._order(order_by), _rows(skip), _rows(limit))
        return [self._entity(each) for each in await self._run(operation)]

    find_many = find

    async def find_one(self, filter: Filter) -> EntityT | None:
        return await self._first(self._where(filter))

    async def get_multi(self, skip: int = 0, limit: int = 100) -> list[EntityT]:
        return await self.find(skip=skip, limit=limit)

    async def all(self) -> list[EntityT]:
        return await self.find()

    async def update(self, id: Any, changes: Mapping[str, Any] | BaseModel) -> EntityT | None:
        """Change the fields that are given; the record after the change, or None when there is none.

        InvalidChangeError for unknown names and invalid values, before anything is written.
        """
        where = self._by_key(id)
        values = self.schema.changes(changes)
        return (
            None
            if where is None
            else await self._update_one(Update(where, values, ttl=self._binding.ttl, check=self._check))
        )

    async def update_many(
        self,
        filter: Filter,
        changes: Mapping[str, Any] | BaseModel,
        *,
        everything: bool = False,
    ) -> int:
        where = self._where_some(filter, everything=everything)
        return int(await self._run(Update(where, self.schema.changes(changes), returning=False, check=self._check)))

    async def increment(self, id: Any, field: str, by: float = 1) -> float | None:
        """Add to a number (None counts as 0) and return the sum, in one atomic step; None when there is no record.

        InvalidChangeError, and no change, for a sum that the model would refuse.
        """
        where = self._by_key(id)
        self.schema.check_number(field, by)
        documents = (
            [] if where is None else await self._run(Update(where, increments={field: by}, check=self.schema.check))
        )
        return cast("float", documents[0][field]) if documents else None

    async def compare_and_set(
        self,
        id: Any,
        expected: Mapping[str, Any],
        changes: Mapping[str, Any] | BaseModel,
    ) -> EntityT | None:
        """Change the record only while its fields equal `expected`, in one step; None when it was not changed."""
        where = self._by_key(id)
        guard = self._where(And(tuple(compare(name, "=", value) for name, value in expected.items())))
        values = self.schema.changes(changes)
        if where is None:
            return None
        return await self._update_one(Update(where, values, guard=guard, ttl=self._binding.ttl, check=self._check))

    async def delete(self, id: Any, *, hard: bool = False) -> bool:
        """Delete the record; whether there was one. `hard` removes for good what would only be marked."""
        where = self._by_key(id)
        return where is not None and bool(await self._run(Delete(where, hard=hard)))

    async def delete_many(self, filter: Filter, *, everything: bool = False, hard: bool = False) -> int:
        return int(await self._run(Delete(self._where_some(filter, everything=everything), hard=hard)))

    async def count(self, filter: Filter = None) -> int:
        return int(await self._run(Count(self._where(filter))))

    async def exists(self, filter: Filter) -> bool:
        return bool(await self._run(Count(self._where(filter), limit=1)))

    def with_deleted(self) -> Self:
        """The same repository, seeing deleted records too."""
        return self._seeing(Visibility.ALL)

    def only_deleted(self) -> Self:
        return self._seeing(Visibility.DELETED)

    @property
    def db(self) -> ConnectionManager[Any]:
        """The manager of the connection that the records live on."""
        return self._binding.backend.manager

    @property
    def collection(self) -> Any:
        """The store's own handle of the collection: on SQL stores the SQLAlchemy table."""
        return self._binding.backend.collection

    @property
    def _binding(self) -> Binding:
        if self._bound is not None:
            return self._bound
        if self._placement is None and self._host is None:
            return self._bind_to(cast("Host", current.layer()))
        self._bound = self._bind(self._placement or cast("Host", self._host).place(type(self)))
        return self._bound

    def _bind_to(self, host: Host) -> Binding:
        binding = self._bindings.get(host)
        if binding is None:
            binding = self._bindings[host] = self._bind(host.place(type(self)))
        return binding

    def _bind(self, placement: Placement) -> Binding:
        return bind(
            placement,
            self.schema,
            collection=self.COLLECTION_NAME,
            indexes=self.indexes,
            ttl=self.ttl,
            middleware=self._middleware,
        )

    def _reset(self) -> None:
        self._bound = None
        self._bindings = weakref.WeakKeyDictionary()

    @property
    def _check(self) -> Callable[[dict[str, Any]], None] | None:
        """What a change of some fields has to satisfy beyond their own validators."""
        return self.schema.check if self.schema.has_rules else None

    def _run(self, operation: Operation) -> Awaitable[Any]:
        return self._binding.handlers[type(operation)](operation)

    async def _first(self, where: Predicate) -> EntityT | None:
        documents = await self._run(Find(where, limit=1))
        return self._entity(documents[0]) if documents else None

    async def _update_one(self, operation: Update) -> EntityT | None:
        documents = await self._run(operation)
        return self._entity(documents[0]) if documents else None

    def _entity(self, document: Mapping[str, Any]) -> EntityT:
        return cast("EntityT", self.schema.entity(document))

    def _key(self, value: Any) -> Any:
        """The id in the type of the key field, or None for what no record can have as id."""
        try:
            return self.schema.fields[self.key].accept(value)
        except ValueError:
            return None

    def _by_key(self, value: Any) -> Predicate | None:
        key = self._key(value)
        return None if key is None else Compare(self.key, Op.EQ, key)

    def _where(self, given: Filter) -> Predicate:
        where = to_predicate(given)
        self.schema.check_paths(where)
        return where

    def _where_some(self, given: Filter, *, everything: bool) -> Predicate:
        where = self._where(given)
        if always(where) and not everything:
            raise InvalidFilterError("an empty filter here means every record: say so with everything=True")
        return where

    def _order(self, given: OrderBy) -> tuple[Order, ...]:
        if given is None:
            return ()
        return tuple(self._one_order(each) for each in ([given] if isinstance(given, str) else given))

    def _one_order(self, given: object) -> Order:
        match given:
            case str():
                name, direction = given.removeprefix("-"), "desc" if given.startswith("-") else "asc"
            case (str(name), str(direction)):
                pass
            case _:
                raise InvalidFilterError("order by a field's name, by '-name', or by (name, 'asc' or 'desc')")
        if name not in self.schema.fields:
            raise InvalidFilterError(
                f"{self.model.__name__} has no field {name!r} to order by{did_you_mean(name, self.schema.fields)}"
            )
        if direction not in ("asc", "desc"):
            raise InvalidFilterError(f"order {name!r} by 'asc' or 'desc', not {direction!r}")
        return Order(name, direction == "desc")

    def _seeing(self, visibility: Visibility) -> Self:
        if not any(isinstance(each, SoftDelete) for each in self._middleware):
            raise ConfigurationError(f"{self.model.__name__} is not SoftDeletable, so there is nothing deleted to see")
        view = copy.copy(self)
        view._reset()  # noqa: SLF001 - another instance of this class
        view._middleware = tuple(  # noqa: SLF001 - another instance of this class
            SoftDelete(visibility) if isinstance(each, SoftDelete) else each for each in self._middleware
        )
        return view


def _rows(given: Any) -> Any:
    """`skip` and `limit` count rows: SQLite would read a negative limit as none at all."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given not in range(2**63)):
        raise InvalidFilterError("skip and limit are whole numbers from 0")
    return given
