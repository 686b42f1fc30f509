"""The exact commands that MongoDB gets, as its manual has them."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, ObjectId

from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import InvalidChangeError
from app.db import Entity, F, Repository
from app.db.backends import Index
from app.db.query import Compare, Not, Op
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository
from app.testing.models import Note, Notes, Product, Products

from .mongodb_wire import Command, Wire, found

HEX = "507f1f77bcf86cd799439011"


@pytest.fixture
async def products(wire: Wire, mongodb: MongoDBConnectionManager) -> Products:
    products = Products(mongodb)
    await products.count()
    wire.take()
    return products


STORED: dict[str, Any] = {
    "_id": "1",
    "name": "a",
    "sku": None,
    "price": 0.0,
    "stock": 0,
    "sold": None,
    "tags": [],
    "address": None,
}
NEW = Product(id="1", name="a")


async def test_indexes_are_made_once_and_first(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    products = Products(mongodb)
    await products.count()
    await products.count()
    created, *others = wire.take()
    assert [next(iter(each)) for each in others] == ["aggregate", "aggregate"]
    assert created["createIndexes"] == "products"
    assert created["indexes"] == [
        {
            "name": "products_sku_unique",
            "key": {"sku": 1},
            "unique": True,
            "partialFilterExpression": {"sku": {"$gte": ""}},
        },
        {"name": "offer", "key": {"name": 1, "price": 1}, "unique": True},
        {"name": "products_price_index", "key": {"price": 1}},
    ]


async def test_an_index_of_what_is_not_deleted(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    await UserRepository(mongodb).count()
    created, _ = wire.take()
    assert created["indexes"] == [
        {"name": f"{name}_unique", "key": {name: 1}, "unique": True, "partialFilterExpression": {"deleted_at": None}}
        for name in ("email", "username")
    ]


class Ware(Entity):
    code: str | None = None
    cost: Decimal | None = None
    size: int | None = None


async def test_the_condition_of_an_index(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    class Wares(Repository[Ware]):
        indexes = (
            Index("code", where=Not(Compare("code", Op.EQ, None)) & F.size.in_([1, 2])),
            Index("size", where=Compare("size", Op.GT, 5)),
            Index("cost", unique=True),
        )

    await Wares(mongodb).count()
    created, _ = wire.take()
    assert [each.get("partialFilterExpression") for each in created["indexes"]] == [
        {"code": {"$gte": ""}, "size": {"$in": [1, 2]}},
        {"size": {"$gt": 5}},
        {"cost": {"$gte": float("-inf")}},
    ]
    assert created["indexes"][2]["key"] == {"cost": 1, "~cost.tail": 1}


async def test_no_command_is_one_that_the_driver_would_retry(wire: Wire, products: Products) -> None:
    await products.create(NEW)
    await products.update_many({"name": "a"}, {"price": 1})
    await products.delete("1")
    for each in wire.take():
        assert "txnNumber" not in each


async def test_insert(wire: Wire, products: Products) -> None:
    await products.create(NEW)
    await products.create(Product(id=HEX, name="b", tags=["x"]))
    first, second = wire.take()
    assert first == {"insert": "products", "ordered": True, "documents": [STORED]}
    assert second["documents"] == [{**STORED, "_id": ObjectId(HEX), "name": "b", "tags": ["x"]}]


async def test_several_are_inserted_in_a_transaction(wire: Wire, products: Products) -> None:
    await products.create_many([NEW, Product(id="2", name="b")])
    inserted, committed = wire.take()
    assert inserted["insert"] == "products"
    assert inserted["ordered"] is False
    assert len(inserted["documents"]) == 2
    assert (inserted["startTransaction"], inserted["autocommit"]) == (True, False)
    assert inserted["readConcern"] == {"level": "snapshot"}
    assert committed["commitTransaction"] == 1
    assert committed["txnNumber"] == inserted["txnNumber"]
    assert committed["writeConcern"] == {"w": "majority"}


async def test_on_a_single_server_what_was_inserted_is_deleted_again(
    wire: Wire, mongodb: MongoDBConnectionManager
) -> None:
    wire.single = True
    products = Products(mongodb)
    refused = {"index": 1, "code": 11000, "errmsg": "E11000", "keyPattern": {"sku": 1}, "keyValue": {"sku": "x"}}
    wire.answer = lambda command: {"n": 2, "writeErrors": [refused]} if "insert" in command else None
    with pytest.raises(Exception, match="the same sku"):
        await products.create_many([NEW, Product(id="2", name="b"), Product(id=HEX, name="c")])
    _, inserted, deleted = wire.take()
    assert "startTransaction" not in inserted
    assert deleted["deletes"] == [{"q": {"_id": {"$in": ["1", ObjectId(HEX)]}}, "limit": 0}]


async def test_reads_by_key_and_unique_field_sort_nothing(wire: Wire, products: Products) -> None:
    await products.get(HEX)
    await products.find_one({"sku": "x"})
    await products.find_one({"name": "x", "price": 1})
    await products.find_one({"name": "x"})
    await products.find_one({"price": 1})
    by_key, by_sku, by_offer, other, by_price = wire.take()
    assert (by_key["filter"], by_key.get("sort")) == ({"_id": ObjectId(HEX)}, None)
    assert (by_sku["filter"], by_sku.get("sort")) == ({"sku": "x"}, None)
    assert (by_offer["filter"], by_offer.get("sort")) == ({"name": "x", "price": 1.0}, None)
    assert (other["filter"], other["sort"], other["limit"]) == ({"name": "x"}, {"_id": 1}, 1)
    assert by_price["sort"] == {"_id": 1}, "an index that is not unique"


async def test_find(wire: Wire, products: Products) -> None:
    await products.find({"stock": {"$gt": 2.5}}, order_by=["-price", "name"], skip=5, limit=10)
    await products.get_many(["1", HEX])
    await products.query().where("stock", "=", 1).select("name", "address.city").execute()
    assert await products.find(limit=0) == []
    page, many, selected = wire.take()
    assert page["filter"] == {"stock": {"$gte": 3}}
    assert page["sort"] == {"price": -1, "name": 1, "_id": 1}
    assert (page["skip"], page["limit"]) == (5, 10)
    assert many["filter"] == {"_id": {"$in": ["1", ObjectId(HEX)]}}
    assert selected["projection"] == {"name": 1, "address": 1}


async def test_count_and_exists(wire: Wire, products: Products) -> None:
    await products.count({"stock": 1})
    await products.exists({"stock": 1})
    counted, existing = wire.take()
    assert counted["pipeline"][0] == {"$match": {"stock": 1}}
    assert (existing["find"], existing["filter"], existing["limit"]) == ("products", {"stock": 1}, 1)
    assert existing["projection"] == {"_id": 1}


async def test_update_by_key_is_one_command(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    notes = Notes(mongodb)
    await notes.count()
    wire.take()
    assert await notes.update(HEX, {"body": "x"}) is None
    [sent] = wire.take()
    moved = sent["update"]["$set"].pop("updated_at")
    assert isinstance(moved, datetime)
    assert sent == {
        "findAndModify": "notes",
        "query": {"_id": ObjectId(HEX), "deleted_at": None},
        "update": {"$set": {"body": "x"}},
        "new": True,
        "upsert": False,
    }


async def test_update_many_counts_what_matched(wire: Wire, products: Products) -> None:
    wire.answer = lambda command: {"n": 3, "nModified": 0} if "update" in command else None
    assert await products.update_many({"stock": {"$lt": 5}}, {"price": 2}) == 3
    [sent] = wire.take()
    assert sent["updates"] == [
        {"q": {"stock": {"$lt": 5}}, "u": {"$set": {"price": 2.0}}, "multi": True, "upsert": False}
    ]


async def test_what_is_checked_is_written_only_while_it_is_what_was_read(wire: Wire, products: Products) -> None:
    stored = {**STORED, "stock": 4}
    wire.answer = lambda command: found(stored) if "find" in command else None
    assert await products.increment("1", "stock", 2) == 6
    read, written = wire.take()
    assert read["filter"] == {"_id": "1"}
    [update] = written["updates"]
    assert update["q"] == {"_id": "1", "$expr": {"$eq": ["$$ROOT", {"$literal": stored}]}}
    assert update["u"] == {"$set": {"stock": 6}}
    with pytest.raises(InvalidChangeError):
        await products.increment("1", "stock", -5)
    assert [next(iter(each)) for each in wire.take()] == ["find"]


async def test_an_overtaken_write_begins_again(wire: Wire, products: Products) -> None:
    numbers = iter([4, 7])
    counts = iter([0, 1])

    def answer(command: Command) -> Command | None:
        if "find" in command:
            return found({**STORED, "stock": next(numbers)})
        return {"n": next(counts), "nModified": 0} if "update" in command else None

    wire.answer = answer
    assert await products.increment("1", "stock") == 8
    assert wire.take()[-1]["updates"][0]["u"] == {"$set": {"stock": 8}}


async def test_upsert_by_key_and_by_a_unique_field(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    notes = Notes(mongodb)
    await notes.count()
    wire.take()
    note = Note(id=HEX, text="t", body="b")
    wire.answer = lambda command: {"value": {"_id": ObjectId(HEX), "text": "t"}} if "findAndModify" in command else None
    await notes.upsert(note)
    await notes.upsert(note, on="text")
    by_key, by_text = wire.take()
    assert by_key["query"] == {"_id": ObjectId(HEX), "deleted_at": None}
    assert by_text["query"] == {"text": "t", "deleted_at": None}
    for each in (by_key, by_text):
        assert (each["upsert"], each["new"]) == (True, True)
        assert each["update"]["$set"].keys() == {"text", "body", "updated_at", "deleted_at"}
    assert by_key["update"]["$setOnInsert"].keys() == {"created_at"}
    assert by_text["update"]["$setOnInsert"].keys() == {"_id", "created_at"}
    await notes.upsert_many([note, Note(id="2", text="u")])
    many, committed = wire.take()
    assert many["ordered"] is False
    assert [each["upsert"] for each in many["updates"]] == [True, True]
    assert many["startTransaction"] is True
    assert "commitTransaction" in committed


async def test_delete(wire: Wire, products: Products, mongodb: MongoDBConnectionManager) -> None:
    assert await products.delete("1")
    assert await products.delete_many({"stock": 0}) == 1
    one, many = wire.take()
    assert one["deletes"] == [{"q": {"_id": "1"}, "limit": 1}]
    assert many["deletes"] == [{"q": {"stock": 0}, "limit": 0}]
    notes = Notes(mongodb)
    await notes.count()
    wire.take()
    await notes.delete("1")
    [marked] = wire.take()
    assert marked["updates"][0]["q"] == {"_id": "1", "deleted_at": None}
    assert marked["updates"][0]["u"]["$set"].keys() == {"deleted_at", "updated_at"}


async def test_sessions_expire_and_count_on_the_server(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    sessions = SignupSessionRepository(mongodb)
    await sessions.create_session("s", {"step": 1, "a.b": {"$x": 2}})
    created, inserted = wire.take()
    ttl = {"name": "_expires_at_ttl", "key": {"_expires_at": 1}, "expireAfterSeconds": 0}
    assert created["indexes"] == [ttl]
    [document] = inserted["documents"]
    left = document["_expires_at"] - datetime.now(UTC)
    assert 295 < left.total_seconds() <= 300
    assert (document["_id"], document["step"], document["a~1b"]) == ("s", 1, {"~2x": 2})
    await sessions.increment_attempt("s")
    await sessions.record_validation("s", "email", True)
    await sessions.refresh_ttl("s")
    counted, appended, refreshed = wire.take()
    assert counted["update"]["$inc"] == {"attempt_count": 1}
    assert "_expires_at" not in counted["update"]["$set"]
    [none, later] = counted["query"]["$or"]
    assert none == {"_expires_at": None}
    assert later["_expires_at"].keys() == {"$gt"}
    [stage] = appended["updates"][0]["u"]
    present, new = stage["$set"]["validations"]["$concatArrays"]
    assert present == {"$cond": [{"$isArray": ["$validations"]}, "$validations", []]}
    assert new[0]["$literal"]["field"] == "email"
    assert refreshed["updates"][0]["u"]["$set"].keys() == {"_expires_at"}


async def test_what_has_expired_gives_way(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    sessions = SignupSessionRepository(mongodb)
    taken = {"index": 0, "code": 11000, "errmsg": "E11000", "keyPattern": {"_id": 1}, "keyValue": {"_id": "s"}}
    answers = iter([{"n": 0, "writeErrors": [taken]}, {"n": 1}])
    wire.answer = lambda command: next(answers) if "insert" in command else None
    assert await sessions.create_session("s") is True
    _, first, purged, again = wire.take()
    assert purged["deletes"][0]["q"]["_expires_at"].keys() == {"$lte"}
    assert again["documents"] == first["documents"]


async def test_a_stream_is_a_cursor_that_is_closed(wire: Wire, products: Products) -> None:
    def answer(command: Command) -> Command | None:
        if "find" in command:
            return found(*({**STORED, "_id": f"{i}"} for i in range(2)), cursor=7)
        if "getMore" in command:
            return {"cursor": {"id": 7, "ns": "app.products", "nextBatch": [STORED, STORED]}}
        return None

    wire.answer = answer
    stream = products.stream(batch_size=2)
    names = [(await anext(stream)).id for _ in range(3)]
    await stream.aclose()  # type: ignore[attr-defined]
    assert names == ["0", "1", "1"]
    await asyncio.sleep(0.05)  # the driver tells the server in a task of its own
    opened, more, closed = wire.take()
    assert (opened["batchSize"], opened["sort"], opened.get("limit")) == (2, {"_id": 1}, None)
    assert (more["getMore"], more["batchSize"]) == (7, 2)
    assert closed["cursors"] == [7]


async def test_explain(wire: Wire, products: Products) -> None:
    plan: dict[str, Any] = {"stage": "FETCH", "inputStage": {"stage": "IXSCAN", "indexName": "offer"}}
    wire.answer = lambda command: {"queryPlanner": {"winningPlan": plan}} if "explain" in command else None
    explained = await products.query().where("name", "=", "a").limit(2).explain()
    assert explained == {"store": "mongodb", "index": "offer", "plan": plan}
    [sent] = wire.take()
    assert sent["explain"] == {"find": "products", "filter": {"name": "a"}, "sort": {"_id": 1}, "limit": 2}
    assert sent["verbosity"] == "queryPlanner"
    plan["inputStage"] = {"stage": "COLLSCAN"}
    assert (await products.query().explain())["index"] is None


async def test_numbers_that_bson_has_not(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    class Wares(Repository[Ware]):
        pass

    repo = Wares(mongodb)
    await repo.create(Ware(id="1", cost=Decimal("1.50")))
    await repo.create(Ware(id="2", cost=Decimal("1" * 40)))
    await repo.find({"cost": {"$lt": Decimal("2.5")}}, order_by="-cost")
    first, second, found_ = wire.take()
    assert first["documents"][0]["cost"] == Decimal128("1.50")
    assert "~cost" not in first["documents"][0]
    assert second["documents"][0]["cost"] == Decimal128("1" * 34 + "E+6")
    assert second["documents"][0]["~cost"]["text"] == "1" * 40
    assert found_["filter"] == {"cost": {"$lt": Decimal128("2.5")}}
    assert found_["sort"] == {"cost": -1, "~cost.tail": -1, "_id": 1}


async def test_the_server_gives_up_what_nobody_waits_for_any_more(products: Products, wire: Wire) -> None:
    for read in (
        products.find({"price": 1}),
        products.get("x"),
        products.count({"price": 1}),
        products.exists({"price": 1}),
    ):
        wire.commands.clear()
        await read
        [command] = wire.commands
        assert command["maxTimeMS"] == 5000
