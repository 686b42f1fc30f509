"""Our vector store on any engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from app.core.constants import VectorDBType
from app.db import DataLayer
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.providers.db_provider import VectorDBRegistry
from app.db.vector.store import CollectionVectorStore

from .data import Corpus, K, Vectors
from .side import Side, Unused


class Ours(Side):
    name = "manystore"

    def __init__(self, engine: VectorDBType, connection: dict[str, Any], directory: Path, **options: Any) -> None:
        self._engine = engine
        self._connection = connection
        self._directory = directory
        self._options = options

    async def open(self) -> None:
        self._data = DataLayer.from_config(
            {
                "data_dir": str(self._directory / "ours"),
                "connections": {"vectors": self._connection},
                "vector_stores": {},
            }
        )
        await self._data.__aenter__()
        made: Any = VectorDBRegistry.get(self._engine)
        embedding = EmbeddingModel.of(Unused(), provider="benchmark")
        store = made(self._data.connection("vectors"), embedding, collection="ours", **self._options)
        assert isinstance(store, CollectionVectorStore)
        self._store = store

    async def close(self) -> None:
        await self._data.__aexit__(None, None, None)

    async def load(self, corpus: Corpus) -> None:
        await self._store.add_vectors(_documents(corpus, range(len(corpus.vectors))), corpus.vectors)

    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        await self._store.add_vectors(_documents(corpus, rows), corpus.vectors[list(rows)])

    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[Any]:
        where = None if bucket is None else {"bucket": bucket}
        return [document.id for document, _ in await self._store.search_by_vector(vector, K, where)]

    async def clear(self) -> None:
        await self._store.drop_collection()


def _documents(corpus: Corpus, rows: Sequence[int]) -> list[Document]:
    texts, metadatas, ids = corpus.texts, corpus.metadatas, corpus.ids
    return [Document(id=ids[n], page_content=texts[n], metadata=metadatas[n]) for n in rows]
