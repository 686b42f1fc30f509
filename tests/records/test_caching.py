"""Caches that processes share, that break, and that are left in the middle of a write."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from app.core.errors import ConfigurationError
from app.db import CachePolicy, DataLayer, Entity, Index, Repository, cached
from app.db.cache.cache import Cache
from app.db.cache.memory import MemoryStore
from app.db.middleware.caching import collection_id, method_tag
from app.testing import contract
from app.testing.contract import OpenPlace, Place
from app.testing.contract.caching import Kept, KeptDrafts

from ..redis_server import RedisServer


def config(directory: Path, server: RedisServer, timeout: float = 10) -> dict[str, Any]:
    return {
        "data_dir": str(directory),
        "connections": {
            "sqlite": {"path": "records.db", "synchronous": "normal"},
            "redis": {"url": server.url, "timeout": timeout, "pool": {"timeout": timeout}},
        },
        "cache": {"connection": "redis"},
    }


class TestCachingInRedis(contract.CachingContract):
    @pytest.fixture
    def open_place(self, tmp_path: Path, server: RedisServer) -> OpenPlace:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Place]:
            async with DataLayer.from_config(config(tmp_path, server)) as data:
                yield data.repository

        return opened


async def test_two_layers_share_what_is_in_redis(tmp_path: Path, server: RedisServer) -> None:
    async with (
        DataLayer.from_config(config(tmp_path, server)) as one,
        DataLayer.from_config(config(tmp_path, server)) as two,
    ):
        here, there = one.repository(KeptDrafts), two.repository(KeptDrafts)
        created = await here.create(Kept(id="1", title="a"))
        assert await here.get("1") == created
        assert await there.get("1") == created
        assert (here.cache_stats.hits, here.cache_stats.misses) == (0, 1)
        assert (there.cache_stats.hits, there.cache_stats.misses) == (1, 0)
        await there.update("1", {"body": "x"})
        assert (await here.get_or_raise("1")).body == "x"
        assert await here.find_one({"title": "b"}) is None
        await there.update("1", {"title": "b"})
        assert await here.find_one({"title": "b"}) == await there.get("1")


async def test_a_broken_cache_breaks_nothing(tmp_path: Path, server: RedisServer) -> None:
    async with DataLayer.from_config(config(tmp_path, server, 0.5)) as data:
        drafts = data.repository(KeptDrafts)
        await drafts.create(Kept(id="1", title="a"))
        assert await drafts.titles() == ["a"]
        server.kill()
        start = time.monotonic()
        for number in range(50):
            await drafts.update("1", {"views": number})
            assert (await drafts.get_or_raise("1")).views == number
            assert await drafts.titles() == ["a"]
        assert time.monotonic() - start < 5
        assert drafts.cache_stats.failures > 0
        server.start()
        await asyncio.sleep(1.1)
        hits = drafts.cache_stats.hits
        assert (await drafts.get_or_raise("1")).views == 49
        assert (await drafts.get_or_raise("1")).views == 49
        assert drafts.cache_stats.hits == hits + 1


async def test_what_was_written_while_the_cache_was_away_is_paid_for(tmp_path: Path, server: RedisServer) -> None:
    async with DataLayer.from_config(config(tmp_path, server, 0.5)) as data:
        drafts = data.repository(KeptDrafts)
        await drafts.create(Kept(id="1", title="a", body="old"))
        assert (await drafts.get_or_raise("1")).body == "old"
        server.signal(signal.SIGSTOP)
        try:
            await drafts.update("1", {"body": "new"})
        finally:
            server.signal(signal.SIGCONT)
        await asyncio.sleep(1.1)
        assert (await drafts.get_or_raise("1")).body == "new"


async def test_a_silent_cache_delays_once(tmp_path: Path, server: RedisServer) -> None:
    async with DataLayer.from_config(config(tmp_path, server, 0.5)) as data:
        drafts = data.repository(KeptDrafts)
        await drafts.create(Kept(id="1", title="a"))
        server.signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            for _ in range(20):
                await drafts.get_or_raise("1")
            assert time.monotonic() - start < 3
        finally:
            server.signal(signal.SIGCONT)


async def test_a_writer_that_dies_while_another_writes_leaves_nothing_stale(
    tmp_path: Path, server: RedisServer
) -> None:
    settings = config(tmp_path, server)
    async with DataLayer.from_config(settings) as one, DataLayer.from_config(settings) as two:
        here, there = one.repository(KeptDrafts), two.repository(KeptDrafts)
        await here.create_many([Kept(id="1", title="a"), Kept(id="2", title="b")])
        assert await here.titles() == ["a", "b"]
        dying = two.cache.store

        async def die(*_: Any) -> None:
            """As if the process was killed between its commit and this."""

        async with there.transaction() as tx:
            await tx.update("2", {"title": "c"})
            dying.settle = die  # type: ignore[method-assign, assignment]
            # Another write of the collection ends meanwhile, and a reader comes between.
            await one.cache.written(*await _write_of(one, here))
            assert await here.titles() == ["a", "b"]
        assert await here.titles() == ["a", "c"]


async def _write_of(layer: DataLayer, drafts: KeptDrafts) -> tuple[list[str], str]:
    """The marks of a write to the collection, without the write."""
    tags = [method_tag(collection_id(drafts._binding.backend))]
    return tags, await layer.cache.writing(tags)


async def test_answers_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shorts(Repository[Kept]):
        COLLECTION_NAME = "shorts"
        cache = CachePolicy(ttl=100, absent_ttl=10)

    now = 0.0
    monkeypatch.setattr("app.db.cache.memory.time", SimpleNamespace(monotonic=lambda: now))
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {}}}) as data:
        shorts = data.repository(Shorts)
        assert await shorts.get("1") is None
        # Behind the cache's back, as another program would.
        plain = Plain(data.connection("sqlite"))
        await plain.create(Kept(id="1", title="a"))
        now = 8.9
        assert await shorts.get("1") is None
        now = 11.1
        assert await shorts.get("1") is not None
        await plain.update("1", {"body": "x"})
        now += 89.9
        assert (await shorts.get_or_raise("1")).body == ""
        now += 20.2
        assert (await shorts.get_or_raise("1")).body == "x"


class Plain(Repository[Kept]):
    COLLECTION_NAME = "shorts"


async def test_two_databases_behind_one_cache_are_two(tmp_path: Path, server: RedisServer) -> None:
    (tmp_path / "a").mkdir()
    async with (
        DataLayer.from_config(config(tmp_path / "a", server)) as one,
        DataLayer.from_config(config(tmp_path / "b", server)) as two,
    ):
        created = await one.repository(KeptDrafts).create(Kept(id="1", title="a"))
        assert await one.repository(KeptDrafts).get("1") == created
        assert await two.repository(KeptDrafts).get("1") is None
        assert await one.repository(KeptDrafts).titles() == ["a"]
        assert await two.repository(KeptDrafts).titles() == []


async def test_a_value_in_another_spelling_goes_past_the_cache(tmp_path: Path) -> None:
    class Numbered(Entity):
        number: int
        price: float = 0

    class Numbers(Repository[Numbered]):
        indexes = (Index("number", unique=True), Index("price", unique=True))
        cache = CachePolicy(ttl=60)

    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {}}}) as data:
        numbers = data.repository(Numbers)
        assert await numbers.find_one({"number": "5"}) is None
        assert await numbers.find_one({"price": 5}) is None
        created = await numbers.create(Numbered(number=5, price=5.0))
        for where in ({"number": 5}, {"number": 5.0}, {"price": 5}, {"price": 5.0}, {"number": Decimal(5)}):
            assert await numbers.find_one(where) == created
        assert await numbers.find_one({"number": "5"}) is None


async def test_what_redis_has_under_our_keys_may_be_anything(tmp_path: Path, server: RedisServer) -> None:
    async with DataLayer.from_config(config(tmp_path, server)) as data:
        drafts = data.repository(KeptDrafts)
        created = await drafts.create(Kept(id="1", title="a"))
        await drafts.get("1")
        raw = Redis(unix_socket_path=str(server.socket))
        [key] = [each async for each in raw.scan_iter("cache:answer:*")]
        for text in (b"\xff\xfe", b"", b"x", b"a b\n{", b"a b\n" + b"[" * 100_000, b"\n\n"):
            await raw.set(key, text)
            assert await drafts.get("1") == created
        await raw.aclose()


async def test_the_settings_decide_over_the_class(tmp_path: Path, server: RedisServer) -> None:
    settings = config(tmp_path, server)
    settings["repositories"] = {"shorts": {"connection": "sqlite", "cache": {"ttl": 60}}}
    async with DataLayer.from_config(settings) as data:
        plain = data.repository(Plain)
        await plain.get("1")
        await plain.get("1")
        assert plain.cache_stats.hits == 1


@pytest.mark.parametrize(
    "cache", [{"connection": "sqlite"}, {"connection": "nope"}, {"max_entries": 0}, {"conection": "redis"}]
)
def test_a_wrong_section_is_an_error(tmp_path: Path, server: RedisServer, cache: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        DataLayer.from_config({**config(tmp_path, server), "cache": cache})


async def test_what_cannot_be_cached_is_an_error(tmp_path: Path) -> None:
    class Other(Entity):
        pass

    class Wrong(Repository[Kept]):
        COLLECTION_NAME = "wrong"

        @cached(ttl=5)
        async def other(self) -> Other:
            return Other()

        @cached(ttl=5)
        async def anything(self, value: Any) -> Any:
            return value

    class Ending(Repository[Kept]):
        ttl = 5
        cache = CachePolicy(ttl=5)

    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {}}}) as data:
        wrong = data.repository(Wrong)
        for call in (wrong.other(), wrong.anything(object()), wrong.anything({1, 2}), wrong.anything({"$entity": 1})):
            with pytest.raises(ConfigurationError):
                await call
        for value in (None, 1, "x", [1, {"a": None}], {"a": [1.5, "b"]}):
            assert await wrong.anything(value) == value
            assert await wrong.anything(value) == value
        with pytest.raises(ConfigurationError):
            await data.repository(Ending).get("1")
    with pytest.raises(ConfigurationError):
        CachePolicy(ttl=0)
    with pytest.raises(ConfigurationError):
        cached(ttl=5)(lambda self: self)


async def test_memory_is_bounded() -> None:
    cache = Cache(MemoryStore(10))
    for number in range(100):

        async def load(number: int = number) -> dict[str, int]:
            return {"number": number}

        await cache.get(f"{number}", (f"tag {number}",), load, CachePolicy(60))
    store = cache.store
    assert isinstance(store, MemoryStore)
    assert len(store._entries._values) == 10
    assert len(store._tags._values) <= 10


async def test_two_ways_to_write_one_collection_are_refused(tmp_path: Path) -> None:
    class Shorts(Repository[Kept]):
        COLLECTION_NAME = "shorts"
        cache = CachePolicy(ttl=60)

    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {}}}) as data:
        await data.repository(Shorts).count()
        with pytest.raises(ConfigurationError, match="another cache"):
            data.repository(Plain)
