"""Collections as JSON strings in Redis, one key for each document, with index entries that scripts keep in step."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from redis.exceptions import RedisError, ResponseError

from ...connections.base import ConnectionManager
from ...core.errors import (
    AppError,
    DuplicateRecordError,
    InvalidFilterError,
    MigrationError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from ..models.schema import Kind
from ..query.evaluate import ordered
from ..query.operations import Count, Delete, Document, Find, Insert, OnConflict, Order, Update
from ..query.predicates import ALL, Compare, Op, Predicate, both, comparisons
from ._json import encode_json
from ._redis_documents import Documents, Record, splice_arguments
from ._redis_keys import Keys
from ._redis_query import conjuncts, matcher, plan
from ._redis_scripts import LOOKUP, SPLICE, WRITE, run
from .base import Capability, CollectionSchema, Index, StorageBackend

_BATCH = 500  # keys in one command, so that no single one holds up the server


@dataclass(frozen=True, slots=True)
class _Write:
    """One document for the script `WRITE`; no `new` deletes it."""

    key: str
    id: str
    expected: str = ""
    new: str = ""
    removed: Sequence[str] = ()
    left: Sequence[str] = ()
    unique: Mapping[str, Index] = field(default_factory=dict)
    sets: Sequence[str] = ()


class RedisBackend(StorageBackend):
    """A document is found by its id in one command and by an index in one script. Any other filter looks at every
    document of the collection (SCAN), and is evaluated here.

    An update by id that touches no index is one script, which splices the new values into the text. Every other write
    is compare-and-set on the whole text, documents and index entries in one step, begun again where another writer was
    first. All documents of one operation are written in one step where a unique index is involved, else in steps.

    In a cluster, the keys of a collection with indexes share a hash tag and so one node. Those of a collection without
    indexes, such as sessions, spread; there several documents cannot be inserted in one step.
    """

    capabilities = frozenset({Capability.TTL, Capability.UNIQUE_INDEX, Capability.PARTIAL_INDEX})

    def __init__(self, manager: ConnectionManager[Any], schema: CollectionSchema) -> None:
        super().__init__(manager, schema)
        self._in_cluster = bool(getattr(manager, "is_cluster", False))
        self._made: Keys | None = None
        self._documents = Documents(schema, self._id_text)
        # A record has one writer at a time on a loop: a hundred that compare and set would try five thousand times.
        self._turns: WeakValueDictionary[tuple[Any, str], asyncio.Lock] = WeakValueDictionary()
        self._is_unique = any(index.unique for index in schema.indexes)
        self._indexed = {
            name
            for index in schema.indexes
            for name in (*index.fields, *(each.path.partition(".")[0] for each in comparisons(index.where)))
        }
        self._ready: Any = None

    async def prepare(self) -> None:
        await self._client()

    @property
    def native(self) -> Any:
        return self.manager.live

    @property
    def collection(self) -> Keys:
        return self._keys

    async def insert(self, operation: Insert) -> tuple[Document, ...]:
        client = await self._client()
        keys = self._keys
        writes = []
        for document in operation.documents:
            checked = self._documents.checked(document)
            id_text = self._documents.id_of(checked)
            unique, sets = keys.entries(checked)
            text = encode_json(checked)
            writes.append(_Write(keys.document(id_text), id_text, new=text, unique=unique, sets=tuple(sets)))
        if self._in_cluster and not keys.tagged and len(writes) > 1:
            raise UnsupportedOperationError(
                f"{self.schema.name}: a cluster cannot insert several documents in one step where no index keeps the "
                "collection on one node; insert them one by one"
            )
        skip = operation.on_conflict is OnConflict.SKIP
        answers = await self._write(client, writes, ttl=operation.ttl, all_or_none=not skip)
        if not skip and answers != [1] * len(writes):
            raise DuplicateRecordError(self.schema.name, [self.schema.key]) from ResponseError("the id is taken")
        return tuple(document for document, done in zip(operation.documents, answers, strict=True) if done == 1)

    async def find(self, operation: Find) -> list[Document]:
        client = await self._client()
        self._check_order(operation.order_by)
        records = await self._fetch(client, operation.where)
        documents = [record.document for record in records]
        if len(documents) > 1:
            documents = ordered(documents, operation.order_by, self.schema.key)
        end = None if operation.limit is None else operation.skip + operation.limit
        return documents[operation.skip : end]

    async def update(self, operation: Update) -> list[Document] | int:
        client = await self._client()
        spliced = await self._splice(client, operation)
        if spliced is not None:
            return spliced
        where = both(operation.where, operation.guard)
        async with self._turn(client, where):
            return await self._compare_and_set(client, where, operation)

    async def _compare_and_set(self, client: Any, where: Predicate, operation: Update) -> list[Document] | int:
        meets = matcher(where)
        pending = await self._fetch(client, where)
        done: list[Document] = []
        while pending:
            after = [self._documents.changed(record, operation) for record in pending]
            writes = [self._replacement(old, new) for old, new in zip(pending, after, strict=True)]
            answers = await self._write(client, writes, ttl=operation.ttl)
            done += [record.document for record, answer in zip(after, answers, strict=True) if answer == 1]
            pending = self._overtaken(answers, meets)
        return ordered(done, (), self.schema.key) if operation.returning else len(done)

    async def delete(self, operation: Delete) -> int:
        client = await self._client()
        where = both(operation.where, operation.guard)
        planned = plan(where, self._keys)
        if planned.exact and planned.ids is not None and not self.schema.indexes:
            names = [self._keys.document(each) for each in planned.ids]
            return sum(await self._per_slot(client, "DEL", names))
        meets = matcher(where)
        pending = await self._fetch(client, where)
        deleted = 0
        while pending:
            answers = await self._write(client, [self._replacement(record, None) for record in pending])
            deleted += answers.count(1)
            pending = self._overtaken(answers, meets)
        return deleted

    async def count(self, operation: Count) -> int:
        client = await self._client()
        planned = plan(operation.where, self._keys)
        if planned.exact and planned.ids is not None:
            names = [self._keys.document(each) for each in planned.ids]
            number = sum(await self._per_slot(client, "EXISTS", names))
        elif operation.where == ALL:
            number = len(await self._scan(client, f"{self._keys.prefix}*"))
        else:
            number = len(await self._fetch(client, operation.where))
        return number if operation.limit is None else min(number, operation.limit)

    @property
    def _keys(self) -> Keys:
        if self._made is None:
            self._made = Keys(self.schema, tagged=self._in_cluster)
        return self._made

    def _id_text(self, value: Any) -> str | None:
        return self._keys.id_text(value)

    async def _client(self) -> Any:
        """The open client, with an entry for every document in every index of the model."""
        client = self.manager.live or await self.manager.connect()
        if client is not self._ready:
            keys = self._keys  # refuses what it cannot name or index
            if self.schema.indexes:
                try:
                    await self._ensure_indexes(client, keys)
                except ResponseError as error:
                    raise self._translated(error) from error
            self._ready = client
        return client

    async def _ensure_indexes(self, client: Any, keys: Keys) -> None:
        """Index what was stored before the index was, once: the collection remembers which indexes are complete."""
        complete: dict[str, str] = await client.hgetall(keys.meta)
        wanted = {name: keys.signature(index) for name, index in keys.indexes.items()}
        if complete == wanted:
            return
        for name in complete.keys() - {name for name in wanted if complete.get(name) == wanted[name]}:
            await client.hdel(keys.meta, name)
            await self._per_slot(client, "DEL", await self._scan(client, f"{keys.entries_prefix}{name}:*"))
        pending = await self._fetch(client, ALL)
        while pending:
            try:
                answers = await self._write(client, [self._replacement(each, each) for each in pending])
            except DuplicateRecordError as error:
                raise MigrationError(
                    f"{keys.name}: stored records have the same {', '.join(error.fields)}, so that cannot be made "
                    "unique: migrate them"
                ) from error
            pending = self._overtaken(answers, matcher(ALL))
        await client.hset(keys.meta, mapping=wanted)

    def _turn(self, client: Any, where: Predicate) -> AbstractAsyncContextManager[None]:
        ids = plan(where, self._keys).ids
        if ids is None or len(ids) != 1:
            return nullcontext()
        key = (client, ids[0])
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        turn: AbstractAsyncContextManager[None] = client.gate.in_turn(lock)
        return turn

    async def _splice(self, client: Any, operation: Update) -> list[Document] | int | None:
        """Update one document without reading it, where nothing has to be decided by its values; else None."""
        touched = {*operation.changes, *operation.appends, *operation.increments}
        terms = list(conjuncts(operation.where))
        match terms:
            case [Compare(self.schema.key, Op.EQ, value)] if operation.check is None:
                pass
            case _:
                return None
        guards = [_null_field(each) for each in conjuncts(operation.guard)]
        if None in guards or touched & self._indexed:
            return None
        if operation.ttl is not None and self.schema.indexes:
            return None
        if any(self.schema.fields[name].kind is not Kind.INTEGER for name in operation.increments):
            return None
        id_text = self._keys.id_text(value)
        if id_text is None:
            return [] if operation.returning else 0
        changes = {name: self._documents.check(name, each) for name, each in operation.changes.items()}
        arguments = [
            _milliseconds(operation.ttl),
            int(operation.returning),
            *(len(guards), len(changes), len(operation.appends), len(operation.increments)),
            *guards,
            *splice_arguments(changes),
            *splice_arguments(operation.appends),
            *splice_arguments(operation.increments),
        ]
        answer = await self._script(client, SPLICE, [self._keys.document(id_text)], arguments)
        if answer == 0:
            return None
        if not operation.returning:
            return int(answer is not None)
        return [] if answer is None else [self._documents.decode(answer).document]

    async def _fetch(self, client: Any, where: Predicate) -> list[Record]:
        planned = plan(where, self._keys)
        if planned.ids is not None:
            texts = await self._read(client, [self._keys.document(each) for each in planned.ids])
        elif planned.entries is not None:
            arguments = (self._keys.prefix, int(planned.unique))
            texts = await self._script(client, LOOKUP, planned.entries, arguments, read=True)
        else:
            texts = await self._read(client, await self._scan(client, f"{self._keys.prefix}*"))
        records = [self._documents.decode(text) for text in texts if text is not None]
        if planned.exact or where == ALL:
            return records
        meets = matcher(where)
        return [record for record in records if meets(record.document)]

    async def _read(self, client: Any, names: Sequence[str]) -> list[str | None]:
        if self._in_cluster and not self._keys.tagged:
            return await self._each(client.get(name) for name in names)
        replies = await self._each(client.mget(batch) for batch in _batches(names))
        return [text for reply in replies for text in reply]

    async def _per_slot(self, client: Any, command: str, names: Sequence[str]) -> list[int]:
        size = 1 if self._in_cluster and not self._keys.tagged else _BATCH
        return await self._each(client.execute_command(command, *batch) for batch in _batches(names, size))

    async def _each(self, commands: Iterable[Any]) -> list[Any]:
        try:
            return list(await asyncio.gather(*commands))
        except ResponseError as error:
            raise self._translated(error) from error

    async def _scan(self, client: Any, pattern: str) -> list[str]:
        try:
            found = [key async for key in client.scan_iter(match=pattern, count=1000)]
        except ResponseError as error:
            raise self._translated(error) from error
        return list(dict.fromkeys(found))

    def _replacement(self, old: Record, new: Record | None) -> _Write:
        keys = self._keys
        unique, sets = keys.entries(old.document)
        new_unique, new_sets = keys.entries(new.document) if new is not None else ({}, set())
        return _Write(
            keys.document(old.id),
            old.id,
            expected=old.text,
            new="" if new is None else new.text,
            removed=[key for key in unique if key not in new_unique],
            left=[key for key in sets if key not in new_sets],
            unique=new_unique,
            sets=tuple(new_sets),
        )

    def _overtaken(self, answers: Iterable[Any], meets: Any) -> list[Record]:
        """Of the documents that another writer changed first, those that are still meant."""
        texts = (answer for answer in answers if answer not in (1, ""))
        records = [self._documents.decode(text) for text in texts]
        return [record for record in records if meets(record.document)]

    async def _write(
        self, client: Any, writes: Sequence[_Write], *, ttl: float | None = None, all_or_none: bool = False
    ) -> list[Any]:
        """1 for each that was written, else the text that was there instead of the expected one."""
        together = all_or_none or self._is_unique
        size = 1 if self._in_cluster and not self._keys.tagged else len(writes) if together else _BATCH
        answers: list[Any] = []
        for batch in _batches(writes, size):
            names: list[str] = []
            arguments: list[Any] = [int(all_or_none), _milliseconds(ttl), self._keys.prefix]
            for each in batch:
                lists = (each.removed, each.left, each.unique, each.sets)
                names += [each.key, *(name for part in lists for name in part)]
                arguments += [each.expected, each.new, each.id, *map(len, lists)]
            try:
                answers += await run(client, WRITE, names, arguments)
            except ResponseError as error:
                raise self._translated(error, batch) from error
        return answers

    async def _script(
        self, client: Any, script: str, names: Sequence[str], arguments: Sequence[Any], *, read: bool = False
    ) -> Any:
        try:
            return await run(client, script, names, arguments, read=read)
        except ResponseError as error:
            raise self._translated(error) from error

    def _translated(self, error: RedisError, writes: Sequence[_Write] = ()) -> AppError:
        match str(error).removeprefix("ERR ").split():
            case ["DUPLICATE", document, entry]:
                write = writes[int(document) - 1]
                return DuplicateRecordError(self.schema.name, list(write.unique.values())[int(entry) - 1].fields)
        return StoreUnavailableError(f"{self.schema.name}: Redis refused: {error}")

    def _check_order(self, order_by: Iterable[Order]) -> None:
        for order in order_by:
            known = self.schema.fields.get(order.field)
            if known is None:
                raise InvalidFilterError(f"{self.schema.name} has no field {order.field!r}")
            if known.kind is Kind.JSON:
                raise UnsupportedOperationError(
                    f"{self.schema.name}: cannot sort or index by {order.field!r}, which is nested"
                )


def _null_field(term: Predicate) -> str | None:
    """The field that has to be None, where the term says no more than that."""
    is_null = isinstance(term, Compare) and term.op is Op.EQ and term.value is None
    return term.path if isinstance(term, Compare) and is_null and "." not in term.path else None


def _milliseconds(ttl: float | None) -> int | str:
    return "" if ttl is None else max(1, round(ttl * 1000))


def _batches(items: Sequence[Any], size: int = _BATCH) -> Iterable[Sequence[Any]]:
    return (items[at : at + size] for at in range(0, len(items), size or 1))
