"""Collections as JSON strings in Redis, one key for each document, with index entries that scripts keep in step."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Self, cast
from weakref import WeakValueDictionary

from redis.exceptions import ResponseError

from ...connections.base import ConnectionManager
from ...core.errors import (
    DuplicateRecordError,
    InvalidFilterError,
    UnsupportedOperationError,
)
from ..models.schema import Kind
from ..query.evaluate import ordered
from ..query.operations import Count, Delete, Document, Explain, Find, Insert, OnConflict, Order, Stream, Update, Upsert
from ..query.predicates import Compare, Op, Predicate, both
from . import _redis_indexes, _redis_upsert
from ._redis_documents import Documents, splice_arguments
from ._redis_keys import Keys
from ._redis_query import explain, matcher, null_fields, plan
from ._redis_records import (
    BATCH,
    Lifetime,
    Mode,
    Records,
    StoredRecords,
    Write,
    insertion,
    replacement,
    translated,
)
from ._redis_scripts import run
from ._redis_splice import SPLICE
from ._redis_transaction import BufferedRecords, RedisTransaction
from .base import Capability, CollectionSchema, StorageBackend, Transaction


class RedisBackend(StorageBackend):
    """A document is found by its id in one command and by an index in one script. Any other filter looks at every
    document of the collection (SCAN), and is evaluated here; `explain` says which.

    An update by id that touches no index is one script, which splices the new values into the text; so is an upsert by
    the key. Every other write is compare-and-set on the whole text, documents and index entries in one step, begun
    again where another writer was first. All documents of one operation are written in one step where a unique index is
    involved, else in steps.

    In a cluster, the keys of a collection with indexes share a hash tag and so one node. Those of a collection without
    indexes, such as sessions, spread; there several documents cannot be inserted in one step.
    """

    capabilities = frozenset(
        {Capability.TTL, Capability.UNIQUE_INDEX, Capability.PARTIAL_INDEX, Capability.TRANSACTIONS}
    )

    def __init__(self, manager: ConnectionManager[Any], schema: CollectionSchema) -> None:
        super().__init__(manager, schema)
        self._in_cluster = _is_cluster(manager)
        self._made: StoredRecords | None = None
        self._buffered: Records | None = None
        # A record has one writer at a time on a loop: a hundred that compare and set would try five thousand times.
        self._turns: WeakValueDictionary[tuple[Any, str], asyncio.Lock] = WeakValueDictionary()
        self._ready: Any = None

    @classmethod
    async def begin(cls, manager: ConnectionManager[Any]) -> Transaction:
        return RedisTransaction(manager.live or await manager.connect(), in_cluster=_is_cluster(manager))

    def within(self, transaction: Transaction) -> Self:
        view = super().within(transaction)
        view._buffered = BufferedRecords(self._stored, cast("RedisTransaction", transaction))  # noqa: SLF001 - a copy of this
        return view

    async def prepare(self) -> None:
        await self._client()

    @property
    def native(self) -> Any:
        client = self.manager.live
        return None if client is None else client.driver

    @property
    def collection(self) -> Keys:
        return self._stored.keys

    async def insert(self, operation: Insert) -> tuple[Document, ...]:
        client = await self._client()
        records = self._records
        lifetime = _milliseconds(operation.ttl) or "none"
        self._refuse_spread(len(operation.documents))
        skip = operation.on_conflict is OnConflict.SKIP
        given: list[Document] = []
        writes: list[Write] = []
        for document in operation.documents:
            record = records.documents.encode(document)
            given.append(record.document)
            writes.append(insertion(records.keys, record, lifetime))
        answers = await records.insert(client, writes, Mode.EACH if skip else Mode.ALL)
        if not skip and answers != [1] * len(writes):
            raise DuplicateRecordError(self.schema.name, [self.schema.key]) from ResponseError("the id is taken")
        return tuple(document for document, answer in zip(given, answers, strict=True) if answer == 1)

    async def upsert(self, operation: Upsert) -> list[Document] | int:
        client = await self._client()
        records = self._records
        lifetime = _milliseconds(operation.ttl)
        self._refuse_spread(len(operation.documents))
        if self.transaction is None and not self.schema.indexes and operation.on == (self.schema.key,):
            replaced = await _redis_upsert.replace_all(client, records, operation, lifetime)
            if replaced is not None:
                return replaced
        [first, *others] = operation.documents
        name = "" if others else repr([first[field] for field in operation.on])
        async with self._turn(client, name):
            return await _redis_upsert.compare_and_set(client, records, operation, lifetime)

    async def find(self, operation: Find) -> list[Document]:
        client = await self._client()
        self._check_order(operation.order_by)
        documents = [record.document for record in await self._records.fetch(client, operation.where)]
        if len(documents) > 1:
            documents = ordered(documents, operation.order_by, self.schema.key)
        if operation.skip or operation.limit is not None:
            end = None if operation.limit is None else operation.skip + operation.limit
            documents = documents[operation.skip : end]
        return _selected(documents, operation.fields)

    async def stream(self, operation: Stream) -> AsyncGenerator[list[Document], None]:
        """An order needs all documents at once, so it is for what ids or an index find; then they are held here.

        Without an order a batch is held, and eight bytes for each document that was seen.
        """
        client = await self._client()
        self._check_order(operation.order_by)
        if operation.order_by and plan(operation.where, self.collection).scans:
            raise UnsupportedOperationError(
                f"{self.schema.name}: Redis cannot sort a stream of every document; leave the order out, or filter by "
                "the id or an index"
            )
        return self._batches(client, operation)

    async def explain(self, operation: Explain) -> dict[str, Any]:
        await self._client()
        self._check_order(operation.find.order_by)
        return explain(operation.find, self.collection)

    async def update(self, operation: Update) -> list[Document] | int:
        client = await self._client()
        spliced = await self._splice(client, operation) if self.transaction is None else None
        if spliced is not None:
            return spliced
        where = both(operation.where, operation.guard)
        ids = plan(where, self.collection).ids or ()
        async with self._turn(client, ids[0] if len(ids) == 1 else ""):
            done = await self._compare_and_set(client, where, operation)
        return ordered(done, (), self.schema.key) if operation.returning else len(done)

    async def delete(self, operation: Delete) -> int:
        client = await self._client()
        where = both(operation.where, operation.guard)
        planned = plan(where, self.collection)
        if self.transaction is None and planned.exact and planned.ids is not None and not self.schema.indexes:
            names = [self.collection.document(each) for each in planned.ids]
            return sum(await self._stored.per_slot(client, "DEL", names))
        records = self._records
        meets = matcher(where)
        pending = await records.fetch(client, where)
        deleted = 0
        while pending:
            answers = await records.write(
                client, [replacement(records.keys, record, None) for record in pending], Mode.EACH
            )
            deleted += answers.count(1)
            pending = records.overtaken(answers, meets)
        return deleted

    async def count(self, operation: Count) -> int:
        client = await self._client()
        limit = operation.limit
        planned = plan(operation.where, self.collection)
        counted = None
        if self.transaction is None and (limit is None or not planned.scans):
            counted = await self._stored.count(client, planned)
        if counted is not None:
            number = counted
        elif not planned.scans:
            number = len(await self._records.fetch(client, operation.where))
        else:
            number = 0
            async for batch in self._records.batches(client, operation.where, BATCH):
                number += len(batch)
                if limit is not None and number >= limit:
                    break
        return number if limit is None else min(number, limit)

    @property
    def _records(self) -> Records:
        return self._buffered or self._stored

    @property
    def _stored(self) -> StoredRecords:
        if self._made is None:
            keys = Keys(self.schema, tagged=self._in_cluster)
            documents = Documents(self.schema, keys.id_text)
            self._made = StoredRecords(keys, documents, spread=self._in_cluster and not keys.tagged)
        return self._made

    async def _client(self) -> Any:
        """The open client, with an entry for every document in every index of the model."""
        client = self.manager.live or await self.manager.connect()
        if client is not self._ready:
            stored = self._stored  # refuses what it cannot name or index
            if self.schema.indexes:
                try:
                    await _redis_indexes.ensure(client, stored)
                except ResponseError as error:
                    raise translated(stored.keys, error) from error
            self._ready = client
        return client

    def _turn(self, client: Any, name: str) -> AbstractAsyncContextManager[None]:
        """Wait for this loop's other writers of one record; '' for several records, which wait for nobody."""
        if not name or self.transaction is not None:
            return nullcontext()
        key = (client, name)
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        turn: AbstractAsyncContextManager[None] = client.gate.in_turn(lock)
        return turn

    async def _compare_and_set(self, client: Any, where: Predicate, operation: Update) -> list[Document]:
        records = self._records
        meets = matcher(where)
        lifetime = _milliseconds(operation.ttl)
        pending = await records.fetch(client, where)
        done: list[Document] = []
        while pending:
            after = [records.documents.changed(record, operation) for record in pending]
            writes = [replacement(records.keys, old, new, lifetime) for old, new in zip(pending, after, strict=True)]
            answers = await records.write(client, writes, Mode.EACH)
            done += [record.document for record, answer in zip(after, answers, strict=True) if answer == 1]
            pending = records.overtaken(answers, meets)
        return done

    async def _splice(self, client: Any, operation: Update) -> list[Document] | int | None:
        """Update one document without reading it, where nothing has to be decided by its values; else None."""
        match operation.where:
            case Compare(self.schema.key, Op.EQ, value) if operation.check is None:
                pass
            case _:
                return None
        guards = null_fields(operation.guard)
        if guards is None or not self.collection.indexed.isdisjoint(
            {*operation.changes, *operation.appends, *operation.increments}
        ):
            return None
        if operation.ttl is not None and self.schema.indexes:
            return None
        if any(self.schema.fields[name].kind is not Kind.INTEGER for name in operation.increments):
            return None
        keys, documents = self.collection, self._stored.documents
        id_text = keys.id_text(value)
        if id_text is None:
            return [] if operation.returning else 0
        changes = {name: documents.check(name, each) for name, each in operation.changes.items()}
        arguments = [
            _milliseconds(operation.ttl),
            int(operation.returning),
            *(len(guards), len(changes), len(operation.appends), len(operation.increments)),
            *guards,
            *splice_arguments(changes),
            *splice_arguments(operation.appends),
            *splice_arguments(operation.increments),
        ]
        try:
            answer = await run(client, SPLICE, [keys.document(id_text)], arguments)
        except ResponseError as error:
            raise translated(keys, error) from error
        if answer == 0:
            return None
        if not operation.returning:
            return int(answer is not None)
        return [] if answer is None else [documents.decode(answer).document]

    async def _batches(self, client: Any, operation: Stream) -> AsyncGenerator[list[Document], None]:
        if not operation.order_by:
            async for batch in self._records.batches(client, operation.where, operation.batch_size):
                yield _selected([record.document for record in batch], operation.fields)
            return
        documents = await self.find(Find(operation.where, operation.order_by, fields=operation.fields))
        for at in range(0, len(documents), operation.batch_size):
            yield documents[at : at + operation.batch_size]

    def _refuse_spread(self, number: int) -> None:
        if number > 1 and self._in_cluster and not self.collection.tagged:
            raise UnsupportedOperationError(
                f"{self.schema.name}: a cluster cannot insert several documents in one step where no index keeps the "
                "collection on one node; insert them one by one"
            )

    def _check_order(self, order_by: Iterable[Order]) -> None:
        for order in order_by:
            known = self.schema.fields.get(order.field)
            if known is None:
                raise InvalidFilterError(f"{self.schema.name} has no field {order.field!r}")
            if known.kind is Kind.JSON:
                raise UnsupportedOperationError(
                    f"{self.schema.name}: cannot sort or index by {order.field!r}, which is nested"
                )


def _selected(documents: list[Document], fields: tuple[str, ...]) -> list[Document]:
    if not fields:
        return documents
    return [{name: document.get(name) for name in fields} for document in documents]


def _is_cluster(manager: ConnectionManager[Any]) -> bool:
    return bool(getattr(manager, "is_cluster", False))


def _milliseconds(ttl: float | None) -> Lifetime:
    return "" if ttl is None else max(1, round(ttl * 1000))
