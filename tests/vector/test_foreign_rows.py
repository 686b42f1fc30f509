"""A row that another program wrote into a collection of ours is told of, where it is read."""

from typing import Any
from uuid import uuid4

import pytest
from qdrant_client import models
from qdrant_edge import Point, UpdateOperation

from app.connections._chroma_embedded import ChromaEngine
from app.connections.chromadb import ChromaDBConnectionManager
from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import StoreUnavailableError
from app.db.vector.store import CollectionVectorStore

from .places import Place
from .planned import Planned, doc

VECTOR = [1.0, 0.0, 0.0, 0.0]


async def write_chroma(manager: ChromaDBConnectionManager, metadata: dict[str, Any]) -> None:
    row: dict[str, Any] = {"ids": ["foreign"], "embeddings": [VECTOR], "documents": ["x"], "metadatas": [metadata]}
    client = await manager.connect()
    if isinstance(client, ChromaEngine):
        await client.write(lambda there: there.get_collection("documents", embedding_function=None).add(**row))
    else:
        await (await client.get_collection("documents", embedding_function=None)).add(**row)


async def write_qdrant(manager: QdrantConnectionManager, payload: dict[str, Any]) -> None:
    if manager.address is None:
        point = UpdateOperation.upsert_points([Point(uuid4(), VECTOR, payload)])
        engine = await manager.engine()
        await engine.write(lambda collections: collections.shard("documents").update(point))
    else:
        struct = models.PointStruct(id=str(uuid4()), vector=VECTOR, payload=payload)
        client: Any = await manager.connect()
        await client.upsert("documents", [struct])


@pytest.fixture
async def store(place: Place) -> CollectionVectorStore:
    if place.engine == "pgvector":
        pytest.skip("a table has the columns that a row of ours has")
    store = place.store(Planned())
    await store.upsert([doc("text", {"n": 1}, "a")])
    return store


@pytest.mark.parametrize(
    "kept", [{"other": "x"}, {"row": "x", "text": "x", "manystore": "x"}, {"row": 5, "manystore": 5}]
)
async def test_it_is_told_of(store: CollectionVectorStore, kept: dict[str, Any]) -> None:
    manager = store.connection
    if isinstance(manager, ChromaDBConnectionManager):
        await write_chroma(manager, kept)
    else:
        assert isinstance(manager, QdrantConnectionManager)
        await write_qdrant(manager, kept)
    with pytest.raises(StoreUnavailableError, match="a row that this library did not write"):
        await store.search_similar("text", k=5)
    with pytest.raises(StoreUnavailableError, match="a row that this library did not write"):
        _ = [each async for each in store.documents()]
    assert [each.id for each in await store.get_by_ids(["a"])] == ["a"]
