"""Migrations of Redis. The ledger is the hash `@manystore_migrations`; the lock is a key beside it."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from pydantic_core import to_json
from redis.exceptions import RedisError

from ....connections.base import ConnectionManager
from ....core.errors import MigrationError, StoreUnavailableError, UnsupportedOperationError
from ...backends import _redis_indexes as indexes
from ...backends._json import decode_json, encode_json, tagged
from ...backends._names import check_collection
from ...backends._redis_documents import Documents, Record
from ...backends._redis_keys import Keys
from ...backends._redis_records import BATCH, Mode, StoredRecords, Write, in_batches, replacement
from ...backends._redis_scripts import run
from ...backends.base import CollectionSchema, Index
from ...models.values import storable
from ..ledger import LEDGER, Entry
from ..lock import Held
from ..schemas import declared, default_name, described
from ..steps import CreateCollection, CreateIndex, DocumentChange, DropCollection, DropIndex
from ..store import Found, Replacement
from ._documents import DocumentMigrationStore

_LEDGER: Final = f"@{LEDGER}"
_LOCK: Final = f"{_LEDGER}:lock"
_IDS: Final = f"{_LEDGER}:ids"
"""The ids of the collection whose conversion is under way, in an order that SCAN has not."""

_SWAP: Final = r"""
-- Put ARGV[2] in the place of ARGV[1]; '' is nothing.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""


class RedisMigrationStore(DocumentMigrationStore):
    """A collection is there when it has a document, and an index serves the repository that declares it.

    Documents keep their time to live; index entries are written together with their document.
    """

    def __init__(self, manager: ConnectionManager[Any], schemas: Mapping[str, CollectionSchema] | None = None) -> None:
        super().__init__(manager, schemas)
        self._last: dict[str, Found] = {}
        """Of the batch that was read last, so that it need not be read again to be compared and set."""

    async def read_lock(self) -> Held | None:
        text = await self._command("GET", _LOCK)
        return None if text is None else Held(**json.loads(text))

    async def swap_lock(self, old: Held | None, new: Held | None) -> bool:
        texts = ["" if each is None else json.dumps(asdict(each)) for each in (old, new)]
        client = await self.manager.connect()
        with _translating():
            return bool(await run(client, _SWAP, [_LOCK], texts))

    async def read_entries(self) -> list[Entry]:
        client = await self.manager.connect()
        with _translating():
            texts: dict[str, str] = await client.hgetall(_LEDGER)
        return [Entry.from_document(decode_json(text)) for text in texts.values()]

    async def write_entry(self, entry: Entry) -> None:
        await self._command("HSET", _LEDGER, entry.name, encode_json(entry.to_document()))

    async def delete_entry(self, name: str) -> None:
        await self._command("DEL", _IDS)  # those of a conversion that had come no further
        await self._command("HDEL", _LEDGER, name)

    async def count(self, collection: str) -> int:
        del collection  # whose ids they are
        return int(await self._command("ZCARD", _IDS))

    async def is_empty(self, collection: str) -> bool:
        records = await self._records(collection)
        async for _ in self._scanned(f"{records.keys.prefix}*"):
            return False
        return True

    async def read_batch(self, collection: str, after: Any, limit: int) -> Sequence[Found]:
        records = await self._records(collection)
        if after is None:
            await self._collect(records.keys)
        start = "-" if after is None else f"({after}"
        while ids := await self._command("ZRANGEBYLEX", _IDS, start, "+", "LIMIT", 0, limit):
            found = await self._read(records, ids)
            if found:
                self._last = {each.id: each for each in found}
                return found
            start = f"({ids[-1]}"  # all of them are gone
        return []

    def replacement(self, collection: str, found: Found, change: DocumentChange) -> Replacement:
        key = self._schema(collection).key
        if key in change.fields:
            raise MigrationError(f"{collection}.{key} identifies a document and cannot be migrated")
        return super().replacement(collection, found, change)

    async def read_some(self, collection: str, ids: Sequence[Any]) -> Sequence[Found]:
        return await self._read(await self._records(collection), ids)

    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> Sequence[Found]:
        records = await self._records(collection)
        client = await self.manager.connect()
        wanted = {each.id: each for each in replacements}
        known, self._last = self._last, {}
        unknown = [name for name in wanted if name not in known]
        found = [known[name] for name in wanted if name in known] + await self._read(records, unknown)
        overtaken: list[Found] = []
        while found:
            writes: list[Write] = []
            for each in found:
                replaced = wanted[each.id]
                if self.has(each, replaced):
                    continue
                absent = tuple(name for name in (*replaced.values, *replaced.removed) if name not in replaced.expected)
                if self.has(each, Replacement(each.id, {}, replaced.expected, absent)):
                    writes.append(self._written(records.keys, each, replaced))
                else:
                    overtaken.append(each)
            with _translating():
                answers = await records.write(client, writes, Mode.EACH)
            # Others changed something in these: whether it is a field of ours is seen in the text they have now.
            pairs = zip(writes, answers, strict=True)
            found = [_found(write.id, answer) for write, answer in pairs if answer not in (1, "")]
        return overtaken

    async def converted(self, collection: str) -> None:
        await self._command("DEL", _IDS)
        if collection not in self.schemas:
            # Without the repository nobody knows its indexes: its next first use makes them anew.
            for name in await self._command("HKEYS", f"@{collection}"):
                await self._command("HSET", f"@{collection}", name, "~")

    async def _create_collection(self, step: CreateCollection) -> None:
        """Its first document makes it."""
        check_collection(step.collection)

    async def _drop_collection(self, step: DropCollection) -> None:
        name = check_collection(step.collection)
        for base in (name, f"{{{name}}}"):
            for pattern in (f"{base}:*", f"@{base}:*"):
                async for names in self._scanned(pattern):
                    for batch in in_batches(names, 1 if self._in_cluster else BATCH):
                        await self._command("UNLINK", *batch)
            await self._command("DEL", f"@{base}")

    async def _create_index(self, step: CreateIndex) -> None:
        name = check_collection(step.collection)
        schema = self.schemas.get(name)
        index = declared(schema, step.index)
        if self._in_cluster and (schema is None or index not in schema.indexes):
            raise UnsupportedOperationError(
                f"{name}: in a cluster an index decides where documents are: declare it in a registered repository"
            )
        records = self._stored(described(schema, name, index))
        client = await self.manager.connect()
        own = index.name or default_name(index)
        # Made without the model it may differ from the repository's (defaults), which then makes its own.
        signature = ("" if schema is not None else "~") + records.keys.signature(index)
        with _translating():
            if await client.hget(records.keys.meta, own) == signature:
                return
            await indexes.drop(client, records, own)
            await indexes.build(client, records)
            await client.hset(records.keys.meta, own, signature)

    async def _drop_index(self, step: DropIndex) -> None:
        records = await self._records(check_collection(step.collection))
        index = declared(self.schemas.get(step.collection), Index(name=step.name))
        own = (index.name or default_name(index)) if index.fields else step.name
        with _translating():
            await indexes.drop(await self.manager.connect(), records, own)

    @property
    def _in_cluster(self) -> bool:
        return bool(getattr(self.manager, "is_cluster", False))

    def _schema(self, collection: str) -> CollectionSchema:
        return self.schemas.get(collection) or described(None, collection)

    def _stored(self, schema: CollectionSchema) -> StoredRecords:
        keys = Keys(schema, tagged=self._in_cluster)
        return StoredRecords(keys, Documents(schema, keys.id_text), spread=self._in_cluster and not keys.tagged)

    async def _records(self, collection: str) -> StoredRecords:
        if self._in_cluster and collection not in self.schemas and await self._command("EXISTS", f"@{{{collection}}}"):
            raise UnsupportedOperationError(
                f"{collection}: in a cluster a collection with indexes is migrated with its repository registered"
            )
        return self._stored(self._schema(collection))

    def _written(self, keys: Keys, found: Found, replaced: Replacement) -> Write:
        kept = {name: value for name, value in found.document.items() if name not in replaced.removed}
        new = {**kept, **replaced.values}
        text = to_json(tagged(new)).decode()
        return replacement(
            keys, self._record(keys, found.id, found.stored, found.document), self._record(keys, found.id, text, new)
        )

    def _record(self, keys: Keys, id_text: str, text: str, document: Mapping[str, Any]) -> Record:
        """With the defaults of the model, as indexes have them, whatever else of it the document does not fit."""
        fields = keys.schema.fields
        missing = [name for name in keys.indexed if name not in document and name in fields]
        defaults = {name: storable(fields[name].default()) for name in missing if not fields[name].required}
        return Record(id_text, text, {}, {**defaults, **document})

    async def _collect(self, keys: Keys) -> None:
        await self._command("DEL", _IDS)
        async for names in self._scanned(f"{keys.prefix}*"):
            members = [word for name in names for word in (0, name.removeprefix(keys.prefix))]
            await self._command("ZADD", _IDS, *members)

    async def _scanned(self, pattern: str) -> AsyncIterator[list[str]]:
        """Names of keys, some of them twice."""
        client = await self.manager.connect()
        names: list[str] = []
        with _translating():
            async for name in client.scan_iter(match=pattern, count=1000):
                names.append(name)
                if len(names) == BATCH:
                    yield names
                    names = []
        if names:
            yield names

    async def _read(self, records: StoredRecords, ids: Sequence[str]) -> list[Found]:
        """Those that are there, each with its text."""
        texts = await records.read(await self.manager.connect(), ids) if ids else []
        return [_found(id_text, text) for id_text, text in zip(ids, texts, strict=True) if text is not None]

    async def _command(self, *words: Any) -> Any:
        client = await self.manager.connect()
        with _translating():
            return await client.execute_command(*words)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StoreUnavailableError(f"migrations: Redis refused: {error}") from error


def _found(id_text: str, text: str) -> Found:
    return Found(id_text, decode_json(text), text)
