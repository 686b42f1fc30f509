"""A row that another program wrote into a collection of ours is told of, where it is read."""

from typing import Any
from uuid import uuid4

import pytest
from qdrant_client import models
from qdrant_edge import Point, UpdateOperation

from app.connections._chroma_embedded import ChromaEngine
from app.connections.chromadb import ChromaDBConnectionManager
from app.connections.postgres import PostgresConnectionManager
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
    store = place.store(Planned())
    await store.upsert([doc("text", {"n": 1}, "a")])
    return store


@pytest.mark.parametrize(
    "kept",
    [
        {"other": "x"},
        {"row": "x", "text": "x", "manystore": "x", "metadata": "x"},
        {"row": 5, "manystore": 5, "metadata": 5},
        {
            "row": "a\0a\0now\0[1]",
            "manystore": '{"at": "now", "metadata": [1]}',
            "id": "a",
            "doc": "a",
            "text": "x",
            "metadata": "[1]",
            "at": "now",
        },
    ],
)
async def test_it_is_told_of(store: CollectionVectorStore, kept: dict[str, Any]) -> None:
    manager = store.connection
    if isinstance(manager, ChromaDBConnectionManager):
        await write_chroma(manager, kept)
    elif isinstance(manager, PostgresConnectionManager):
        await manager.execute_command(
            "INSERT INTO documents (id, document_id, content, source, embedding) "
            "SELECT 'x', 'x', 'x', '[1]', embedding FROM documents"
        )
    else:
        assert isinstance(manager, QdrantConnectionManager)
        await write_qdrant(manager, kept)
    with pytest.raises(StoreUnavailableError, match="a row that this library did not write"):
        await store.search_similar("text", k=5)
    with pytest.raises(StoreUnavailableError, match="a row that this library did not write"):
        _ = [each async for each in store.documents()]
    assert [each.id for each in await store.get_by_ids(["a"])] == ["a"]


@pytest.mark.parametrize("made", ["qdrant-local"], indirect=True)
async def test_it_is_told_of_where_a_filter_has_to_read(place: Place) -> None:
    """Which reads only a part of the row there."""
    assert isinstance(place.manager, QdrantConnectionManager)
    store = place.store(Planned())
    await store.upsert([doc("text", {"n": 1}, "a")])
    await write_qdrant(place.manager, {"other": "x"})
    with pytest.raises(StoreUnavailableError, match="a row that this library did not write"):
        await store.delete_where({"$nor": [{"other": {"$contains": "nothing"}}]})
