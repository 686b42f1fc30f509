"""Our vector store on any engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings

from app.core.constants import VectorDBType
from app.db import DataLayer
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.providers.db_provider import VectorDBRegistry
from app.db.vector.store import CollectionVectorStore

from .data import Corpus, K, Vectors
from .side import Side


class Ours(Side):
    name = "manystore"

    def __init__(
        self, engine: VectorDBType, connection: dict[str, Any], directory: Path, filterable: Sequence[str] = ()
    ) -> None:
        self._engine = engine
        self._filterable = filterable
        self._connection = connection
        self._directory = directory

    async def open(self) -> None:
        self._data = DataLayer.from_config(
            {
                "data_dir": str(self._directory / "ours"),
                "connections": {"vectors": self._connection},
                "vector_stores": {},
            }
        )
        await self._data.__aenter__()
        self.want(0.95)

    def want(self, recall: float) -> None:
        """Search from now on with a store that has this setting, in the same collection."""
        made: Any = VectorDBRegistry.get(self._engine)
        embedding = EmbeddingModel.of(_Unused(), provider="benchmark", model="made before")
        options = {"collection": "ours", "recall": recall, "filterable": self._filterable}
        store = made(self._data.connection("vectors"), embedding, **options)
        assert isinstance(store, CollectionVectorStore)
        self._store = store
        self._recall = recall

    @property
    def width(self) -> int | None:
        """How wide the last search was, where the engine has an index of which it reads a part."""
        index = getattr(self._store.engine, "_index", None)
        return None if index is None else index.width(self._recall, K)

    async def close(self) -> None:
        await self._data.__aexit__(None, None, None)

    async def load(self, corpus: Corpus, rows: Sequence[int]) -> None:
        await self.upsert(corpus, rows)

    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        await self._store.add_vectors(corpus.documents[: len(rows)], corpus.vectors[: len(rows)])

    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[str]:
        where = None if bucket is None else {"bucket": bucket}
        return [str(document.id) for document, _ in await self._store.search_by_vector(vector, K, where)]

    async def clear(self) -> None:
        await self._store.drop_collection()


class _Unused(Embeddings):
    """All vectors are given."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError
