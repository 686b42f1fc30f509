"""The commands that MongoDB gets for many records at once."""

from decimal import Decimal
from typing import Any

import pytest
from bson import ObjectId

from app.connections.mongodb import MongoDBConnectionManager
from app.db import Entity, Repository
from app.db.backends import Index
from app.testing.models import Draft

from .mongodb_wire import Wire

HEX = "507f1f77bcf86cd799439011"


class Drafts(Repository[Draft]):
    pass


class Ware(Entity):
    code: str | None = None
    cost: Decimal | None = None
    size: int | None = None


class Wares(Repository[Ware]):
    indexes = (Index("code", unique=True),)


@pytest.mark.parametrize("on", ["id", "code"])
async def test_several_upserts_of_what_has_a_second_place(
    wire: Wire, mongodb: MongoDBConnectionManager, on: str
) -> None:
    """A Decimal that BSON has not has its text beside it, which goes with it."""
    wares = Wares(mongodb)
    await wares.count()
    wire.take()
    long = Decimal("1" * 40)
    await wares.upsert_many([Ware(id=HEX, code="a"), Ware(id="2", code="b", cost=long)], on=on)
    updates = sorted(wire.take()[0]["updates"], key=lambda each: "$unset" not in each["u"])
    key: dict[str, Any] = {"_id": "2"}
    assert updates[0]["u"]["$unset"] == {"~cost": ""}
    assert updates[1]["u"].keys() == ({"$set"} if on == "id" else {"$set", "$setOnInsert"})
    assert updates[1]["u"]["$set"]["~cost"]["text"] == str(long)
    assert updates[0]["u"]["$set"] == {"code": "a", "cost": None, "size": None}
    if on == "id":
        assert [each["q"] for each in updates] == [{"_id": ObjectId(HEX)}, key]
    else:
        assert [each["q"] for each in updates] == [{"code": "a"}, {"code": "b"}]
        assert [each["u"]["$setOnInsert"] for each in updates] == [{"_id": ObjectId(HEX)}, key]


async def test_several_upserts_keep_the_time_of_creation(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    drafts = Drafts(mongodb)
    await drafts.count()
    wire.take()
    await drafts.upsert_many([Draft(id="1", title="a"), Draft(id="2", title="b")])
    for update in wire.take()[0]["updates"]:
        assert update["u"]["$setOnInsert"].keys() >= {"created_at"}
        assert "created_at" not in update["u"]["$set"]
        assert "_id" not in update["u"]["$set"]
        assert update["q"]["deleted_at"] is None
