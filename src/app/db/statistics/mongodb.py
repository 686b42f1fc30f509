"""MongoDB: `dbStats`, and `$collStats` and `$indexStats` of each collection, of all shards where there are some.

What a user may not ask, or a server does not know, is unknown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pymongo.errors import OperationFailure

from .base import CollectionStatistics, IndexStatistics, StoreStatistics, connected, each

if TYPE_CHECKING:
    from datetime import datetime

    from ...connections.mongodb import MongoDBConnectionManager

Document = Mapping[str, Any]

_MEASURES: Final = ("count", "size", "storageSize", "totalIndexSize", "indexSizes")
_COUNT_AND_SIZES: Final[tuple[Document, ...]] = (
    {"$collStats": {"storageStats": {}}},
    # What is left out is a hundred times as long as what is asked for.
    {"$project": {name: f"$storageStats.{name}" for name in _MEASURES}},
)


async def read(manager: "MongoDBConnectionManager") -> StoreStatistics:
    reading = _Reading(manager)
    async with connected(manager) as (_, allowance):
        [database] = await reading.ask("dbStats") or [{}]
        listed = await reading.ask("listCollections") or ()
        # A view has nothing of its own; system.* belongs to the server.
        names = [one["name"] for one in listed if one.get("type") != "view" and not one["name"].startswith("system.")]
        collections, notes = await each(names, allowance, reading.collection)
    return StoreStatistics(
        manager.name,
        manager.connection_type,
        size_bytes=_whole(_plus(database.get("storageSize"), database.get("indexSize"))),
        collections=collections,
        details={
            "data_bytes": _whole(database.get("dataSize")),
            "index_bytes": _whole(database.get("indexSize")),
            "documents": _whole(database.get("objects")),
        },
        notes=(*notes, *(f"{command} was refused: {reason}" for command, reason in sorted(reading.refused.items()))),
    )


class _Reading:
    def __init__(self, manager: "MongoDBConnectionManager") -> None:
        self._manager = manager
        self.refused: dict[str, str] = {}
        """Command → why."""

    async def ask(self, command: str, collection: str = "") -> list[Document] | None:
        """All that it answers; None where it was refused."""

        async def work(_: Any) -> list[Document]:
            database = self._manager.get_database()
            match command:
                case "dbStats":
                    return [await database.command("dbStats")]
                case "listCollections":
                    cursor: Any = await database.list_collections(nameOnly=True, authorizedCollections=True)
                case "listIndexes":
                    cursor = await database[collection].list_indexes()
                case "$collStats":
                    cursor = await database[collection].aggregate([*_COUNT_AND_SIZES])
                case _:
                    cursor = await database[collection].aggregate([{command: {}}])
            async with cursor:
                return [document async for document in cursor]

        try:
            return await self._manager.read(work)
        except OperationFailure as error:
            self.refused[command] = str((error.details or {}).get("codeName") or "the server does not know it")
            return None

    async def collection(self, name: str) -> CollectionStatistics | None:
        indexes = await self.ask("listIndexes", name)
        if indexes == []:  # dropped meanwhile
            return None
        shards = await self.ask("$collStats", name) or ()
        used = await self.ask("$indexStats", name)
        sizes: defaultdict[str, int] = defaultdict(int)
        for shard in shards:
            for index, size in (shard.get("indexSizes") or {}).items():
                sizes[index] += int(size)
        return CollectionStatistics(
            name,
            _sum(shards, "count"),
            exact=False,  # as of the last checkpoint, where the server was not shut down in order
            size_bytes=_plus(_sum(shards, "storageSize"), _sum(shards, "totalIndexSize")),
            indexes=tuple(_index(index, sizes, used) for index in indexes or ()),
            details={"data_bytes": _sum(shards, "size")},
        )


def _index(index: Document, sizes: Mapping[str, int], used: list[Document] | None) -> IndexStatistics:
    name: str = index["name"]
    accesses = [one["accesses"] for one in used or () if one["name"] == name]
    uses = sum(int(one["ops"]) for one in accesses) if accesses else None
    since: list[datetime] = [one["since"] for one in accesses]
    expires = "expireAfterSeconds" in index
    is_unique = bool(index.get("unique")) or name == "_id_"
    # What the server does with an index by itself, such as to delete what has expired, it does not count.
    unused = None if uses is None else uses == 0 and not (is_unique or expires)
    kinds = [str(way) for way in index["key"].values() if isinstance(way, str)]
    return IndexStatistics(
        name,
        tuple(index["key"]),
        "ttl" if expires else kinds[0] if kinds else "btree",
        is_unique,
        sizes.get(name),
        uses,
        max(since).isoformat() if since else None,
        unused,
    )


def _sum(shards: Iterable[Document], key: str) -> int | None:
    values = [shard[key] for shard in shards if shard.get(key) is not None]
    return int(sum(values)) if values else None


def _plus(left: float | None, right: float | None) -> int | None:
    return None if left is None else int(left + (right or 0))


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
