"""Rows that a vector store wrote to Chroma, converted: what they are, and what finds them."""

from typing import Any

import pytest

from app.core.constants import Distance
from app.core.errors import EmbeddingMismatchError
from app.db import DataLayer
from app.db.vector.chromadb import ChromaVectorStore
from app.db.vector.embeddings.model import EmbeddingModel

from ...vector.planned import Planned, doc
from .places import Place

pytestmark = pytest.mark.parametrize("place", ["chroma directory", "chroma server"], indirect=True)


class Other(Planned):
    """Another provider."""


ROWS: dict[str, dict[str, Any]] = {
    f"row{n}": {"year": 2000 + n, "city": f"Paris {n}", "deep": {"a": [n, None]}, "gone": n == 1} for n in range(7)
}


async def test_what_a_filter_asks_for_follows_the_conversion(place: Place, data: DataLayer) -> None:
    store = on(data)
    await store.save_and_embed(None, [doc(f"text of {name}", row, name) for name, row in [*ROWS.items(), ("", {})]])
    place.write(
        "001_rows",
        """
        self.convert_field("documents", "year", lambda y: y + 1000, reverse=lambda y: y - 1000, batch_size=3)
        self.rename_field("documents", "city", "town", batch_size=3)
        self.convert_field("documents", "deep", lambda d: {"b": d["a"]}, reverse=lambda d: {"a": d["b"]})
        """,
    )
    migrator = place.migrator(data)
    await migrator.up()
    [row] = [document async for document in store.documents({"year": 3003})]
    assert row.metadata == {"year": 3003, "town": "Paris 3", "deep": {"b": [3, None]}, "gone": False}
    assert row.page_content == "text of row3"
    assert await counts(store) == [0, 7, 0, 1, 0, 1]
    await migrator.down()
    assert {document.id: document.metadata async for document in store.documents()} == {**ROWS, "": {}}
    assert await counts(store) == [7, 0, 1, 0, 1, 0]


async def counts(store: ChromaVectorStore) -> list[int]:
    questions: list[dict[str, Any]] = [
        {"year": {"$lt": 2500}},
        {"year": {"$gte": 2500}},
        {"city": "Paris 1"},
        {"town": "Paris 1"},
        {"deep.a": {"$contains": 2}},
        {"deep.b": {"$contains": 2}},
    ]
    return [await store.count(question) for question in questions]


async def test_the_first_that_writes_says_the_embedding(place: Place, data: DataLayer) -> None:
    place.write("001_documents", 'self.create_vector_collection("documents", 4, "l2")')
    await place.migrator(data).up()
    other = on(data, Other(), distance=Distance.L2)
    assert await other.count() == 0, "who only reads, says nothing"
    store = on(data, distance=Distance.L2)
    contract = await store.engine.contract()
    assert contract is not None
    assert contract.provider is None
    await store.save_and_embed(None, [doc("tea", {"year": 1}, "a")])
    assert [each.id for each in await store.search_similar("tea", 1, {"year": {"$gt": 0}})] == ["a"]
    with pytest.raises(EmbeddingMismatchError, match="is embedded with Planned/planned"):
        await other.count()
    place.write("002_again", 'self.create_vector_collection("documents", 4, "l2")')
    await place.migrator(data).up()
    contract = await store.engine.contract()
    assert contract is not None
    assert (contract.provider, contract.dimension, contract.distance) == ("Planned", 4, Distance.L2)


def on(data: DataLayer, embeddings: Planned | None = None, **options: Any) -> ChromaVectorStore:
    manager: Any = data.connection("chromadb")
    return ChromaVectorStore(manager, EmbeddingModel.of(embeddings or Planned()), **options)
