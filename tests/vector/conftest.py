"""Stores on the real engine, in a directory of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.connections.qdrant import QdrantConnectionManager
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.qdrant import QdrantVectorStore

from .planned import Planned


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[QdrantConnectionManager]:
    manager = QdrantConnectionManager(data_dir=tmp_path)
    yield manager
    await manager.close()


@pytest.fixture
def planned() -> Planned:
    return Planned()


@pytest.fixture
def store(manager: QdrantConnectionManager, planned: Planned) -> QdrantVectorStore:
    return QdrantVectorStore(manager, EmbeddingModel.of(planned))
