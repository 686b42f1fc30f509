"""The repository: what an application asks, in terms of its own model, on any store."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Self, TypeVar, cast

from pydantic import BaseModel

from ...core.errors import (
    ConfigurationError,
    InvalidChangeError,
    InvalidFilterError,
    RecordNotFoundError,
    StaleRecordError,
    TransactionError,
)
from ..backends.base import Transaction
from ..models.base import Versioned
from ..models.values import utc_now
from ..query.builder import QueryBuilder
from ..query.operations import (
    Aggregate,
    Count,
    Delete,
    Find,
    Insert,
    OnConflict,
    Update,
    Upsert,
)
from ..query.ordering import OrderBy, read_order, read_rows, read_skip
from ..query.pipeline import check_pipeline
from ..query.predicates import ALL, And, Compare, Filter, Op, Predicate, always, compare, to_predicate
from .journaled import JournaledRepository
from .pages import Page
from .source import RepositorySource
from .unit_of_work import UnitOfWork

EntityT = TypeVar("EntityT")


class Repository(JournaledRepository[EntityT]):
    """One collection of one model. One call is one statement of the store, and atomic.

    A subclass names its model (`Repository[User]`) and what it needs of the store. Made without arguments it acts on
    the current DataLayer, looked up at each call; made with a DataLayer or a connection manager it stays there. What
    was passed in is never closed by it.
    """

    async def create(self, entity: EntityT) -> EntityT:
        """Store a new record; DuplicateRecordError names the field whose value is taken."""
        [stored] = await self._run(Insert((self.schema.new_document(entity),), ttl=self._binding.ttl))
        return cast("EntityT", self.schema.entity(stored))

    async def create_many(self, entities: Iterable[EntityT]) -> list[EntityT]:
        """Store all or none. A generator spares the list: of its entities each is gone once it is a document."""
        documents = tuple(map(self.schema.new_document, entities))
        del entities  # where nobody else has them: every garbage collection until the answer would go through them
        if not documents:
            return []
        return self.schema.entities(await self._run(Insert(documents, ttl=self._binding.ttl)))

    async def put_if_absent(self, entity: EntityT) -> bool:
        """Store a new record unless its id is taken; whether it was stored."""
        operation = Insert((self.schema.new_document(entity),), on_conflict=OnConflict.SKIP, ttl=self._binding.ttl)
        return bool(await self._run(operation))

    async def upsert(self, entity: EntityT, *, on: str | Sequence[str] = ()) -> EntityT:
        """Store the entity, or change the record that has its values of `on` into it; the record as it is then.

        `on` names the fields of one unique index; left out it is the id. The record that is there keeps its id, and
        with timestamps its `created_at`. One atomic step. DuplicateRecordError where another unique value is taken.
        """
        [stored] = await self._run(self._upsert((self.schema.new_document(entity),), on))
        return cast("EntityT", self.schema.entity(stored))

    async def upsert_many(self, entities: Iterable[EntityT], *, on: str | Sequence[str] = ()) -> int:
        """As `upsert`, for all or none; how many there were. No two may have the same values of `on`."""
        documents = tuple(map(self.schema.new_document, entities))
        del entities  # as in `create_many`
        return int(await self._run(self._upsert(documents, on, returning=False))) if documents else 0

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
        return [self.schema.entity(found[key]) for key in keys if key in found]

    async def find(
        self,
        filter: Filter = None,
        *,
        order_by: OrderBy = None,
        skip: int = 0,
        limit: int | None = None,
    ) -> list[EntityT]:
        """Return what matches. `order_by` is `"name"`, `"-name"`, or a list of these or of `("name", "desc")`."""
        order = read_order(order_by, self.schema.fields)
        operation = Find(self._where(filter), order, read_skip(skip), read_rows(limit))
        return self.schema.entities(await self._run(operation))

    find_many = find

    async def find_one(self, filter: Filter) -> EntityT | None:
        return await self._first(self._where(filter))

    async def get_multi(self, skip: int = 0, limit: int = 100) -> list[EntityT]:
        return await self.find(skip=skip, limit=limit)

    async def all(self) -> list[EntityT]:
        return await self.find()

    def stream(self, filter: Filter = None, *, batch_size: int = 500) -> AsyncIterator[EntityT]:
        """Every record that matches, with one batch in memory at a time, in the store's order."""
        return self._source.stream(Find(self._where(filter)), (), batch_size)

    async def page(
        self, filter: Filter = None, *, order_by: OrderBy = None, size: int = 50, after: str | None = None
    ) -> Page[EntityT]:
        """Return a page, and the cursor to the next. Inserts and deletes meanwhile move no record to another page."""
        find = Find(self._where(filter), read_order(order_by, self.schema.fields))
        return cast("Page[EntityT]", await self._source.page(find, (), size, after))

    def query(self) -> QueryBuilder[EntityT]:
        """Begin a query: `repo.query().where("age", ">", 25).order_by("name").limit(10).execute()`."""
        return QueryBuilder(self._source)

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Run a pipeline of stages in MongoDB's spelling; the documents that come out of it."""
        where, stages = check_pipeline(pipeline, self.key, None if self.schema.open else self.schema.fields)
        return cast("list[dict[str, Any]]", await self._run(Aggregate(where, stages)))

    def transaction(self) -> UnitOfWork[Self]:
        """Begin a transaction on this repository's connection: `async with repo.transaction() as tx:`.

        `tx` has this repository's methods, and `tx.repository(…)` others of the same connection.
        """
        binding = self._binding
        if binding.backend.transaction is not None:
            raise TransactionError("this repository is in a transaction already; `tx.savepoint()` begins one within it")

        async def begin() -> Transaction:
            await binding.backend.prepare()
            return await binding.backend.begin(binding.backend.manager)

        return UnitOfWork(begin, binding.backend.manager, self._partner, self)

    async def update(
        self, id: Any, changes: Mapping[str, Any] | BaseModel, *, version: int | None = None
    ) -> EntityT | None:
        """Change the fields that are given; the record after the change, or None when there is none.

        InvalidChangeError for unknown names and invalid values, before anything is written. With the `version` that
        was read, StaleRecordError when it is another by now; that is decided in the same step.
        """
        where = self._by_key(id)
        values = self.schema.changes(changes)
        if where is None:
            return None
        guard = self._is_version(version)
        updated = await self._update_one(Update(where, values, guard=guard, ttl=self._binding.ttl, check=self._check))
        if updated is None and version is not None:
            await self._refuse_stale(where, version)
        return updated

    async def save(self, entity: EntityT) -> EntityT:
        """Write all fields of an entity that was read and changed; the record as it is then.

        RecordNotFoundError when there is none. A versioned one must have the version that is stored, else
        StaleRecordError; the others overwrite what was changed meanwhile.
        """
        document = self.schema.replacement(entity)
        version = document["version"] if issubclass(self.schema.model, Versioned) else None
        where = Compare(self.key, Op.EQ, document.pop(self.key))
        values = {name: value for name, value in document.items() if name not in self.schema.kept}
        guard = self._is_version(version)
        saved = await self._update_one(Update(where, values, guard=guard, ttl=self._binding.ttl))
        if saved is None:
            if version is not None:
                await self._refuse_stale(where, version)
            raise RecordNotFoundError(f"{self.COLLECTION_NAME} has no record with the {self.key} {where.value!r}")
        return saved

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
        if not documents:
            return None
        # A store may return the sum that it computed, and not what the field makes of it.
        return cast("float", self.schema.fields[field].read(documents[0][field]))

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

    async def delete(self, id: Any, *, hard: bool = False, version: int | None = None) -> bool:
        """Delete the record; whether there was one. `hard` removes for good what would only be marked.

        With the `version` that was read, StaleRecordError when it is another by now.
        """
        where = self._by_key(id)
        if where is None:
            return False
        deleted = bool(await self._run(Delete(where, guard=self._is_version(version), hard=hard)))
        if not deleted and version is not None:
            await self._refuse_stale(where, version)
        return deleted

    async def delete_many(self, filter: Filter, *, everything: bool = False, hard: bool = False) -> int:
        return int(await self._run(Delete(self._where_some(filter, everything=everything), hard=hard)))

    async def restore(self, id: Any) -> EntityT | None:
        """Take back a deletion; the record, or None when none is deleted under that id.

        DuplicateRecordError when another record has one of its unique values by now.
        """
        return await self.only_deleted().update(id, {"deleted_at": None})

    async def purge(self, *, older_than: datetime | timedelta | None = None) -> int:
        """Remove deleted records for good: those deleted before a moment, or longer ago than a time, or all."""
        where: Predicate = ALL
        if older_than is not None:
            where = compare("deleted_at", "<", _moment(older_than))
        return await self.only_deleted().delete_many(where, everything=True, hard=True)

    async def count(self, filter: Filter = None) -> int:
        return int(await self._run(Count(self._where(filter))))

    async def exists(self, filter: Filter) -> bool:
        return bool(await self._run(Count(self._where(filter), limit=1)))

    @property
    def _source(self) -> RepositorySource:
        return RepositorySource(self, self.schema, self._run, self._where)

    @property
    def _check(self) -> Callable[[dict[str, Any]], None] | None:
        """What a change of some fields has to satisfy beyond their own validators."""
        return self.schema.check if self.schema.has_rules else None

    def _is_version(self, version: int | None) -> Predicate:
        if version is None:
            return ALL
        if not issubclass(self.schema.model, Versioned):
            raise ConfigurationError(f"{self.model.__name__} is not Versioned, so it has no version to compare")
        return compare("version", "=", version)

    async def _refuse_stale(self, where: Compare, version: int) -> None:
        """Say why a guarded write changed nothing. A version only rises, so what is read now is no older."""
        found = await self._binding.writer.handlers[Find](Find(where, limit=1))
        if found:
            raise StaleRecordError(self.COLLECTION_NAME, where.value, version, found[0]["version"])

    async def _first(self, where: Predicate) -> EntityT | None:
        documents = await self._run(Find(where, limit=1))
        return self.schema.entity(documents[0]) if documents else None

    async def _update_one(self, operation: Update) -> EntityT | None:
        documents = await self._run(operation)
        return self.schema.entity(documents[0]) if documents else None

    def _by_key(self, value: Any) -> Compare | None:
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

    def _upsert(
        self, documents: tuple[dict[str, Any], ...], on: str | Sequence[str], *, returning: bool = True
    ) -> Upsert:
        given: Any = on
        names = tuple(given) if isinstance(given, list | tuple) else (given,)
        names = names or (self.key,)
        indexes = self._binding.backend.schema.indexes
        if names != (self.key,) and not any(index.unique and set(index.fields) == set(names) for index in indexes):
            raise InvalidFilterError(
                f"on: {', '.join(map(str, names))} is neither the key of {self.model.__name__} nor the fields of one "
                "of its unique indexes, so two records could have the same"
            )
        missing = [name for name in names if any(name not in each for each in documents)]
        if missing:
            raise InvalidChangeError(
                f"on: the store makes {', '.join(missing)}, so the entity has to have a value there"
            )
        documents = self._in_one_order(documents, names)
        values = set(map(itemgetter(*names), documents))
        if len(values) < len(documents):
            raise InvalidChangeError(f"two of the records to upsert have the same {', '.join(names)}")
        return Upsert(documents, names, ttl=self._binding.ttl, returning=returning)

    @staticmethod
    def _in_one_order(documents: tuple[dict[str, Any], ...], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
        """Two writers that lock the same records in different orders would wait for each other."""
        if len(documents) == 1:
            return documents
        try:
            return tuple(sorted(documents, key=itemgetter(*names)))
        except TypeError:  # None stands beside values
            return tuple(sorted(documents, key=lambda each: [(each[name] is not None, each[name]) for name in names]))


def _moment(given: datetime | timedelta) -> datetime:
    """A moment, or how long ago one was. InvalidFilterError for anything else, which would be older than nothing."""
    try:
        if isinstance(given, timedelta):
            return utc_now() - given
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
    if not isinstance(given, datetime):
        raise InvalidFilterError(f"older_than is a datetime or a timedelta, not {type(given).__name__}")
    return given
