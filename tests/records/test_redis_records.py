"""Records on Redis: index entries that follow their documents, models that change, and outages."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from app.core.errors import DuplicateRecordError, MigrationError, OutcomeUnknownError, StoreUnavailableError
from app.db import DataLayer, Entity, Repository, SoftDeletable
from app.db.backends import Index
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository

from ..redis_server import RedisServer


@pytest.fixture
def store() -> str:
    return "redis"


@pytest.fixture
def redis(data: DataLayer) -> Any:
    """The manager, whose commands are the client's."""
    return data.connection("redis")


class Part(Entity, SoftDeletable):
    model_config = ConfigDict(extra="allow")

    code: str | None = None
    shelf: int = 0
    weight: float | None = None


class Parts(Repository[Part]):
    indexes = (
        Index("code", unique=True),
        Index("shelf", "weight", unique=True, name="place"),
        Index("shelf", name="by_shelf"),
    )


class Brief(BaseModel):
    id: str
    code: str
    shelf: int = 0
    note: str = ""


class Briefs(Repository[Brief]):
    ttl = 60
    indexes = (Index("code", unique=True), Index("shelf"))


@pytest.fixture
def parts(data: DataLayer) -> Parts:
    return data.repository(Parts)


async def entries(redis: Any, collection: str) -> dict[str, Any]:
    """Every index entry with what it says."""
    names = sorted(await redis.keys(f"@{collection}:*"))
    return {
        name: await redis.get(name) if await redis.type(name) == "string" else await redis.smembers(name)
        for name in names
    }


def expected_entries(parts: Parts, documents: list[Part]) -> dict[str, Any]:
    keys = parts.collection
    found: dict[str, Any] = {}
    for part in documents:
        unique, sets = keys.entries(parts.schema.document(part))
        found |= dict.fromkeys(unique, part.id)
        for name in sets:
            found.setdefault(name, set()).add(part.id)
    return found


async def test_entries_follow_the_documents_whatever_happens(redis: Any, parts: Parts) -> None:
    chance = random.Random(11)
    everything, gone = parts.with_deleted(), parts.only_deleted()

    def anything() -> dict[str, Any]:
        return {
            "code": chance.choice([None, "a", "b", "c"]),
            "shelf": chance.randrange(3),
            "weight": chance.choice([None, 1.0, 2.5]),
        }

    async def step() -> None:
        number = str(chance.randrange(8))
        match chance.randrange(9):
            case 0 | 1:
                await parts.create(Part(id=number, **anything()))
            case 2:
                await parts.create_many([Part(id=number, **anything()), Part(id=f"{number}x", **anything())])
            case 3:
                await everything.update(number, anything())
            case 4:
                await parts.update_many({"shelf": chance.randrange(3)}, {"code": chance.choice([None, "d"])})
            case 5:
                await parts.delete(number, hard=chance.random() < 0.3)
            case 6:
                await gone.update(number, {"deleted_at": None})
            case 7:
                await parts.increment(number, "shelf", 1)
            case 8:
                await parts.compare_and_set(number, {"shelf": chance.randrange(3)}, anything())

    for _ in range(40):
        results = await asyncio.gather(*(step() for _ in range(10)), return_exceptions=True)
        assert {type(each) for each in results} <= {type(None), DuplicateRecordError}
        documents = await everything.all()
        assert await entries(redis, "parts") == expected_entries(parts, documents)
        live = await parts.all()
        codes = [part.code for part in live if part.code is not None]
        assert len(codes) == len(set(codes))
        for shelf in range(3):
            assert await parts.find({"shelf": shelf}) == [part for part in live if part.shelf == shelf]
    await everything.delete_many(None, everything=True, hard=True)
    assert await entries(redis, "parts") == {}


async def test_an_id_given_twice_is_a_duplicate(redis: Any, parts: Parts) -> None:
    with pytest.raises(DuplicateRecordError) as caught:
        await parts.create_many([Part(id="1", code="a"), Part(id="1", code="b")])
    assert caught.value.fields == ("id",)
    assert await redis.keys("parts:*") == []


async def test_an_index_serves_its_filters_and_a_scan_the_others(redis: Any, parts: Parts) -> None:
    await parts.create_many(Part(id=str(i), code=f"c{i}", shelf=i % 3, weight=i) for i in range(30))

    async def scans(*filters: dict[str, Any]) -> int:
        await redis.config_resetstat()
        for each in filters:
            assert await parts.count(each) > 0
        return int((await redis.info("commandstats")).get("cmdstat_scan", {}).get("calls", 0))

    assert await scans({"id": "1"}, {"id": {"$in": ["1", "2"]}}, {"code": "c1"}, {"code": "c1", "shelf": 1}) == 0
    assert await scans({"code": {"$in": ["c1", "c2"]}}, {"shelf": 1}, {"shelf": 1, "weight": 1}, {"shelf": 1.0}) == 0
    assert await scans({"weight": 1}) > 0
    assert await scans({"code": {"$ne": "c1"}}) > 0
    assert await parts.count({"code": "c1", "shelf": 2}) == 0


async def test_entries_end_with_their_documents(data: DataLayer, redis: Any) -> None:
    briefs = data.repository(Briefs)
    await briefs.create_many([Brief(id="1", code="a"), Brief(id="2", code="b")])
    names = await entries(redis, "briefs")
    assert len(names) == 3
    for name in (*names, "briefs:1", "briefs:2"):
        assert 59_000 < await redis.pttl(name) <= 60_000
    with pytest.raises(DuplicateRecordError):
        await briefs.create(Brief(id="3", code="a"))
    for name in (*names, "briefs:1", "briefs:2"):
        await redis.pexpire(name, 20)
    await asyncio.sleep(0.04)
    assert await briefs.count() == 0
    await briefs.create(Brief(id="3", code="a"))
    assert len(await entries(redis, "briefs")) == 2


async def test_an_update_that_gives_time_gives_it_to_the_entries(data: DataLayer, redis: Any) -> None:
    briefs = data.repository(Briefs)
    await briefs.create(Brief(id="1", code="a"))
    names = [*await entries(redis, "briefs"), "briefs:1"]
    for change in ({"shelf": 0}, {"note": "x"}):
        for name in names:
            await redis.pexpire(name, 1000)
        assert await briefs.update("1", change) is not None
        assert [await redis.pttl(name) > 59_000 for name in names] == [True] * 3


async def test_an_entry_whose_document_is_gone_neither_blocks_nor_stays(redis: Any, parts: Parts) -> None:
    await parts.create_many([Part(id="1", code="a", shelf=1), Part(id="2", code="b", shelf=1)])
    await redis.delete("parts:1", "parts:2")  # behind our back
    assert await parts.count({"code": "a"}) == 0
    assert await parts.count({"shelf": 1}) == 0
    assert [name for name in await entries(redis, "parts") if ":by_shelf:" in name] == []
    await parts.create(Part(id="3", code="a", shelf=1))
    assert await parts.update("3", {"code": "b"})
    assert [part.id for part in await parts.find({"code": "b"})] == ["3"]


# ---------------------------------------------------------------- models that change


class Plain(Entity):
    code: str | None = None
    shelf: int = 0


class Unindexed(Repository[Plain]):
    COLLECTION_NAME = "plains"


class Indexed(Repository[Plain]):
    COLLECTION_NAME = "plains"
    indexes = (Index("code", unique=True), Index("shelf"))


class Wider(Plain):
    colour: str = "red"


class Widened(Repository[Wider]):
    COLLECTION_NAME = "plains"


@pytest.fixture
async def layers(config: dict[str, Any]) -> AsyncIterator[list[DataLayer]]:
    """Three layers on one store, as three versions of an application would be."""
    layers = [DataLayer.from_config(config) for _ in range(3)]
    yield layers
    for layer in layers:
        await layer.close()


async def test_a_new_index_finds_what_was_there_before(layers: list[DataLayer]) -> None:
    before = layers[0].repository(Unindexed)
    await before.create_many(Plain(id=str(i), code=f"c{i}", shelf=i % 2) for i in range(10))
    after = layers[1].repository(Indexed)
    assert [plain.id for plain in await after.find({"code": "c3"})] == ["3"]
    assert await after.count({"shelf": 1}) == 5
    with pytest.raises(DuplicateRecordError):
        await after.create(Plain(code="c3"))
    assert await after.update("3", {"code": "new"})
    again = layers[2].repository(Indexed)
    assert await again.count({"code": "c3"}) == 0


async def test_a_new_unique_index_over_duplicates_is_a_migration(layers: list[DataLayer]) -> None:
    await layers[0].repository(Unindexed).create_many([Plain(code="a"), Plain(code="a")])
    with pytest.raises(MigrationError, match="same code"):
        await layers[1].repository(Indexed).count()


async def test_a_new_field_has_its_default_and_an_unknown_one_is_kept(layers: list[DataLayer]) -> None:
    plain = await layers[0].repository(Unindexed).create(Plain(code="a"))
    wider = layers[1].repository(Widened)
    assert [each.colour for each in await wider.find({"colour": "red"})] == ["red"]
    assert await wider.update(plain.id, {"colour": "blue"})
    narrow = layers[2].repository(Unindexed)
    assert await narrow.increment(plain.id, "shelf") == 1
    assert await narrow.update(plain.id, {"code": "b"}) == plain.model_copy(update={"shelf": 1, "code": "b"})
    assert (await wider.get_or_raise(plain.id)).colour == "blue"


# ---------------------------------------------------------------- outages


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.end()


async def test_scripts_are_sent_again_when_the_server_forgot_them(redis: Any, parts: Parts) -> None:
    await parts.create(Part(id="1", code="a"))
    await redis.script_flush()
    assert await parts.count({"code": "a"}) == 1
    await redis.script_flush()
    await parts.create(Part(id="2", code="b"))
    await redis.script_flush()
    assert await parts.update("2", {"weight": 1.5})


async def test_a_store_that_is_down_never_looks_like_not_found(server: RedisServer) -> None:
    config = {
        "connections": {"redis": {"url": server.url, "timeout": 0.5}},
        "repositories": {"user": {"connection": "redis"}},
    }
    async with DataLayer.from_config(config) as data:
        users, sessions = data.repository(UserRepository), data.repository(SignupSessionRepository)
        user = await users.create_user("john@x.io", "john", "John", "Doe", "hash")
        assert user is not None
        assert await sessions.create_session("s")
        server.kill()
        calls = [
            lambda: users.get_user_by_email("john@x.io"),
            lambda: users.get_user_by_id(user.id),
            lambda: users.check_email_exists("john@x.io"),
            lambda: users.create_user("jane@x.io", "jane", "Jane", "Doe", "hash"),
            lambda: users.update_user(user.id, {"firstname": "Jane"}),
            lambda: users.delete_user(user.id),
            lambda: sessions.get_session("s"),
            lambda: sessions.update_field("s", "a", 1),
            lambda: sessions.increment_attempt("s"),
            lambda: sessions.create_session("t"),
            lambda: sessions.delete_session("s"),
        ]
        for call in calls:
            with pytest.raises((StoreUnavailableError, OutcomeUnknownError)) as caught:
                await call()  # type: ignore[no-untyped-call]
            assert "john@x.io" not in str(caught.value)
        server.start()
        assert await users.count() == 0
