"""Migrations of MongoDB. The ledger is the collection `manystore_migrations`, the lock a document of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from bson import encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import CollectionInvalid, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ....core.errors import AppError, InvalidChangeError, MigrationError, UnsupportedOperationError
from ...backends._mongodb_access import Access
from ...backends._mongodb_errors import DRIVER_ERRORS, clean, is_duplicate
from ...backends._mongodb_indexes import Indexes
from ...backends._mongodb_query import conjuncts
from ...backends._names import check_collection
from ...backends.base import Index
from ...query.predicates import Compare, Not, Op, Predicate
from ..ledger import LEDGER, Entry
from ..lock import Held
from ..schemas import declared, described
from ..steps import CreateCollection, CreateIndex, DocumentChange, DropCollection, DropIndex
from ..store import Found, Replacement
from ._documents import DocumentMigrationStore
from ._mongodb_fields import Fields, Stored, matching

R = TypeVar("R")
Collection = AsyncCollection[Stored]

_LOCK: Final = "lock"
_CODEC: Final = CodecOptions[Stored](uuid_representation=UuidRepresentation.STANDARD)
_NAMESPACE_EXISTS: Final = 48
_NOTHING_THERE: Final = frozenset({26, 27})  # NamespaceNotFound, IndexNotFound


class MongoDBMigrationStore(DocumentMigrationStore):
    """Batches go by `_id` in the order of BSON. Documents may have been written by anybody."""

    async def read_lock(self) -> Held | None:
        document = await self._read(LEDGER, lambda ledger: ledger.find_one({"_id": _LOCK}))
        return None if document is None else Held(**{name: document[name] for name in Held.__dataclass_fields__})

    async def swap_lock(self, old: Held | None, new: Held | None) -> bool:
        place = {"_id": _LOCK} if old is None else {"_id": _LOCK, "token": old.token, "beat": old.beat}
        if new is None:
            return (await self._write(LEDGER, lambda ledger: ledger.delete_one(place))).deleted_count == 1
        document = {"_id": _LOCK, **asdict(new)}
        if old is not None:
            return (await self._write(LEDGER, lambda ledger: ledger.replace_one(place, document))).matched_count == 1

        async def insert(ledger: Collection) -> bool:
            try:
                await ledger.insert_one(document)
            except DuplicateKeyError:
                return False
            return True

        return await self._write(LEDGER, insert)

    async def read_entries(self) -> list[Entry]:
        documents = await self._read(LEDGER, lambda ledger: ledger.find({"_id": {"$ne": _LOCK}}).to_list())
        return [Entry.from_document({**each, "name": each["_id"]}) for each in documents]

    async def write_entry(self, entry: Entry) -> None:
        document = {**entry.to_document(), "_id": entry.name}
        try:
            await self._write(LEDGER, lambda ledger: ledger.replace_one({"_id": entry.name}, document, upsert=True))
        except InvalidChangeError as error:
            raise MigrationError(
                f"{entry.name}: MongoDB cannot keep a batch of the conversion in one document (16 MB): "
                "give the step a smaller batch_size"
            ) from error

    async def delete_entry(self, name: str) -> None:
        await self._write(LEDGER, lambda ledger: ledger.delete_one({"_id": name}))

    async def count(self, collection: str) -> int:
        return await self._read(collection, lambda there: there.estimated_document_count())

    async def read_batch(self, collection: str, after: Any, limit: int) -> Sequence[Found]:
        def find(there: Collection) -> Awaitable[list[Stored]]:
            if after is None:
                return there.find(sort=[("_id", 1)], limit=limit).to_list()
            # A comparison would meet ids of one type only. The bound of the index is inclusive, so there is one more.
            cursor = there.find(sort=[("_id", 1)], limit=limit + 1, hint=[("_id", 1)])
            return cursor.min([("_id", after)]).to_list()

        documents = await self._read(collection, find)
        fields = self._fields(collection)
        return [fields.found(each) for each in documents if after is None or each["_id"] != after][:limit]

    def replacement(self, collection: str, found: Found, change: DocumentChange) -> Replacement:
        return self._fields(collection).replacement(found, change)

    async def read_some(self, collection: str, ids: Sequence[Any]) -> Sequence[Found]:
        query = {"_id": {"$in": list(ids)}}
        documents = await self._read(collection, lambda there: there.find(query).to_list())
        return [*map(self._fields(collection).found, documents)]

    def has(self, found: Found, replacement: Replacement) -> bool:
        stored: Stored = found.stored
        same = all(name in stored and _bson(stored[name]) == _bson(each) for name, each in replacement.values.items())
        return same and not any(name in stored for name in replacement.removed)

    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> Sequence[Found]:
        updates = []
        for each in replacements:
            update = {"$set": dict(each.values), "$unset": dict.fromkeys(each.removed, 1)}
            some = {operator: values for operator, values in update.items() if values}
            updates.append(UpdateOne(matching(each), some))
        result = await self._write(collection, lambda there: there.bulk_write(updates, ordered=False))
        if result.matched_count == len(updates):
            return []
        # It is not told which: those that neither have the new values nor are gone.
        wanted = {repr(each.id): each for each in replacements}
        found = await self.read_some(collection, [each.id for each in replacements])
        return [each for each in found if not self.has(each, wanted[repr(each.id)])]

    async def _create_collection(self, step: CreateCollection) -> None:
        name = check_collection(step.collection)

        async def create(there: Collection) -> None:
            try:
                await there.database.create_collection(name)
            except CollectionInvalid:
                pass
            except OperationFailure as error:
                if error.code != _NAMESPACE_EXISTS:
                    raise

        await self._write(name, create)

    async def _drop_collection(self, step: DropCollection) -> None:
        await self._write(check_collection(step.collection), lambda there: there.drop())

    async def _create_index(self, step: CreateIndex) -> None:
        name = check_collection(step.collection)
        schema = self.schemas.get(name)
        index = declared(schema, step.index)
        if schema is None:
            _refuse_presence(name, index.where)
        access = Access(self.manager, described(schema, name, index))
        indexes = Indexes(access.schema, access.documents, access.queries)
        fields = ", ".join(index.fields)
        failure: AppError
        try:
            await self._at_length(name, indexes.ensure)
        except DRIVER_ERRORS as error:
            failure = access.failures.of(error)
        except MigrationError as error:
            if not (isinstance(error.__cause__, Exception) and is_duplicate(error.__cause__)):
                raise
            failure = MigrationError(f"{name}: stored documents have the same {fields}, so it cannot be unique")
            failure.__cause__ = error.__cause__
        else:
            return
        raise failure from failure.__cause__

    async def _drop_index(self, step: DropIndex) -> None:
        collection = check_collection(step.collection)
        schema = self.schemas.get(collection)
        index = declared(schema, Index(name=step.name))
        name = step.name
        if index.fields:
            access = Access(self.manager, described(schema, collection, index))
            [*_, name] = Indexes(access.schema, access.documents, access.queries).fields

        async def drop(there: Collection) -> None:
            try:
                await there.drop_index(name)
            except OperationFailure as error:
                if error.code not in _NOTHING_THERE:
                    raise

        await self._write(collection, drop)

    def _fields(self, collection: str) -> Fields:
        return Fields(self.schemas.get(collection) or described(None, collection))

    async def _read(self, collection: str, work: Callable[[Collection], Awaitable[R]]) -> R:
        there = await self._collection(collection)
        return await self._access(collection).read(lambda: work(there))

    async def _write(self, collection: str, work: Callable[[Collection], Awaitable[R]]) -> R:
        there = await self._collection(collection)
        return await self._access(collection).write(lambda: work(there))

    async def _at_length(self, collection: str, work: Callable[[Collection], Awaitable[R]]) -> R:
        """What takes its time, such as building an index, and can be done again where its end is not heard of."""
        there = await self._collection(collection)
        failure: AppError
        try:
            return await work(there)
        except PyMongoError as error:
            manager: Any = self.manager
            ours = manager._translated(error, write=True)  # noqa: SLF001 - `write` has a time limit
            if ours is None:
                raise
            failure = ours
            failure.__cause__ = clean(error)
        raise failure from failure.__cause__

    def _access(self, collection: str) -> Access:
        return Access(self.manager, self.schemas.get(collection) or described(None, collection))

    async def _collection(self, name: str) -> Collection:
        """Read from the primary; what the ledger says of a migration is never rolled back."""
        await self.manager.connect()
        database = self._access(name).database
        collection = database.get_collection(name, read_preference=ReadPreference.PRIMARY)
        return collection.with_options(write_concern=WriteConcern("majority")) if name == LEDGER else collection


def _bson(value: Any) -> bytes:
    return encode({"": value}, codec_options=_CODEC)


def _refuse_presence(collection: str, where: Predicate) -> None:
    """The condition that a field is there is, in an index, one on its type."""
    for term in conjuncts(where):
        match term:
            case Not(Compare(path, Op.EQ, None)):
                raise UnsupportedOperationError(
                    f"{collection}: without a repository nobody knows the type of {path!r}, which the condition of an "
                    "index needs: register the repository, or make the index in a `run` step"
                )
