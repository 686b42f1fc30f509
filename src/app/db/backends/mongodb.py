"""Collections of MongoDB, one command for each operation."""

import copy
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, cast

import pymongo
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure

from ...connections.base import ConnectionManager
from ...core.errors import StoreUnavailableError
from ..models.schema import Kind
from ..query.operations import Count, Delete, Document, Explain, Find, Insert, Order, Stream, Update, Upsert
from ..query.predicates import ALL, Compare, Op, Predicate, both
from ._mongodb_access import Access, Collection, Stored
from ._mongodb_errors import clean
from ._mongodb_explain import index_of, winning_plan
from ._mongodb_inserts import insert, upsert
from ._mongodb_query import conjuncts, hexadecimal
from ._mongodb_transaction import MongoDBTransaction
from ._mongodb_updates import Updates, key_of
from ._mongodb_values import KEY
from .base import Capability, CollectionSchema, StorageBackend, Transaction

if TYPE_CHECKING:
    from pymongo.asynchronous.command_cursor import AsyncCommandCursor
    from pymongo.asynchronous.cursor import AsyncCursor

_MANY: Final = 5_000  # documents in one reply, as far as its 16 MB go
_MOST: Final = 2**40
_WITHOUT_TRANSACTIONS: Final = frozenset(Capability) - {Capability.TRANSACTIONS, Capability.SAVEPOINTS}
# The server counts the time of all batches of a cursor together, and a long stream is not a slow one.
_STREAM_TIMEOUT: Final = 24 * 3600


class MongoDBBackend(StorageBackend):
    """Documents have the model's field names and native types; the key is `_id`, where 24 hex digits are an ObjectId.

    Ids that are no ObjectIds sort before those that are. What changes several documents at once is all or none in a
    transaction of its own, on a replica set or a sharded cluster. A single server has none: there, documents that one
    call inserted are deleted again where one of them was refused, and several cannot be upserted at once.
    """

    capabilities = _WITHOUT_TRANSACTIONS | {Capability.TRANSACTIONS}

    def __init__(self, manager: ConnectionManager[Any], schema: CollectionSchema) -> None:
        super().__init__(manager, schema)
        self._access = Access(manager, schema)
        self._updates = Updates()
        self._seen: Collection | None = None
        unique = (index.fields for index in schema.indexes if index.unique and index.where == ALL)
        self._distinct = {schema.key, *(fields[0] for fields in unique if len(fields) == 1)}
        """The fields of which no two documents have the same value."""

    async def prepare(self) -> None:
        await self._connected()

    @property
    def db(self) -> AsyncDatabase[Stored]:
        """The driver's database, of a connection that is open."""
        return self._access.database

    @property
    def collection(self) -> AsyncCollection[Stored]:
        """The driver's collection. Its documents are as they are stored: with ids in `_id`, deleted ones too."""
        return self.db[self.schema.name]

    @property
    def native(self) -> AsyncCollection[Stored]:
        return self.collection

    @classmethod
    async def begin(cls, manager: ConnectionManager[Any]) -> Transaction:
        return await MongoDBTransaction.begin(manager)

    def within(self, transaction: Transaction) -> Self:
        view = copy.copy(self)
        view.transaction = transaction
        view._access = self._access.within(cast("MongoDBTransaction", transaction))  # noqa: SLF001 - another instance
        return view

    async def insert(self, operation: Insert) -> tuple[Document, ...]:
        return await insert(self._access, await self._connected(), operation)

    async def upsert(self, operation: Upsert) -> list[Document] | int:
        return await upsert(self._access, await self._connected(), operation)

    async def update(self, operation: Update) -> list[Document] | int:
        return await self._updates.update(self._access, await self._connected(), operation)

    async def find(self, operation: Find) -> list[Document]:
        collection = await self._connected()
        if operation.limit == 0:  # which for MongoDB is no limit at all
            return []
        access = self._access
        sort = self._sort(operation.where, operation.order_by)
        if operation.limit == 1 and not self._computed(sort):
            query, fields = access.filter(operation.where), access.documents.projection(operation.fields)
            found = await access.first(collection, query, fields, sort, min(operation.skip, _MOST))
        else:
            found = await access.read(lambda: self._cursor(collection, operation, sort).to_list())
        return access.documents.decode_all(found, operation.fields)

    async def stream(self, operation: Stream) -> AsyncGenerator[list[Document], None]:
        """A cursor, closed with the stream. Without an order it is by id, so that no index moves what is changed."""
        return self._batches(await self._connected(), operation)

    async def delete(self, operation: Delete) -> int:
        collection = await self._connected()
        access = self._access
        query = access.filter(both(operation.where, operation.guard))
        send = collection.delete_many if key_of(access, operation.where) is None else collection.delete_one
        result = await access.write(lambda: send(query, session=access.session))
        return result.deleted_count

    async def count(self, operation: Count) -> int:
        collection = await self._connected()
        access = self._access
        query = access.filter(operation.where)
        if operation.limit == 0:
            return 0
        if operation.limit == 1:
            return len(await access.first(collection, query, {KEY: 1}))
        options = {"maxTimeMS": access.max_time}
        options |= {} if operation.limit is None else {"limit": min(operation.limit, _MOST)}
        return await access.read(lambda: collection.count_documents(query, session=access.session, **options))

    async def explain(self, operation: Explain) -> dict[str, Any]:
        collection = await self._connected()
        find = operation.find
        command: dict[str, Any] = {"find": collection.name, "filter": self._access.filter(find.where)}
        sort = self._sort(find.where, find.order_by)
        if sort:
            command["sort"] = sort
        if find.skip:
            command["skip"] = min(find.skip, _MOST)
        if find.limit:
            command["limit"] = min(find.limit, _MOST)
        answer = await self._access.read(
            lambda: collection.database.command("explain", command, verbosity="queryPlanner")
        )
        plan = winning_plan(answer)
        return {"store": str(self.manager.connection_type), "index": index_of(plan), "plan": plan}

    async def _connected(self) -> Collection:
        collection = await self._access.connected()
        if collection is not self._seen:
            # Seen on connecting only; of the class, since a model is bound to a store before that.
            self._seen = collection
            if self.capabilities is MongoDBBackend.capabilities and not self._access.has_transactions:
                self.__dict__["capabilities"] = _WITHOUT_TRANSACTIONS
        return collection

    def _cursor(
        self, collection: Collection, find: Find, sort: Mapping[str, int], batch_size: int = _MANY
    ) -> "AsyncCursor[Stored] | _Computed":
        access = self._access
        query = access.filter(find.where)
        fields = access.documents.projection(find.fields)
        limit = None if find.limit is None or find.limit > _MOST else find.limit
        skip = min(find.skip, _MOST)
        computed = self._computed(sort)
        if computed:
            return _Computed(access, collection, _by_text(query, sort, computed, skip, limit, fields), batch_size)
        return collection.find(
            query,
            fields,
            skip=skip,
            limit=limit or 0,
            sort=list(sort.items()) or None,
            batch_size=min(batch_size, limit or batch_size),
            max_time_ms=access.max_time,
            session=access.session,
        )

    def _sort(self, where: Predicate, order_by: Sequence[Order]) -> Mapping[str, int]:
        is_one = self._is_one(where)
        if is_one and not order_by:
            return {}
        sort = self._access.queries.sort(order_by)  # refuses what cannot be sorted by
        return {} if is_one else sort

    def _is_one(self, where: Predicate) -> bool:
        """Whether at most one document can match, so that the server has nothing to sort."""
        if isinstance(where, Compare):
            return where.op is Op.EQ and where.value is not None and where.path in self._distinct
        equal = {
            term.path
            for term in conjuncts(where)
            if isinstance(term, Compare) and term.op is Op.EQ and term.value is not None
        }
        if self.schema.key in equal:
            return True
        return any(
            index.unique and equal.issuperset(index.fields) and self._implies(where, index.where)
            for index in self.schema.indexes
        )

    @staticmethod
    def _implies(where: Predicate, condition: Predicate) -> bool:
        return condition == ALL or all(term in conjuncts(where) for term in conjuncts(condition))

    def _computed(self, sort: Mapping[str, int]) -> list[str]:
        """What cannot be sorted by as it is stored."""
        return [name for name in sort if self._is_bytes(name)] if sort else []

    def _is_bytes(self, name: str) -> bool:
        field = self.schema.fields.get(self.schema.key if name == KEY else name)
        return field is not None and field.kind is Kind.BYTES

    async def _batches(self, collection: Collection, operation: Stream) -> AsyncGenerator[list[Document], None]:
        find = Find(operation.where, operation.order_by, fields=operation.fields)
        size = operation.batch_size
        sort = self._sort(find.where, find.order_by)
        cursor = self._cursor(collection, find, sort, size)
        begun = False

        async def next_batch() -> list[Stored]:
            nonlocal begun, cursor
            failure: StoreUnavailableError
            if not begun:
                cursor = self._cursor(
                    collection, find, sort, size
                )  # another one where the first try met a dead connection
            try:
                with pymongo.timeout(_STREAM_TIMEOUT):
                    batch = await cursor.to_list(size)
            except ConnectionFailure as error:
                if not begun:
                    raise
                failure = StoreUnavailableError(f"{self.schema.name}: the connection of a stream was lost: begin again")
                failure.__cause__ = clean(error)
            else:
                begun = True
                return batch
            # The driver takes a cursor that broke for one that has ended, so this is not tried again.
            raise failure from failure.__cause__

        try:
            while batch := await self._access.read(next_batch):
                yield self._access.documents.decode_all(batch, operation.fields)
                if len(batch) < size:
                    return
        finally:
            await cursor.close()


class _Computed:
    """The cursor of a pipeline, with the methods that are used of a find's."""

    def __init__(self, access: Access, collection: Collection, pipeline: list[Stored], batch_size: int) -> None:
        self._access = access
        self._collection = collection
        self._pipeline = pipeline
        self._batch_size = batch_size
        self._cursor: AsyncCommandCursor[Stored] | None = None

    async def to_list(self, length: int | None = None) -> list[Stored]:
        if self._cursor is None:
            self._cursor = await self._collection.aggregate(
                self._pipeline, session=self._access.session, batchSize=self._batch_size
            )
        return await self._cursor.to_list(length)

    async def close(self) -> None:
        if self._cursor is not None:
            await self._cursor.close()


def _by_text(
    query: Stored,
    sort: Mapping[str, int],
    computed: Sequence[str],
    skip: int,
    limit: int | None,
    fields: Mapping[str, int] | None,
) -> list[Stored]:
    """The pipeline that sorts bytes by a text of them."""
    names = {name: f"~by{place}" for place, name in enumerate(computed)}
    stages: list[Stored] = [
        {"$match": query},
        {"$set": {text: hexadecimal(name) for name, text in names.items()}},
        {"$sort": {names.get(name, name): direction for name, direction in sort.items()}},
        {"$skip": skip},
    ]
    stages += [] if limit is None else [{"$limit": limit}]
    return [*stages, {"$project": fields} if fields else {"$unset": list(names.values())}]
