"""A storage backend of one's own: records in a dict, and the rules by which they are found from `evaluate.py`.

The same three parts make a backend for any store: a manager that connects, a backend that carries operations out, and
the registration. `test_memory_store.py` runs the library's contract on it.
"""

import asyncio
from typing import Any

from app.connections.base import ConnectionManager
from app.core.errors import AppError, DuplicateRecordError, InvalidChangeError, UnsupportedOperationError
from app.db.backends import BackendRegistry, Capability, CollectionSchema, Index, StorageBackend
from app.db.models.schema import Kind
from app.db.query import (
    Count,
    Delete,
    Explain,
    Find,
    Insert,
    OnConflict,
    Predicate,
    Update,
    Upsert,
)
from app.db.query.evaluate import matches, ordered
from app.db.query.predicates import both

Document = dict[str, Any]
Client = dict[str, dict[Any, Document]]


class MemoryManager(ConnectionManager[Client]):
    """Connects to a dict of collections, which lives as long as the manager."""

    connection_type = "memory"

    def __init__(self) -> None:
        super().__init__()
        self._collections: Client = {}

    async def _open(self) -> Client:
        return self._collections

    async def _close(self, client: Client) -> None:
        """Nothing is open."""

    async def _ping(self, client: Client) -> str:
        return "1"

    def get_connection_info(self) -> dict[str, Any]:
        return {"type": self.connection_type}


@BackendRegistry.register("memory")
class MemoryBackend(StorageBackend):
    """One operation is one step, since none awaits in the middle. An update that fails for one record changes none."""

    capabilities = frozenset({Capability.UNIQUE_INDEX, Capability.PARTIAL_INDEX, Capability.ORDERED_STREAM})

    def __init__(self, manager: ConnectionManager[Any], schema: CollectionSchema) -> None:
        super().__init__(manager, schema)
        key = Index(schema.key, unique=True)
        self._unique = (key, *(index for index in schema.indexes if index.unique))

    async def prepare(self) -> None:
        await self.manager.connect()

    @property
    def collection(self) -> dict[Any, Document]:
        records: dict[Any, Document] = self.manager.live.setdefault(self.schema.name, {})
        return records

    @property
    def native(self) -> Any:
        return self.manager.live

    async def insert(self, operation: Insert) -> tuple[Document, ...]:
        await self.prepare()
        taken = self.collection if operation.on_conflict is OnConflict.SKIP else {}
        new = [document for document in operation.documents if document[self.schema.key] not in taken]
        self._store({}, new)
        return tuple(new)

    async def upsert(self, operation: Upsert) -> list[Document] | int:
        await self.prepare()
        old: list[Any] = []
        new: list[Document] = []
        for document in operation.documents:
            [index] = [each for each in self._unique if set(each.fields) == set(operation.on)]
            there = self._taken_by(index, document)
            if there is None or not matches(operation.guard, there):
                new.append(document)
                continue
            kept = {name: there[name] for name in (self.schema.key, *operation.keep)}
            kept |= {name: there[name] + 1 for name in operation.increments}
            old.append(there[self.schema.key])
            new.append({**document, **kept})
        self._store(dict.fromkeys(old), new)
        return new if operation.returning else len(new)

    async def find(self, operation: Find) -> list[Document]:
        for order in operation.order_by:
            if self.schema.fields[order.field].kind is Kind.JSON:
                raise UnsupportedOperationError(f"{self.schema.name}: cannot sort by {order.field!r}, which is nested")
        found = ordered(await self._matching(operation.where), operation.order_by, self.schema.key)
        end = None if operation.limit is None else operation.skip + operation.limit
        names = operation.fields or tuple(self.schema.fields)
        return [{name: each[name] for name in names} for each in found[operation.skip : end]]

    async def update(self, operation: Update) -> list[Document] | int:
        found = await self._matching(both(operation.where, operation.guard))
        new = [self._changed(document, operation) for document in found]
        self._store({document[self.schema.key]: None for document in found}, new)
        return [dict(document) for document in new] if operation.returning else len(new)

    async def delete(self, operation: Delete) -> int:
        found = await self._matching(both(operation.where, operation.guard))
        for document in found:
            del self.collection[document[self.schema.key]]
        return len(found)

    async def count(self, operation: Count) -> int:
        number = len(await self._matching(operation.where))
        return number if operation.limit is None else min(number, operation.limit)

    async def explain(self, operation: Explain) -> dict[str, Any]:
        keyed = any(name in str(operation.find.where) for index in self._unique for name in index.fields)
        return {"store": "memory", "index": self.schema.key if keyed else None}

    async def _matching(self, where: Predicate) -> list[Document]:
        await self.prepare()
        await asyncio.sleep(0)
        found = [document for document in self.collection.values() if matches(where, document)]
        return ordered(found, (), self.schema.key)

    def _changed(self, document: Document, operation: Update) -> Document:
        sums = {name: (document[name] or 0) + by for name, by in operation.increments.items()}
        longer = {name: [*document[name], item] for name, item in operation.appends.items()}
        changed = {**document, **operation.changes, **sums, **longer}
        if operation.check is not None:
            operation.check(changed)
        return changed

    def _store(self, replaced: dict[Any, None], documents: list[Document]) -> None:
        """Put all in the place of those that are replaced, or none where a unique index is broken."""
        records = self.collection
        before = dict(records)
        for key in replaced:
            del records[key]
        try:
            for document in documents:
                self._check(document)
                records[document[self.schema.key]] = dict(document)
        except AppError:
            records.clear()
            records.update(before)
            raise

    def _check(self, document: Document) -> None:
        for name, field in self.schema.fields.items():
            try:
                field.accept(document[name])
            except ValueError as error:
                raise InvalidChangeError(f"{self.schema.name}.{name}: {error}") from None
        for index in self._unique:
            if self._taken_by(index, document) is not None:
                raise DuplicateRecordError(self.schema.name, index.fields)

    def _taken_by(self, index: Index, document: Document) -> Document | None:
        values = [document[name] for name in index.fields]
        if None in values or not matches(index.where, document):
            return None
        for each in self.collection.values():
            if [each[name] for name in index.fields] == values and matches(index.where, each):
                return each
        return None
