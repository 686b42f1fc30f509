"""The master that sentinels name, and a cluster: real servers, one node each."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import RedisSettings
from app.connections.redis import RedisConnectionManager
from app.core.errors import ConfigurationError, DuplicateRecordError, UnsupportedOperationError
from app.db import DataLayer, Entity
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository
from app.testing.models import Note, Notes, Product, Products, fill

from ..redis_server import RedisServer, cluster_of_one, free_port


@pytest.fixture
def cluster() -> Iterator[RedisServer]:
    with cluster_of_one() as server:
        yield server


@pytest.fixture
def sentinel() -> Iterator[tuple[RedisServer, RedisServer]]:
    master = RedisServer(port=free_port())
    watching = RedisServer(port=free_port())
    try:
        master.start()
        file = watching.directory / "sentinel.conf"
        file.write_text(f"sentinel monitor main 127.0.0.1 {master.port} 1\n")
        watching.start(str(file), "--sentinel")
        yield master, watching
    finally:
        watching.end()
        master.end()


async def test_the_master_that_the_sentinels_name(sentinel: tuple[RedisServer, RedisServer]) -> None:
    master, watching = sentinel
    nobody = free_port()
    manager = RedisConnectionManager(
        RedisSettings(
            url=SecretStr(f"redis://127.0.0.1:{nobody}/2"),
            mode="sentinel",
            service="main",
            addresses=(f"127.0.0.1:{watching.port}",),
        )
    )
    counts = await asyncio.gather(*(manager.incr("n") for _ in range(200)))
    assert sorted(counts) == list(range(1, 201))
    assert master.command("CLIENT", "LIST").count(b"name=manystore") == 10
    health = await manager.health()
    assert health.healthy
    assert health.pool is not None
    assert health.pool["size"] == 10
    assert manager.get_connection_info()["service"] == "main"
    master.kill()
    master.start()
    assert await asyncio.gather(*(manager.get("n") for _ in range(40))) == [None] * 40
    await manager.close()


async def test_a_cluster(cluster: RedisServer) -> None:
    config: dict[str, Any] = {
        "connections": {"redis": {"url": f"redis://127.0.0.1:{cluster.port}", "mode": "cluster"}},
        "repositories": {"user": {"connection": "redis"}, "entities": {"connection": "redis"}},
    }
    async with DataLayer.from_config(config) as data:
        manager: Any = data.connection("redis")
        counts = await asyncio.gather(*(manager.incr("n") for _ in range(500)))
        assert sorted(counts) == list(range(1, 501))
        health = await manager.health()
        assert health.server_version.startswith("6.2")
        assert health.pool["nodes"] == 1
        assert health.pool["size"] <= 10
        sessions = data.repository(SignupSessionRepository)
        assert await sessions.create_session("s", {"step": 1})
        assert all(await asyncio.gather(*(sessions.update_field("s", f"f{i}", i) for i in range(50))))
        assert await sessions.increment_attempt("s") == 1
        assert cluster.command("EXISTS", "signup:s") == b":1\r\n"
        users = data.repository(UserRepository)
        user = await users.create_user("a@x.io", "anna", "Anna", "Do", "x")
        assert user is not None
        assert await users.create_user("a@x.io", "other", "Anna", "Do", "x") is None
        with pytest.raises(DuplicateRecordError):
            await users.create_many([user.model_copy(update={"id": "0" * 24})])
        assert await users.get_user_by_email("a@x.io") == user
        assert await users.count() == 1
        assert cluster.command("EXISTS", f"{{users}}:{user.id}") == b":1\r\n"
        plain = data.repository(Entity)
        with pytest.raises(UnsupportedOperationError, match="one by one"):
            await plain.create_many([Entity(), Entity()])
        entities = [await plain.create(Entity()) for _ in range(20)]
        assert await plain.get_many(each.id for each in entities) == entities
        assert await plain.delete_many(None, everything=True) == 20
        assert await users.count() == 1


async def test_records_in_a_cluster(cluster: RedisServer) -> None:
    config: dict[str, Any] = {"connections": {"redis": {"url": f"redis://127.0.0.1:{cluster.port}", "mode": "cluster"}}}
    config["repositories"] = {
        name: {"connection": "redis"} for name in ("products", "notes", "signup_session", "entities")
    }
    async with DataLayer.from_config(config) as data:
        products, notes = data.repository(Products), data.repository(Notes)
        sessions = data.repository(SignupSessionRepository)
        await fill(products, *"abc")
        assert await products.upsert_many([Product(name="d", sku="a"), Product(name="e", sku="e")], on="sku") == 2
        assert sorted([each.name async for each in products.stream(batch_size=2)]) == ["b", "c", "d", "e"]
        assert [each.name async for each in products.stream({"price": 0.0, "name": "b"})] == ["b"]
        async with products.transaction() as tx:
            await tx.update("id-a", {"sku": "z"})
            await tx.create(Product(name="f", sku="a"))
            assert await tx.count() == 5
        assert [each.name for each in await products.find({"sku": {"$in": ["a", "z"]}}, order_by="name")] == ["d", "f"]
        reaches: tuple[Callable[[Any], Any], ...] = (
            lambda tx: tx.repository(Notes).create(Note(text="n")),
            lambda tx: tx.repository("signup_session").get_session("s"),
        )
        for reach in reaches:
            with pytest.raises(UnsupportedOperationError, match="one slot"):  # noqa: PT012 - it ends the transaction
                async with products.transaction() as tx:
                    await tx.delete("id-b")
                    await reach(tx)
        assert (await products.count(), await notes.count()) == (5, 0)
        async with data.transaction("redis") as one:  # document, which is on one slot
            assert await one.repository("signup_session").create_session("s")
            assert await one.repository("signup_session").increment_attempt("s") == 1
        assert await sessions.session_exists("s")
        with pytest.raises(UnsupportedOperationError):
            await data.repository(Entity).upsert_many([Entity(), Entity()])
        entity = Entity()
        assert await data.repository(Entity).upsert(entity) == await data.repository(Entity).upsert(entity) == entity


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("redis://127.0.0.1:1/1", {"mode": "cluster"}),
        ("unix:///tmp/s", {"mode": "cluster"}),
        ("redis://127.0.0.1:1", {"mode": "sentinel"}),
        ("unix:///tmp/s", {"mode": "sentinel", "service": "main"}),
        ("redis://127.0.0.1:1", {"mode": "cluster", "addresses": ("nothing",)}),
        ("redis://127.0.0.1:1", {"mode": "sentinel", "service": "main", "addresses": ("a b:1",)}),
    ],
)
async def test_what_does_not_go_together(url: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        await RedisConnectionManager(RedisSettings(url=SecretStr(url), **settings)).connect()
