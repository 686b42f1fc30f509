"""Embeddings whose vectors the test decides."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from app.connections.qdrant import QdrantConnectionManager
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.qdrant import QdrantVectorStore


class Planned(Embeddings):
    """The vector that was planned for a text, else one made of its hash."""

    def __init__(self, vectors: Mapping[str, Sequence[float]] | None = None, *, size: int = 4) -> None:
        self.vectors = dict(vectors or {})
        self.size = size
        self.model = "planned"
        self.asked: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        planned = self.vectors.get(text)
        if planned is not None:
            return list(planned)
        digest = hashlib.sha256(text.encode()).digest()
        return [byte / 255 + 0.01 for byte in digest[: self.size]]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def doc(text: str, metadata: Mapping[str, Any] | None = None, row_id: str | None = None) -> Document:
    return Document(page_content=text, metadata=dict(metadata or {}), id=row_id)


def store_on(manager: QdrantConnectionManager, embeddings: Embeddings, **options: Any) -> QdrantVectorStore:
    return QdrantVectorStore(manager, EmbeddingModel.of(embeddings), **options)
