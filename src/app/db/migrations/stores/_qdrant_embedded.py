"""Migrations of the collections of embedded Qdrant. Each step is one job of the engine's thread."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from ....connections._qdrant_embedded import Collections, check_collection_name
from ....connections.qdrant import QdrantConnectionManager
from ....core.errors import MissingDependencyError
from ...vector.payload import check_metadata
from ..steps import CreatePayloadIndex, CreateVectorCollection, DropCollection, DropPayloadIndex
from ..store import Found, Replacement
from ._embedded import EmbeddedMigrationStore
from ._qdrant_payload import changed, changed_row, to_document
from ._vectors import Fate, NoCollectionError, contract_of, fate

try:
    import qdrant_edge as engine
except ImportError as error:
    raise MissingDependencyError.for_extra("qdrant-edge-py", "embedded") from error

from ...vector.qdrant_collection import BATCH, QdrantCollection
from ...vector.qdrant_rows import number_field, row_payload, stored_row

R = TypeVar("R")

_KINDS: Final = {
    "text": engine.PayloadSchemaType.Keyword,
    "integer": engine.PayloadSchemaType.Integer,
    "float": engine.PayloadSchemaType.Float,
    "boolean": engine.PayloadSchemaType.Bool,
    "datetime": engine.PayloadSchemaType.Datetime,
    "uuid": engine.PayloadSchemaType.Uuid,
}
_NUMBERS: Final = ("integer", "float")


class QdrantEmbeddedStore(EmbeddedMigrationStore):
    index_kinds = frozenset(_KINDS)

    def __init__(self, manager: QdrantConnectionManager) -> None:
        super().__init__(manager)
        self._manager = manager
        self.path = manager.path

    async def work(self, job: Callable[[Collections], R], *, write: bool = False) -> R:
        threaded = await self._manager.engine()
        return await (threaded.write(job) if write else threaded.read(job))

    def check_name(self, name: str) -> None:
        check_collection_name(name)

    def check_values(self, values: Mapping[str, Any]) -> None:
        check_metadata(values)

    async def create_collection(self, step: CreateVectorCollection) -> None:
        contract = contract_of(step)
        await self.work(lambda each: QdrantCollection.find_or_make(each, step.collection, contract), write=True)

    async def drop_collection(self, step: DropCollection) -> None:
        await self.work(lambda each: each.drop(step.collection), write=True)

    async def create_index(self, step: CreatePayloadIndex) -> None:
        """On the field of a payload. Rows of ours have their terms indexed already, and numbers in a place apart."""

        def create(collections: Collections) -> None:
            shard = _shard(collections, step.collection)
            shard.update(engine.UpdateOperation.create_field_index(step.path, _KINDS[step.kind]))
            if step.kind in _NUMBERS:
                params = engine.IntegerIndexParams(lookup=False, range=True)
                shard.update(engine.UpdateOperation.create_field_index(number_field(step.path), params))

        await self.work(create, write=True)

    async def drop_index(self, step: DropPayloadIndex) -> None:
        def drop(collections: Collections) -> None:
            if collections.contract(step.collection) is None:
                return
            for field in (step.path, number_field(step.path)):
                collections.shard(step.collection).update(engine.UpdateOperation.delete_field_index(field))
                collections.kept(step.collection).indexed.discard(field)

        await self.work(drop, write=True)

    async def count(self, collection: str) -> int:
        return await self._of(collection, lambda shard: shard.info().points_count, 0)

    async def read_batch(self, collection: str, after: Any, limit: int) -> Sequence[Found]:
        # A page begins with the id that it is given.
        start = None if after is None else _to_engine(after)
        request = engine.ScrollRequest(offset=start, limit=limit + (after is not None), with_payload=True)
        nothing: list[engine.Record] = []
        records = await self._of(collection, lambda shard: shard.scroll(request)[0], nothing)
        return [found for found in map(_found, records) if found.id != after][:limit]

    async def read_some(self, collection: str, ids: Sequence[Any]) -> Sequence[Found]:
        nothing: list[engine.Record] = []
        wanted = [*map(_to_engine, ids)]
        records = await self._of(collection, lambda shard: shard.retrieve(wanted, True, False), nothing)
        return [_found(record) for record in records]

    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> Sequence[Found]:
        overtaken: list[Found] = []
        for start in range(0, len(replacements), BATCH):
            part = replacements[start : start + BATCH]
            overtaken += await self.work(partial(_replace, name=collection, replacements=part), write=True)
        return overtaken

    async def _of(self, collection: str, read: Callable[[engine.EdgeShard], R], absent: R) -> R:
        return await self.work(
            lambda each: absent if each.contract(collection) is None else read(each.shard(collection))
        )


def _replace(collections: Collections, name: str, replacements: Sequence[Replacement]) -> list[Found]:
    if collections.contract(name) is None:
        return []
    shard = collections.shard(name)
    overtaken = []
    records = shard.retrieve([_to_engine(each.id) for each in replacements], True, False)
    payloads = {_from_engine(record.id): record.payload or {} for record in records}
    for each in replacements:
        payload = payloads.get(each.id)
        if payload is None:
            continue
        document = to_document(payload, stored_row)
        match fate(document, each):
            case Fate.WRITE:
                row = stored_row(payload)
                after = (
                    row_payload(changed_row(row, each), row.embedded_at) if row is not None else changed(payload, each)
                )
                shard.update(engine.UpdateOperation.overwrite_payload([_to_engine(each.id)], after))
                collections.wrote(name, 1)
            case Fate.OVERTAKEN:
                overtaken.append(Found(each.id, document))
    return overtaken


def _shard(collections: Collections, name: str) -> engine.EdgeShard:
    if collections.contract(name) is None:
        raise NoCollectionError(name)
    return collections.shard(name)


def _found(record: Any) -> Found:
    return Found(_from_engine(record.id), to_document(record.payload, stored_row))


def _from_engine(id: uuid.UUID | int | str) -> str | int:
    return id if isinstance(id, int) else str(id)


def _to_engine(id: str | int) -> uuid.UUID | int | str:
    return id if isinstance(id, int) else uuid.UUID(id)
