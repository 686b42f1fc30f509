"""The commands that MongoDB is asked with, and what becomes of answers as its manual has them.

The stand-in knows no `$indexStats`, so answers about the use of indexes are written here.
"""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.db import DataLayer
from app.db.statistics.base import IndexStatistics, StoreState, StoreStatistics

from .mongodb_wire import Command, Wire, found

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
LATER = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def wire(wire: Wire) -> Wire:
    wire.answer = answer
    return wire


async def told(wire: Wire) -> StoreStatistics:
    async with DataLayer.from_config(
        {"connections": {"mongodb": {"url": f"mongodb://127.0.0.1:{wire.port}/", "database": "shop"}}}
    ) as data:
        return (await data.statistics())["mongodb"]


def accesses(name: str, ops: int, since: datetime = SINCE) -> dict[str, Any]:
    return {"name": name, "key": {}, "host": "a:27017", "accesses": {"ops": ops, "since": since}}


def answer(command: Command) -> Any:
    """Two shards; one collection, a view and one of the server's own."""
    match command:
        case {"dbStats": _}:
            return {"db": "shop", "objects": 30, "dataSize": 3000.0, "storageSize": 4096.0, "indexSize": 8192.0}
        case {"listCollections": _}:
            kinds = {"orders": "collection", "recent": "view", "system.views": "collection"}
            return found(*({"name": name, "type": kind} for name, kind in kinds.items()))
        case {"listIndexes": _}:
            return found(
                {"v": 2, "key": {"_id": 1}, "name": "_id_"},
                {"v": 2, "key": {"number": 1}, "name": "number_unique", "unique": True},
                {"v": 2, "key": {"customer": 1, "at": -1}, "name": "used"},
                {"v": 2, "key": {"note": "text"}, "name": "idle"},
                {"v": 2, "key": {"ends": 1}, "name": "ends_ttl", "expireAfterSeconds": 0},
                {"v": 2, "key": {"new": 1}, "name": "unfinished"},
            )
        case {"aggregate": _, "pipeline": [{"$collStats": _}, *_]}:
            shard = {"count": 10, "size": 1000, "storageSize": 2048, "totalIndexSize": 4096}
            return found({**shard, "indexSizes": {"used": 100}}, {**shard, "count": 20, "indexSizes": {"used": 50}})
        case {"aggregate": _, "pipeline": [{"$indexStats": _}]}:
            return found(
                *(accesses(name, 0) for name in ("_id_", "number_unique", "idle", "ends_ttl")),
                accesses("used", 0),
                accesses("used", 3, LATER),
            )
    return None


async def test_the_commands(wire: Wire) -> None:
    await told(wire)
    own = [each for each in wire.take() if "buildInfo" not in each]
    measures = ("count", "size", "storageSize", "totalIndexSize", "indexSizes")
    assert own == [
        {"dbStats": 1},
        {"listCollections": 1, "nameOnly": True, "authorizedCollections": True, "cursor": {}},
        {"listIndexes": "orders", "cursor": {}},
        {
            "aggregate": "orders",
            "pipeline": [
                {"$collStats": {"storageStats": {}}},
                {"$project": {name: f"$storageStats.{name}" for name in measures}},
            ],
            "cursor": {},
        },
        {"aggregate": "orders", "pipeline": [{"$indexStats": {}}], "cursor": {}},
    ]


async def test_the_shards_together(wire: Wire) -> None:
    store = await told(wire)
    assert (store.state, store.size_bytes, store.notes) == (StoreState.OK, 12_288, ())
    assert store.details["documents"] == 30
    [orders] = store.collections
    assert (orders.name, orders.rows, orders.exact, orders.size_bytes) == ("orders", 30, False, 2 * (2048 + 4096))
    indexes = {index.name: index for index in orders.indexes}
    assert indexes["used"] == IndexStatistics(
        "used", ("customer", "at"), "btree", False, 150, 3, LATER.isoformat(), unused=False
    )
    assert {name: index.unused for name, index in indexes.items()} == {
        "_id_": False,
        "number_unique": False,
        "used": False,
        "idle": True,
        "ends_ttl": False,
        "unfinished": None,
    }
    assert [indexes[name].kind for name in ("idle", "ends_ttl")] == ["text", "ttl"]


@pytest.mark.parametrize("refused", ["dbStats", "$collStats", "$indexStats", "listIndexes", "listCollections"])
async def test_what_is_refused_is_unknown(wire: Wire, refused: str) -> None:
    def refuse(command: Command) -> Any:
        stage = next(iter(command.get("pipeline", [{}])[0]), "")
        if refused in (*command, stage):
            return {"ok": 0, "errmsg": "not authorized", "code": 13, "codeName": "Unauthorized"}
        return answer(command)

    wire.answer = refuse
    store = await told(wire)
    assert store.state is StoreState.OK
    assert store.notes == (f"{refused} was refused: Unauthorized",)
    if refused == "listCollections":
        assert store.collections == ()
        return
    [orders] = store.collections
    assert (orders.rows is None) == (refused == "$collStats")
    assert {index.unused for index in orders.indexes} == (
        {None} if refused == "$indexStats" else set() if refused == "listIndexes" else {True, False, None}
    )


async def test_a_collection_that_is_dropped_meanwhile(wire: Wire) -> None:
    wire.answer = lambda command: found() if "listIndexes" in command else answer(command)
    assert (await told(wire)).collections == ()
