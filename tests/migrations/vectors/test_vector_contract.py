"""A collection that a migration made, and the vector store that uses it first: embedded Qdrant."""

from typing import Any

import pytest

from app.core.constants import Distance
from app.core.errors import DimensionMismatchError, EmbeddingMismatchError
from app.db import DataLayer
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.qdrant import QdrantVectorStore

from ...vector.planned import Planned, doc
from .places import Place

pytestmark = pytest.mark.parametrize("place", ["qdrant embedded"], indirect=True)


class Other(Planned):
    """Another provider."""


async def test_it_is_as_the_store_would_have_made_it(place: Place, data: DataLayer) -> None:
    place.write("001_migrated", 'self.create_vector_collection("migrated", 4, "l2")')
    await place.migrator(data).up()
    for collection in ("migrated", "own"):
        store = on(data, collection=collection, distance=Distance.L2)
        assert await store.search_similar("tea") == []
        await store.save_and_embed(None, [doc("tea", {"year": 1}, "a"), doc("milk", {"year": 2}, "b")])
        assert [each.id for each in await store.search_similar("tea", 1, {"year": {"$gt": 0}})] == ["a"]
    collections = await place.collections(data)
    assert collections["migrated"] == collections["own"]


async def test_the_first_that_writes_says_the_embedding(place: Place, data: DataLayer) -> None:
    place.write("001_documents", 'self.create_vector_collection("documents", 4)')
    await place.migrator(data).up()
    assert await on(data, Other()).count() == 0, "who only reads, says nothing"
    assert (await made(place, data))["provider"] is None
    await on(data).save_and_embed(None, [doc("tea")])
    assert await made(place, data) == {
        "provider": "Planned",
        "model": "planned",
        "dimension": 4,
        "distance": "cosine",
    }
    with pytest.raises(EmbeddingMismatchError, match="is embedded with Planned/planned"):
        await on(data, Other()).count()
    place.write("002_again", 'self.create_vector_collection("documents", 4)')
    await place.migrator(data).up()
    assert (await made(place, data))["provider"] == "Planned"
    await data.connection("qdrant").disconnect()  # so that it is read from the disk again
    assert (await made(place, data))["provider"] == "Planned"


async def test_dimension_and_distance_are_the_migrations(place: Place, data: DataLayer) -> None:
    place.write("001_documents", 'self.create_vector_collection("documents", 3, "l2")')
    await place.migrator(data).up()
    with pytest.raises(DimensionMismatchError, match="vectors of 3 dimensions, and this store makes 4"):
        await on(data, distance=Distance.L2).save_and_embed(None, [doc("tea")])
    with pytest.raises(EmbeddingMismatchError, match="measures by l2"):
        await on(data, Planned(size=3)).save_and_embed(None, [doc("tea")])
    assert (await made(place, data))["provider"] is None
    assert await on(data, Planned(size=3), distance=Distance.L2).save_and_embed(None, [doc("tea")])


def on(data: DataLayer, embeddings: Planned | None = None, **options: Any) -> QdrantVectorStore:
    manager: Any = data.connection("qdrant")
    return QdrantVectorStore(manager, EmbeddingModel.of(embeddings or Planned()), **options)


async def made(place: Place, data: DataLayer) -> dict[str, Any]:
    return dict((await place.collections(data))["documents"]["made"])
