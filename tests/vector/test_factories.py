"""Vector stores by name and by engine."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from app.config import load
from app.connections import ConnectionFactory
from app.core import current
from app.core.constants import VectorDBType
from app.core.errors import ConfigurationError, NotRegisteredError
from app.db.vector.providers.db_provider import VectorDBRegistry, VectorStoreFactory
from app.db.vector.providers.embedding_provider import EmbeddingFactory
from app.db.vector.qdrant import QdrantVectorStore
from app.db.vector.unified import UnifiedVectorStore

from .planned import doc

Make = Callable[..., VectorStoreFactory]


class Layer:
    closed = False

    def __init__(self, settings: Any) -> None:
        self.connections = ConnectionFactory(settings)
        self.embeddings = EmbeddingFactory(settings)
        self.vector_stores = VectorStoreFactory(settings, self.connections, self.embeddings)


@pytest.fixture
async def layer(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, Any]], Layer]]:
    layers: list[Layer] = []

    def make(config: dict[str, Any]) -> Layer:
        layers.append(Layer(load({"data_dir": str(tmp_path), **config})))
        return layers[-1]

    yield make
    for each in layers:
        await each.vector_stores.close_all()
        await each.connections.close_all()


MakeLayer = Callable[[dict[str, Any]], Layer]


def named(store: Any) -> tuple[str, str]:
    assert isinstance(store, QdrantVectorStore)
    return store.name, store.collection


def test_a_name_gives_its_store_each_time(layer: MakeLayer) -> None:
    stores = layer(
        {
            "connections": {"qdrant": {"url": "embedded"}},
            "vector_stores": {"faq": {"connection": "qdrant"}, "docs": {"connection": "qdrant", "collection": "d1"}},
        }
    ).vector_stores
    assert stores.get_vector_store("docs") is stores.get_vector_store("docs")
    assert named(stores.get_vector_store("docs")) == ("docs", "d1")
    assert stores.get_vector_store(VectorDBType.QDRANT) is stores.get_vector_store("faq")
    assert named(stores.get_vector_store("faq")) == ("faq", "faq")


def test_an_engine_without_an_entry_has_the_collection_documents(layer: MakeLayer) -> None:
    stores = layer({"connections": {"qdrant": {"url": "embedded"}}, "vector_stores": {}}).vector_stores
    store = stores.get_vector_store(VectorDBType.QDRANT)
    assert store is stores.get_vector_store("qdrant")
    assert named(store)[1] == "documents"


def test_unknown_names_and_engines_say_what_there_is(layer: MakeLayer) -> None:
    stores = layer({}).vector_stores
    with pytest.raises(NotRegisteredError, match="did you mean 'documents'"):
        stores.get_vector_store("document")
    with pytest.raises(NotRegisteredError, match=r"there is: .*qdrant"):
        stores.get_vector_store(VectorDBType.CHROMA)
    only_sqlite = layer({"connections": {"sqlite": {"path": "x.db"}}}).vector_stores
    with pytest.raises(NotRegisteredError, match="connection of type qdrant"):
        only_sqlite.get_vector_store(VectorDBType.QDRANT)


def test_a_connection_without_vectors_is_refused(layer: MakeLayer) -> None:
    stores = layer({"vector_stores": {"x": {"connection": "sqlite"}}, "connections": {"sqlite": {}}}).vector_stores
    with pytest.raises(ConfigurationError, match="holds no vectors"):
        stores.get_vector_store("x")


def test_the_registry_has_the_class() -> None:
    assert VectorDBRegistry.get(VectorDBType.QDRANT) is QdrantVectorStore


async def test_calls_on_the_class_act_on_the_current_layer(layer: MakeLayer) -> None:
    entered = layer({})
    token = current.enter(entered)
    try:
        store = VectorStoreFactory.get_vector_store(VectorDBType.QDRANT)
        assert store is entered.vector_stores.get_vector_store("documents")
        assert EmbeddingFactory.get_embedding_model("wordllama") is entered.embeddings.embedding("default").langchain
        unified = UnifiedVectorStore(VectorDBType.QDRANT)
        assert await unified.add([doc("a duck", row_id="d"), doc("a car")])
        assert [each.id for each in await unified.search("duck", k=1)] == ["d"]
        assert await unified.delete("d")
        own = QdrantVectorStore()
        assert await own.count() == 1
        assert own.connection is entered.connections.get_connection_manager("qdrant")
    finally:
        current.leave(token)


async def test_closing_lets_go_of_the_directory(layer: MakeLayer, tmp_path: Path) -> None:
    entered = layer({})
    store = entered.vector_stores.get_vector_store("documents")
    await store.save_and_embed(None, [doc("x")])
    await entered.vector_stores.close_all()
    with FileLock(tmp_path / "qdrant" / ".lock", timeout=0):
        pass
