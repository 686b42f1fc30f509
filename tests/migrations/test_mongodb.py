"""The exact commands of migrations to MongoDB, where the stand-in is not MongoDB."""

from decimal import Decimal
from typing import Any

import pytest
from bson import ObjectId

from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import MigrationError, UnsupportedOperationError
from app.db import DataLayer, F
from app.db.backends import Index
from app.db.migrations.ledger import Entry, State
from app.db.migrations.lock import Held
from app.db.migrations.schemas import schemas_on
from app.db.migrations.steps import CreateIndex, DocumentChange, DropIndex
from app.db.migrations.store import Replacement
from app.db.migrations.stores.mongodb import MongoDBMigrationStore
from app.db.repositories.user_repository import UserRepository

from ..records.mongodb_wire import Command, Wire

MAJORITY = {"w": "majority"}


@pytest.fixture
def store(mongodb: MongoDBConnectionManager) -> MongoDBMigrationStore:
    return MongoDBMigrationStore(mongodb)


def written(wire: Wire) -> Command:
    [command] = wire.take()
    for each in command.get("updates", ()):
        assert each.pop("multi") is False
    return {name: value for name, value in command.items() if name not in ("ordered", "txnNumber")}


async def test_lock_and_ledger_are_written_for_good(wire: Wire, store: MongoDBMigrationStore) -> None:
    held = Held("token", "host", "space", 7, "1")
    document = {"_id": "lock", "token": "token", "host": "host", "space": "space", "process": 7, "started": "1"}
    await store.swap_lock(None, held)
    assert written(wire) == {
        "insert": "manystore_migrations",
        "documents": [{**document, "beat": 0}],
        "writeConcern": MAJORITY,
    }
    await store.swap_lock(held, held)
    place = {"_id": "lock", "token": "token", "beat": 0}
    assert written(wire)["updates"] == [{"q": place, "u": {**document, "beat": 0}, "upsert": False}]
    await store.swap_lock(held, None)
    assert written(wire)["deletes"] == [{"q": place, "limit": 1}]
    await store.write_entry(Entry("001_a", "sum", State.RUNNING))
    command = written(wire)
    assert command["writeConcern"] == MAJORITY
    assert command["updates"][0]["q"] == {"_id": "001_a"}
    assert command["updates"][0]["upsert"] is True


async def test_batches_go_by_the_bounds_of_the_index(wire: Wire, store: MongoDBMigrationStore) -> None:
    await store.read_batch("things", None, 10)
    first = {"find": "things", "filter": {}, "sort": {"_id": 1}, "limit": 10}
    assert written(wire) == first
    after = ObjectId()
    await store.read_batch("things", after, 10)
    assert written(wire) == {**first, "limit": 11, "min": {"_id": after}, "hint": {"_id": 1}}


async def test_a_document_is_written_while_its_fields_are_as_expected(wire: Wire, store: MongoDBMigrationStore) -> None:
    expected = {"scalar": 1, "null": None, "list": [1], "dict": {"a": 1}}
    replacement = Replacement("t", expected, {"scalar": 2, "list": [], "new": 3}, ("null", "dict"))
    assert await store.replace("things", [replacement]) == []
    command = written(wire)
    assert command["updates"] == [
        {
            "q": {
                "_id": "t",
                "scalar": {"$eq": 1},
                "new": {"$exists": False},
                "null": {"$type": 10},
                "$nor": [{"scalar": {"$type": "array"}}, {"null": {"$type": "array"}}],
                "$expr": {
                    "$and": [
                        {"$eq": ["$list", {"$literal": [1]}]},
                        {"$eq": ["$dict", {"$literal": {"a": 1}}]},
                    ]
                },
            },
            "u": {"$set": {"scalar": 2, "list": [], "new": 3}, "$unset": {"null": 1, "dict": 1}},
            "upsert": False,
        }
    ]


async def test_those_that_others_wrote_come_back(wire: Wire, store: MongoDBMigrationStore) -> None:
    documents = [{"_id": 1, "n": 11}, {"_id": 2, "n": 5}, {"_id": 3, "n": 13.0}]

    def answer(command: Command) -> Any:
        if "update" in command:
            return {"n": 1, "nModified": 1}
        return {"cursor": {"id": 0, "ns": "app.things", "firstBatch": documents}}

    wire.answer = answer
    replacements = [Replacement(n, {"n": n}, {"n": n + 10}) for n in (1, 2, 3, 4)]
    found = await store.replace("things", replacements)
    assert [(each.id, each.document) for each in found] == [(2, {"id": 2, "n": 5}), (3, {"id": 3, "n": 13.0})]


async def test_what_bson_alone_has_is_moved_as_it_is(wire: Wire, store: MongoDBMigrationStore) -> None:
    reference = ObjectId()
    stored = {"_id": "t", "owner": reference, "price": 1, "~price": {"text": "1.1", "tail": "x"}}
    wire.answer = lambda _: {"cursor": {"id": 0, "ns": "app.things", "firstBatch": [stored]}}
    [found] = await store.read_batch("things", None, 10)
    assert found.document == {"id": "t", "owner": str(reference), "price": Decimal("1.1")}
    change = DocumentChange({"by": str(reference), "cost": 1}, ("owner", "price"), {"by": "owner", "cost": "price"})
    replacement = store.replacement("things", found, change)
    assert replacement.values == {"by": reference, "cost": 1, "~cost": {"text": "1.1", "tail": "x"}}
    assert replacement.removed == ("owner", "price", "~price")
    assert replacement.expected == {"owner": reference, "price": 1, "~price": {"text": "1.1", "tail": "x"}}


async def test_the_index_of_a_repository(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    repository = UserRepository(mongodb)
    await repository.count()
    [ensured] = [each for each in wire.take() if "createIndexes" in each]

    class Host:
        def repository(self, name: str) -> Any:
            return repository if name == "user" else DataLayer.from_config({}).repository(name)

    store = MongoDBMigrationStore(mongodb, schemas_on(Host(), mongodb))
    for name in ("email", "username"):
        index = Index(name, unique=True, name=f"{name}_unique")
        await store.handlers[CreateIndex](CreateIndex("users", index))
        [made] = written(wire)["indexes"]
        assert made in ensured["indexes"]
        assert "partialFilterExpression" in made
        await store.handlers[DropIndex](DropIndex("users", f"{name}_unique"))
        assert written(wire) == {"dropIndexes": "users", "index": f"{name}_unique"}


async def test_an_index_without_a_repository(wire: Wire, store: MongoDBMigrationStore) -> None:
    create = store.handlers[CreateIndex]
    await create(CreateIndex("things", Index("a", "b", unique=True, name="own")))
    assert written(wire)["indexes"] == [{"name": "own", "key": {"a": 1, "b": 1}, "unique": True}]
    await create(CreateIndex("things", Index("a", name="live", where=F.n > 3)))
    [index] = written(wire)["indexes"]
    assert index["partialFilterExpression"] == {"n": {"$gt": 3}}
    await create(CreateIndex("things", Index("a", name="live", where=F.deleted_at == None)))  # noqa: E711 - a predicate
    [index] = written(wire)["indexes"]
    assert index["partialFilterExpression"] == {"deleted_at": None}
    with pytest.raises(UnsupportedOperationError):
        await create(CreateIndex("things", Index("a", name="live", where=~(F.n == 3))))
    with pytest.raises(UnsupportedOperationError, match="nobody knows the type of 'owner'"):
        await create(CreateIndex("things", Index("a", name="live", where=F.owner != None)))  # noqa: E711


@pytest.mark.parametrize(("code", "message"), [(11000, "things: stored documents have the same a, b"), (85, "another")])
async def test_an_index_that_cannot_be(wire: Wire, store: MongoDBMigrationStore, code: int, message: str) -> None:
    wire.answer = lambda _: {"ok": 0, "code": code, "errmsg": 'dup key: { a: "secret" }', "codeName": "Some"}
    with pytest.raises(MigrationError, match=message) as caught:
        await store.handlers[CreateIndex](CreateIndex("things", Index("a", "b", unique=True, name="own")))
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
