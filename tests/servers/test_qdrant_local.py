"""The manager of a Qdrant server with the client's own engine in memory behind the same interface: real answers.

It has no connections, so what happens to those is in test_qdrant.py and test_http_pool.py.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from qdrant_client import AsyncQdrantClient, models

from app.config.settings import QdrantSettings
from app.connections._http import HttpAddress
from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import UnsupportedOperationError


class LocalManager(QdrantConnectionManager):
    async def _client(self, address: HttpAddress) -> AsyncQdrantClient:
        del address
        return AsyncQdrantClient(":memory:")


@pytest.fixture
async def manager() -> AsyncIterator[LocalManager]:
    manager = LocalManager(QdrantSettings(url=SecretStr("http://127.0.0.1:9")))
    yield manager
    await manager.close()


async def make(client: Any) -> None:
    await client.create_collection(
        "documents", vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE)
    )


async def fill(client: Any) -> None:
    points = [models.PointStruct(id=n, vector=[1.0, n], payload={"n": n}) for n in range(10)]
    await client.upsert("documents", points=points, wait=True)


async def test_what_connecting_and_health_ask_has_an_answer(manager: LocalManager) -> None:
    client = await manager.connect()
    assert isinstance(client, AsyncQdrantClient)
    assert client is await manager.connect()
    health = await manager.health()
    assert health.healthy, health.detail
    assert health.server_version
    assert health.pool is None
    with pytest.raises(UnsupportedOperationError):
        await manager.engine()


async def test_calls_through_the_manager_give_what_the_client_gives(manager: LocalManager) -> None:
    await manager.write(make)
    await manager.write(fill)
    collections = await manager.read(lambda client: client.get_collections())  # type: ignore[union-attr]
    assert [each.name for each in collections.collections] == ["documents"]
    few = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=5))])

    async def near(client: Any) -> Any:
        return await client.query_points("documents", query=[1.0, 0.0], query_filter=few, limit=3, with_payload=True)

    found = await manager.read(near)
    assert [point.payload["n"] for point in found.points] == [5, 6, 7]
    assert (await manager.read(lambda client: client.count("documents"))).count == 10  # type: ignore[union-attr]

    async def forget(client: Any) -> None:
        await client.delete("documents", points_selector=models.FilterSelector(filter=few))

    await manager.write(forget)
    records, after = await manager.read(lambda client: client.scroll("documents", limit=100))  # type: ignore[union-attr]
    assert sorted(each.id for each in records) == [0, 1, 2, 3, 4]
    assert after is None


async def test_an_answer_about_a_request_is_the_clients_own_error(manager: LocalManager) -> None:
    """What a refused statement means is for the vector store to say."""
    with pytest.raises(ValueError, match="documents"):
        await manager.read(lambda client: client.count("documents"))  # type: ignore[union-attr]


async def test_each_disconnect_ends_one_engine(manager: LocalManager) -> None:
    await manager.write(make)
    await manager.disconnect()
    assert (await manager.read(lambda client: client.get_collections())).collections == []  # type: ignore[union-attr]
