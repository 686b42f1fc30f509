"""Migrations of a Qdrant server, of version 1.16 or newer: the lock is in the metadata of a collection."""

import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ....connections.qdrant import QdrantConnectionManager
from ....core.constants import Distance
from ....core.errors import MigrationError, UnsupportedOperationError
from ...vector.contract import CollectionContract
from ...vector.payload import check_metadata
from ...vector.qdrant_server_rows import stored_row
from ..ledger import LEDGER, Entry
from ..steps import CreatePayloadIndex, CreateVectorCollection, DropCollection, DropPayloadIndex
from ..store import Found, Replacement
from ._generations import GenerationLock
from ._qdrant_payload import to_document
from ._vectors import DESCRIPTION, Fate, NoCollectionError, VectorMigrationStore, contract_of, fate

if TYPE_CHECKING:
    from qdrant_client import models

    from ...vector.qdrant_server_collections import ServerCollections

BATCH: Final = 100
"""Changes in one request."""

_PAGE: Final = 1_000
_NOT_FOUND: Final = 404
_NAME: Final = re.compile(r"[^<>:\"/\\|?*\x00-\x1f]{1,200}")
_POINTS: Final = uuid.UUID("d64a0a0a-7b13-5a5d-8a3c-9c1f6b1d8e55")
_KINDS: Final = {
    "text": "keyword",
    "integer": "integer",
    "float": "float",
    "boolean": "bool",
    "datetime": "datetime",
    "uuid": "uuid",
}
_DISTANCES: Final = {Distance.COSINE: "Cosine", Distance.L2: "Euclid", Distance.INNER_PRODUCT: "Dot"}


class QdrantServerStore(GenerationLock, VectorMigrationStore):
    index_kinds = frozenset(_KINDS)

    def __init__(self, manager: QdrantConnectionManager) -> None:
        super().__init__(manager)
        self._manager = manager

    def check_name(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UnsupportedOperationError(f"{name!r} is no name for a collection of Qdrant: use letters and digits")

    def check_values(self, values: Mapping[str, Any]) -> None:
        check_metadata(values)

    async def create_collection(self, step: CreateVectorCollection) -> None:
        from qdrant_client import models  # noqa: PLC0415 - an optional package

        asked = contract_of(step)
        try:
            there = (await self._info(step.collection)).config.params.vectors
        except NoCollectionError:
            params = models.VectorParams(size=step.dimension, distance=models.Distance(_DISTANCES[asked.distance]))
            await self._make(step.collection, params, json.dumps(asdict(asked)))
            return
        place = f"the collection {step.collection!r} of {self._manager.server}"
        if not isinstance(there, models.VectorParams):
            raise MigrationError(f"{place} has vectors with names: give the new one another name")
        for distance, name in _DISTANCES.items():
            if there.distance == name:
                CollectionContract(None, None, there.size, distance).check(asked, place)
                return
        raise MigrationError(f"{place} measures by {there.distance}: give the new one another name")

    async def drop_collection(self, step: DropCollection) -> None:
        await self._collections().drop(step.collection)

    async def create_index(self, step: CreatePayloadIndex) -> None:
        from qdrant_client import models  # noqa: PLC0415 - as above

        schema = models.PayloadSchemaType(_KINDS[step.kind])
        name = await self._collections().behind(step.collection)
        await self._write(lambda client: client.create_payload_index(name, step.path, schema), step.collection)

    async def drop_index(self, step: DropPayloadIndex) -> None:
        try:
            if step.path in (await self._info(step.collection)).payload_schema:
                name = await self._collections().behind(step.collection)
                await self._write(lambda client: client.delete_payload_index(name, step.path))
        except NoCollectionError:
            return

    async def count(self, collection: str) -> int:
        try:
            counted = await self._read(lambda client: client.count(collection, exact=False), collection)
        except NoCollectionError:
            return 0
        return int(counted.count)

    async def read_batch(self, collection: str, after: Any, limit: int) -> Sequence[Found]:
        # A page begins with the id that it is given.
        size = limit + (after is not None)
        try:
            records, _ = await self._read(
                lambda client: client.scroll(collection, offset=after, limit=size), collection
            )
        except NoCollectionError:
            return []
        return [Found(record.id, _document(record.payload)) for record in records if record.id != after][:limit]

    async def read_some(self, collection: str, ids: Sequence[Any]) -> Sequence[Found]:
        payloads = await self._payloads(collection, ids)
        return [Found(each, _document(payload)) for each, payload in payloads.items()]

    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> Sequence[Found]:
        """Guarded by the server as far as it can compare: what is no list and no object, and all that is in a row of
        ours. To remove a field after its new name was set is a step of its own, which a reader may come between.
        """
        from ._qdrant_guards import set_fields  # noqa: PLC0415 - as above

        overtaken: list[Found] = []
        for start in range(0, len(replacements), BATCH):
            part = replacements[start : start + BATCH]
            payloads = await self._payloads(collection, [each.id for each in part])
            fates = {each.id: fate(_document(payloads[each.id]), each) for each in part if each.id in payloads}
            written = [each for each in part if fates.get(each.id) is Fate.WRITE]
            operations = [operation for each in written for operation in set_fields(each, payloads[each.id])]
            if operations:
                await self._write(lambda client, o=operations: client.batch_update_points(collection, o))  # type: ignore[misc]
                payloads |= await self._payloads(collection, [each.id for each in written])
            overtaken += [
                Found(each.id, document)
                for each in part
                if each.id in payloads and fate(document := _document(payloads[each.id]), each) is not Fate.DONE
            ]
        return overtaken

    async def read_entries(self) -> list[Entry]:
        entries: list[Entry] = []
        after = None
        while True:
            try:
                records, after = await self._read(
                    lambda client, start=after: client.scroll(LEDGER, offset=start, limit=_PAGE),  # type: ignore[misc]
                    LEDGER,
                )
            except NoCollectionError:
                return []
            entries += [Entry.from_document(json.loads(record.payload["entry"])) for record in records]
            if after is None:
                return entries

    async def write_entry(self, entry: Entry) -> None:
        from qdrant_client import models  # noqa: PLC0415 - as above

        text = json.dumps(entry.to_document(), ensure_ascii=False, allow_nan=False)
        payload = {"name": entry.name, "entry": text}
        point = models.PointStruct(id=_point(entry.name), vector=[1.0], payload=payload)
        await self._write(lambda client: client.upsert(LEDGER, [point]))

    async def delete_entry(self, name: str) -> None:
        await self._write(lambda client: client.delete(LEDGER, [_point(name)]))

    async def collection_names(self) -> list[str]:
        return [each.name for each in (await self._read(lambda client: client.get_collections())).collections]

    async def read_description(self, name: str) -> str | None:
        try:
            metadata = (await self._info(name)).config.metadata
        except NoCollectionError:
            return None
        if not metadata or DESCRIPTION not in metadata:
            raise UnsupportedOperationError(
                f"{self._manager.server} keeps no metadata of collections: migrations need Qdrant 1.16 or newer"
            )
        return str(metadata[DESCRIPTION])

    async def make_described(self, name: str, description: str) -> None:
        from qdrant_client import models  # noqa: PLC0415 - as above

        await self._make(name, models.VectorParams(size=1, distance=models.Distance.DOT), description)

    async def remove(self, name: str) -> None:
        if name in await self.collection_names():
            await self._write(lambda client: client.delete_collection(name))

    def _collections(self) -> "ServerCollections":
        """As the vector store has them: the name of one that was embedded anew is an alias of another."""
        from ...vector.qdrant_server_collections import ServerCollections  # noqa: PLC0415 - an optional package

        return ServerCollections(self._manager)

    async def _make(self, name: str, params: "models.VectorParams", description: str) -> None:
        metadata = {DESCRIPTION: description}
        await self._write(lambda client: client.create_collection(name, vectors_config=params, metadata=metadata))

    async def _info(self, name: str) -> "models.CollectionInfo":
        info: models.CollectionInfo = await self._read(lambda client: client.get_collection(name), name)
        return info

    async def _payloads(self, collection: str, ids: Sequence[Any]) -> dict[Any, dict[str, Any]]:
        """Of those that are still there."""
        try:
            records = await self._read(lambda client: client.retrieve(collection, ids), collection)
        except NoCollectionError:
            return {}
        return {record.id: record.payload or {} for record in records}

    async def _read(self, work: Callable[[Any], Awaitable[Any]], collection: str = "") -> Any:
        return await self._call(self._manager.read, work, collection)

    async def _write(self, work: Callable[[Any], Awaitable[Any]], collection: str = "") -> Any:
        return await self._call(self._manager.write, work, collection)

    async def _call(
        self, call: Callable[[Any], Awaitable[Any]], work: Callable[[Any], Awaitable[Any]], name: str
    ) -> Any:
        """NoCollectionError for the collection of that name."""
        try:
            return await call(work)
        except Exception as error:
            if not type(error).__module__.startswith("qdrant_client."):
                raise
            status = getattr(error, "status_code", None)
            if name and status == _NOT_FOUND:
                raise NoCollectionError(name) from error
            raise MigrationError(f"{self._manager.server} refused it ({status or type(error).__name__})") from error


def _point(name: str) -> str:
    return str(uuid.uuid5(_POINTS, name))


def _document(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    return to_document(payload, stored_row)
