"""A client that the application made and closes itself, under our repositories."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster

from app.connections.redis import RedisConnectionManager
from app.core.errors import DuplicateRecordError, PoolExhaustedError, StoreUnavailableError
from app.testing.models import Note, Notes, Product, Products, fill

from ..redis_server import RedisServer


@pytest.fixture(params=[True, False], ids=["text", "bytes"])
async def client(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[Any]:
    redis_server.command("FLUSHALL")
    client: Any = Redis.from_url(redis_server.url, decode_responses=request.param)
    yield client
    await client.aclose()


async def test_repositories_work_on_a_callers_client(client: Any) -> None:
    manager = RedisConnectionManager.around(client)
    products, notes = Products(manager), Notes(manager)
    await fill(products, "a", "b", "c")
    assert [each.name for each in await products.find({"name": {"$gt": "a"}}, order_by="-name")] == ["c", "b"]
    assert await products.find_one({"sku": "b"}) == await products.get("id-b")
    assert await products.increment("id-a", "stock", 2) == 2
    assert sorted([each.name async for each in products.stream(batch_size=2)]) == ["a", "b", "c"]
    with pytest.raises(DuplicateRecordError):
        await products.create(Product(name="d", sku="a"))
    note = await notes.create(Note(text="n"))
    assert await notes.delete(note.id)
    async with products.transaction() as tx:
        await tx.delete("id-a")
        await tx.upsert(Product(name="e", sku="b"), on="sku")
    assert [each.name for each in await products.all()] == ["e", "c"]
    assert products.native is client
    await manager.close()
    assert await client.ping()
    assert (await manager.health()).healthy is False, "closed for us"


async def test_what_it_tells_of_itself(client: Any, redis_server: RedisServer) -> None:
    async with RedisConnectionManager.around(client) as manager:
        info = manager.get_connection_info()
        assert info == {"type": "redis", "mode": "borrowed", "path": str(redis_server.socket), "db": 0}
        assert (await manager.health()).healthy
        assert manager.get_pool_stats()["in_use"] == 0
        assert await manager.get("nothing") is None
    assert await client.set("key", "value")
    assert await manager.get("key") == "value", "as text, and after a disconnect"


async def test_its_pool_is_its_own(redis_server: RedisServer) -> None:
    for kind in (ConnectionPool, BlockingConnectionPool):
        pool: Any = kind.from_url(redis_server.url, max_connections=1)
        client: Any = Redis(connection_pool=pool)
        manager = RedisConnectionManager.around(client)
        products = Products(manager)
        await products.delete_many(None, everything=True)
        await fill(products, "a")
        assert await products.count() == 1
        if kind is ConnectionPool:
            taken = await pool.get_connection()
            with pytest.raises(PoolExhaustedError):
                await products.count()
            await pool.release(taken)
        await client.aclose()
        await pool.disconnect()


async def test_an_outage_is_ours() -> None:
    client: Any = Redis(host="127.0.0.1", port=1, username="u", password="hunter2")
    with pytest.raises(StoreUnavailableError) as caught:
        await Products(RedisConnectionManager.around(client)).count()
    assert "hunter2" not in str(caught.value)
    await client.aclose()


def test_another_client_is_refused() -> None:
    for wrong in (redis.Redis(), RedisCluster(host="x", port=1), object(), None):
        with pytest.raises(TypeError, match=r"redis\.asyncio\.Redis"):
            RedisConnectionManager.around(wrong)
