"""The way from an operation to the server: the connected collection, its filters, and errors that are ours."""

import asyncio
import copy
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from ..models.values import utc_now
from ..query.predicates import Predicate
from ._mongodb_documents import Documents
from ._mongodb_errors import DRIVER_ERRORS, Failures, in_transaction
from ._mongodb_indexes import Indexes
from ._mongodb_query import Queries, Query, all_of
from ._mongodb_transaction import MongoDBTransaction, has_transactions
from ._mongodb_values import EXPIRES
from ._names import check_collection
from .base import CollectionSchema

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient

    from ...core.errors import AppError

R = TypeVar("R")
Stored: TypeAlias = dict[str, Any]
Collection: TypeAlias = AsyncCollection[Stored]

_NAIVE: Final = CodecOptions[Stored](uuid_representation=UuidRepresentation.STANDARD)


class Access:
    """One collection of one connection. `transaction` is what its operations belong to."""

    transaction: MongoDBTransaction | None = None

    def __init__(self, manager: Any, schema: CollectionSchema) -> None:
        self.manager = manager
        self.schema = schema
        self.documents = Documents(schema)
        self.queries = Queries(schema, self.documents)
        self._indexes: Indexes | None = None
        # A client belongs to a loop, and two clients of one address are equal, so neither is a key.
        self._ready: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AsyncMongoClient[Stored], Collection]
        ] = weakref.WeakKeyDictionary()
        self._preparing: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )

    def within(self, transaction: MongoDBTransaction) -> "Access":
        access = copy.copy(self)
        access.transaction = transaction
        return access

    @property
    def session(self) -> AsyncClientSession | None:
        return None if self.transaction is None else self.transaction.session

    @cached_property
    def max_time(self) -> int:
        """Milliseconds after which the server gives up a read, since nobody waits for it any more."""
        seconds: float = self.manager.settings.timeout
        return round(seconds * 1000)

    @property
    def database(self) -> AsyncDatabase[Stored]:
        database: AsyncDatabase[Stored] = self.manager.get_database()
        return database

    @property
    def has_transactions(self) -> bool:
        """Of a connection that is open."""
        return has_transactions(self.manager, self.database.client)

    async def connected(self) -> Collection:
        """The collection on the running loop's client, with its indexes as the repository has them."""
        client = self.manager.live or await self.manager.connect()
        loop = asyncio.get_running_loop()
        ready = self._ready.get(loop)
        if ready is not None and ready[0] is client:
            return ready[1]
        async with self._preparing.setdefault(loop, asyncio.Lock()):
            ready = self._ready.get(loop)
            if ready is not None and ready[0] is client:
                return ready[1]
            name = check_collection(self.schema.name)
            if self._indexes is None:
                self._indexes = Indexes(self.schema, self.documents, self.queries)
            collection = self.database.get_collection(name, codec_options=_NAIVE)
            indexes = self._indexes
            # Outside any transaction, where an index cannot be made of what is there already.
            await self._call(self.manager.write, lambda: indexes.ensure(collection))
            self._ready[loop] = (client, collection)
            return collection

    def filter(self, where: Predicate) -> Query:
        """The query document, without what has expired: the server deletes that once a minute only."""
        query = self.queries.query(where)
        if not self.schema.expires:
            return query
        return all_of([query, {"$or": [{EXPIRES: None}, {EXPIRES: {"$gt": utc_now()}}]}])

    def expiry(self, ttl: float | None) -> dict[str, datetime]:
        """What to set for a time to live."""
        if ttl is None or not self.schema.expires:
            return {}
        return {EXPIRES: utc_now() + timedelta(seconds=ttl)}

    async def purge(self) -> bool:
        """Delete what has expired, so that it blocks neither its id nor its unique values; whether there was any."""
        if not self.schema.expires:
            return False
        collection = await self.connected()
        expired = {EXPIRES: {"$lte": utc_now()}}
        result = await self.write(lambda: collection.delete_many(expired, session=self.session))
        return result.deleted_count > 0

    async def first(
        self,
        collection: Collection,
        query: Query,
        fields: Mapping[str, int] | None = None,
        sort: Mapping[str, int] | None = None,
        skip: int = 0,
    ) -> list[Stored]:
        """One document or none. By the command itself: the driver's cursor costs a tenth of the exchange."""
        session = self.session
        options: Stored = {"projection": fields, "sort": sort, "skip": skip}
        if session is None:  # a transaction has its own
            options["readConcern"] = collection.read_concern.document

        def send() -> Awaitable[Stored]:
            command = {"find": collection.name, "filter": query, "limit": 1, "singleBatch": True}
            command["maxTimeMS"] = self.max_time
            command |= {name: value for name, value in options.items() if value}
            return collection.database.command(
                command,
                codec_options=collection.codec_options,
                read_preference=None if session else collection.read_preference,
                session=session,
            )

        reply = await self.read(send)
        batch: list[Stored] = reply["cursor"]["firstBatch"]
        return batch

    def read(self, work: Callable[[], Awaitable[R]]) -> Coroutine[Any, Any, R]:
        return self._call(self.manager.read, self._in_session(work))

    def write(self, work: Callable[[], Awaitable[R]]) -> Coroutine[Any, Any, R]:
        return self._call(self.manager.write, self._in_session(work))

    def _in_session(self, work: Callable[[], Awaitable[R]]) -> Callable[[], Awaitable[R]]:
        """In a transaction a lost connection ends it, whatever that would mean for one command."""
        return work if self.transaction is None else lambda: _ending_transaction(work)

    async def _call(self, call: Callable[..., Awaitable[R]], work: Callable[[], Awaitable[R]]) -> R:
        failure: AppError
        try:
            return await call(lambda _: work())
        except DRIVER_ERRORS as error:
            failure = self.failures.of(error)
        # Here, since what the driver says must not even be in the context of ours.
        raise failure from failure.__cause__

    @property
    def failures(self) -> Failures:
        fields = {} if self._indexes is None else self._indexes.fields
        names = {self.documents.stored_name(name): name for name in self.schema.fields}
        return Failures(self.schema.name, fields, names)


async def _ending_transaction(work: Callable[[], Awaitable[R]]) -> R:
    try:
        return await work()
    except PyMongoError as error:
        ended = in_transaction(error)
        if ended is None:
            raise
    raise ended from None
