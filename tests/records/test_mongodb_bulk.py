"""Many writes to MongoDB: in one command, or in as many as the server's limits make of them, all or none."""

import pytest
from pydantic import SecretStr

from app.config.settings import MongoDBSettings
from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import DuplicateRecordError, InvalidChangeError, StoreUnavailableError
from app.db import Entity, Repository
from app.db.backends import Index, _mongodb_bulk
from app.db.query.operations import Insert

from .mongodb_wire import Command, Wire


class Line(Entity):
    text: str = ""
    number: int = 0


class Lines(Repository[Line]):
    indexes = (Index("text", unique=True),)


class Mark(Entity):
    """With nothing but its key."""


LINES = [Line(id=f"{number:02}", text="x" * 1000) for number in range(40)]
SMALL = {"maxBsonObjectSize": 10_000, "maxMessageSizeBytes": 15_000}
"""With the 16 KB that the driver adds, more than half of the lines are one command, and none holds all."""


def ids(commands: list[Command]) -> list[str]:
    """What was inserted or upserted, in the order it was sent."""
    inserted = [each["_id"] for command in commands for each in command.get("documents", ())]
    return inserted + [each["q"]["_id"] for command in commands for each in command.get("updates", ())]


def names(commands: list[Command]) -> list[str]:
    return [next(iter(each)) for each in commands]


async def store(lines: Repository[Line], way: str) -> None:
    if way == "insert":
        assert await lines.create_many(LINES) == LINES
    else:
        assert await lines.upsert_many(iter(LINES)) == len(LINES)


@pytest.mark.parametrize("way", ["insert", "update"])
async def test_many_are_one_command(wire: Wire, mongodb: MongoDBConnectionManager, way: str) -> None:
    lines = Lines(mongodb)
    await lines.count()
    wire.take()
    await store(lines, way)
    sent = wire.take()
    assert names(sent) == [way, "commitTransaction"]
    assert ids(sent) == [each.id for each in LINES]
    assert sent[0]["ordered"] is False


@pytest.mark.parametrize("way", ["insert", "update"])
async def test_what_is_too_large_for_one_command_is_several_of_one_transaction(
    wire: Wire, mongodb: MongoDBConnectionManager, way: str
) -> None:
    wire.limits |= SMALL
    lines = Lines(mongodb)
    await lines.count()
    wire.take()
    await store(lines, way)
    given_up, *sent = wire.take()
    assert "abortTransaction" in given_up  # of which nothing was sent before
    assert names(sent) == [way] * (len(sent) - 1) + ["commitTransaction"]
    assert len(sent) > 3
    assert ids(sent) == [each.id for each in LINES]
    assert [each.get("startTransaction", False) for each in sent] == [True] + [False] * (len(sent) - 1)
    assert {each["txnNumber"] for each in sent} == {sent[0]["txnNumber"]}


async def test_what_is_too_large_in_a_transaction_of_the_application(
    wire: Wire, mongodb: MongoDBConnectionManager
) -> None:
    wire.limits |= SMALL
    lines = Lines(mongodb)
    await lines.count()
    wire.take()
    async with lines.transaction() as transaction:
        await transaction.create_many(LINES)
    sent = wire.take()
    assert names(sent) == ["insert"] * (len(sent) - 1) + ["commitTransaction"]
    assert sent[0]["startTransaction"]
    assert ids(sent) == [each.id for each in LINES]


async def test_more_writes_than_a_command_takes(
    wire: Wire, mongodb: MongoDBConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mongodb_bulk, "_MOST", 30)
    wire.limits["maxWriteBatchSize"] = 30
    lines = Lines(mongodb)
    await lines.count()
    wire.take()
    await lines.create_many(LINES)
    sent = wire.take()
    assert [len(each.get("documents", ())) for each in sent] == [30, 10, 0]
    assert names(sent)[-1] == "commitTransaction"


@pytest.mark.parametrize("way", ["insert", "update"])
async def test_a_lost_answer_before_the_commit_is_no_unknown_outcome(
    wire: Wire, mongodb: MongoDBConnectionManager, way: str
) -> None:
    def hang_up(sent: Command) -> None:
        if way in sent:
            raise ConnectionError

    lines = Lines(mongodb)
    await lines.count()
    wire.take()
    wire.answer = hang_up
    with pytest.raises(StoreUnavailableError, match="nothing of it was stored"):
        await store(lines, way)
    assert "commitTransaction" not in names(wire.take())


@pytest.mark.parametrize("options", ["", "?directConnection=true"])
@pytest.mark.parametrize("way", ["insert", "update"])
async def test_a_replica_set_whose_primary_was_lost_is_one(wire: Wire, way: str, options: str) -> None:
    settings = MongoDBSettings(url=SecretStr(f"mongodb://127.0.0.1:{wire.port}/{options}"))
    async with MongoDBConnectionManager(settings) as manager:
        lines = Lines(manager)
        await lines.count()
        wire.answer = lambda sent: {"ok": 0, "code": 10107, "errmsg": "not primary"} if "insert" in sent else None
        with pytest.raises(StoreUnavailableError, match="not the primary"):
            await lines.create(Line())
        wire.answer = lambda _: None
        wire.take()
        await store(lines, way)  # the driver knows of no server now
        assert names(wire.take()) == [way, "commitTransaction"]


@pytest.mark.parametrize("way", ["insert", "update"])
async def test_a_refused_write_takes_back_the_others(wire: Wire, mongodb: MongoDBConnectionManager, way: str) -> None:
    lines = Lines(mongodb)
    await lines.count()
    wire.take()
    refused = {"index": 7, "code": 11000, "errmsg": "E11000 of secrets", "keyPattern": {"text": 1}}
    wire.answer = lambda sent: {"n": 7, "writeErrors": [refused]} if way in sent else None
    with pytest.raises(DuplicateRecordError, match="the same text") as caught:
        await store(lines, way)
    assert "secrets" not in repr(caught.value.__cause__)
    assert names(wire.take()) == [way, "abortTransaction"]


async def test_a_value_that_bson_has_not_is_refused(wire: Wire, mongodb: MongoDBConnectionManager) -> None:
    lines = Lines(mongodb)
    await lines.count()
    wire.take()
    documents = tuple({"id": f"{number}", "text": f"{number}", "number": number} for number in (1, 2**64))
    with pytest.raises(InvalidChangeError, match="BSON cannot hold a value"):
        await lines.backend.insert(Insert(documents))
    assert "insert" not in names(wire.take())


@pytest.mark.parametrize("number", [1, 2])
async def test_upserts_of_nothing_but_a_key_replace_nothing(
    wire: Wire, mongodb: MongoDBConnectionManager, number: int
) -> None:
    class Marks(Repository[Mark]):
        pass

    marks = Marks(mongodb)
    await marks.count()
    wire.take()
    wire.answer = lambda sent: {"value": {"_id": "0"}} if "findAndModify" in sent else None
    await (marks.upsert(Mark(id="0")) if number == 1 else marks.upsert_many([Mark(id="0"), Mark(id="1")]))
    sent, *_ = wire.take()
    for key, update in (
        [("0", sent["update"])] if number == 1 else [(each["q"]["_id"], each["u"]) for each in sent["updates"]]
    ):
        assert update == {"$setOnInsert": {"_id": key}}
