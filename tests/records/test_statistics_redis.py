"""What is told of a Redis is read from a bounded number of its keys, by commands that change nothing."""

import re
from collections.abc import Iterator

import pytest

from app.db import DataLayer
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository
from app.db.statistics import redis
from app.db.statistics.base import CollectionStatistics, StoreState, StoreStatistics

from ..redis_server import RedisServer, cluster_of_one


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    redis_server.command("FLUSHALL")
    return redis_server.url


def on(url: str, **settings: object) -> DataLayer:
    return DataLayer.from_config(
        {
            "connections": {"redis": {"url": url, **settings}},
            "repositories": {"user": {"connection": "redis"}, "signup_session": {"connection": "redis"}},
        }
    )


async def told(data: DataLayer) -> StoreStatistics:
    found = (await data.statistics())["redis"]
    assert found.state is StoreState.OK, found.error
    return found


def by_name(found: StoreStatistics) -> dict[str, CollectionStatistics]:
    return {each.name: each for each in found.collections}


async def fill(data: DataLayer) -> None:
    for name in ("anna", "berta", "clara"):
        await data.repository(UserRepository).create_user(f"{name}@x.io", name, "Ann", "Do", "x")
    for number in range(5):
        await data.repository(SignupSessionRepository).create_session(f"s{number}")


async def test_keys_are_told_apart_by_our_layout(url: str) -> None:
    async with on(url) as data:
        await fill(data)
        manager = await data.connection("redis").connect()
        await manager.set("alone", 1)
        await manager.set(b"\xff\xfe:binary", 1)
        found = await told(data)
    collections = by_name(found)
    assert {name: (each.rows, each.exact) for name, each in collections.items()} == {
        "users": (3, True),
        "signup": (5, True),
        "(no prefix)": (1, True),
        "\ufffd\ufffd": (1, True),
    }
    assert [(index.name, index.unique) for index in collections["users"].indexes] == [
        ("email_unique", True),
        ("username_unique", True),
    ]
    assert (collections["users"].size_bytes or 0) > sum(index.size_bytes or 0 for index in collections["users"].indexes)
    assert found.details["keys"] == 3 + 3 * 2 + 5 + 2 + 1  # with what describes the indexes


async def test_of_many_keys_a_sample_is_counted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "SCANNED_KEYS", 2000)
    async with on(url) as data:
        client = await data.connection("redis").connect()
        for name, number in (("many", 15_000), ("few", 5_000)):
            for first in range(0, number, 1000):
                await client.mset({f"{name}:{key}": "x" for key in range(first, first + 1000)})
        found = await told(data)
    many, few = by_name(found)["many"], by_name(found)["few"]
    assert (many.exact, few.exact) == (False, False)
    assert 2000 <= int(found.details["scanned_keys"] or 0) < 4000
    assert many.rows == pytest.approx(15_000, rel=0.1)
    assert few.rows == pytest.approx(5_000, rel=0.2)
    assert (many.rows or 0) + (few.rows or 0) == pytest.approx(20_000, abs=2)
    assert many.size_bytes == pytest.approx(15_000 * 56, rel=0.5)
    assert any("estimates from" in note for note in found.notes)


async def test_only_questions_are_asked(url: str, redis_server: RedisServer) -> None:
    async with on(url) as data:
        await fill(data)
        redis_server.command("CONFIG", "RESETSTAT")
        await told(data)
    asked = set(re.findall(r"cmdstat_([a-z]+)", redis_server.command("INFO", "commandstats").decode()))
    assert asked - {"config", "ping", "client"} == {"info", "dbsize", "scan", "memory", "type"}


async def test_what_a_user_may_not_ask_is_unknown(url: str, redis_server: RedisServer) -> None:
    redis_server.command("ACL", "SETUSER", "half", "on", ">word", "~*", "+@all", "-memory", "-info")
    async with on(url) as data:
        await fill(data)
    async with on(url.replace("unix://", "unix://half:word@")) as data:
        found = await told(data)
    redis_server.command("ACL", "DELUSER", "half")
    assert by_name(found)["users"].rows == 3
    assert by_name(found)["users"].size_bytes is None
    assert found.size_bytes is None
    assert found.notes[-2:] == ("INFO was refused", "MEMORY USAGE was refused")


@pytest.fixture
def cluster() -> Iterator[RedisServer]:
    with cluster_of_one() as server:
        yield server


async def test_a_cluster(cluster: RedisServer) -> None:
    async with on(f"redis://127.0.0.1:{cluster.port}", mode="cluster") as data:
        await fill(data)
        found = await told(data)
    assert {name: each.rows for name, each in by_name(found).items()} == {"users": 3, "signup": 5}
    assert all(each.size_bytes for each in found.collections)
    assert len(by_name(found)["users"].indexes) == 2
    assert found.size_bytes
    assert not found.notes[1:]
