"""Where the contract runs: each engine of the library in each of its forms, on the real thing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings

from app.connections.base import ConnectionManager
from app.connections.qdrant import QdrantConnectionManager
from app.core.constants import VectorDBType
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.providers.db_provider import VectorDBRegistry
from app.db.vector.store import CollectionVectorStore


class Place:
    """One empty engine."""

    def __init__(self, engine: VectorDBType, manager: ConnectionManager[Any]) -> None:
        self.engine = engine
        self.manager = manager

    def store(self, embeddings: Embeddings, **options: Any) -> CollectionVectorStore:
        store_class: Any = VectorDBRegistry.get(self.engine)
        store: CollectionVectorStore = store_class(self.manager, EmbeddingModel.of(embeddings), **options)
        return store


def _qdrant_embedded(request: pytest.FixtureRequest, path: Path) -> Place:
    del request
    return Place(VectorDBType.QDRANT, QdrantConnectionManager(data_dir=path))


PLACES: Mapping[str, Callable[[pytest.FixtureRequest, Path], Place]] = {
    "qdrant-embedded": _qdrant_embedded,
}
