"""LangChain's own stores, as their pages have them."""

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_chroma import Chroma
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from .data import Corpus, K, Vectors
from .side import Known, Side


class LangChainSide(Side):
    name = "langchain"

    def __init__(self, make: Callable[[Known, int], Any], condition: Callable[[int], Any]) -> None:
        self._make = make
        self._condition = condition

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def load(self, corpus: Corpus) -> None:
        self._store = self._make(Known(corpus), corpus.vectors.shape[1])
        await self.upsert(corpus, range(len(corpus.vectors)))

    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        texts, metadatas, ids = corpus.texts, corpus.metadatas, corpus.ids
        self._ids = {texts[n]: ids[n] for n in rows} | getattr(self, "_ids", {})
        await self._store.aadd_texts(
            [texts[n] for n in rows], [metadatas[n] for n in rows], ids=[_uuid(ids[n]) for n in rows]
        )

    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[Any]:
        options = {} if bucket is None else {"filter": self._condition(bucket)}
        found = await self._store.asimilarity_search_by_vector(vector.tolist(), K, **options)
        return [self._ids[document.page_content] for document in found]

    async def clear(self) -> None:
        self._ids = {}


def _uuid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def qdrant(directory: Path) -> LangChainSide:
    """In its local mode, which keeps the collection in a directory."""
    number = iter(range(1_000))

    def make(embedding: Known, dimension: int) -> Any:
        client = QdrantClient(path=str(directory / f"langchain-{next(number)}"))
        client.create_collection("it", models.VectorParams(size=dimension, distance=models.Distance.COSINE))
        return QdrantVectorStore(client, "it", embedding)

    def condition(bucket: int) -> Any:
        match = models.FieldCondition(key="metadata.bucket", match=models.MatchValue(value=bucket))
        return models.Filter(must=[match])

    return LangChainSide(make, condition)


def chroma(directory: Path) -> LangChainSide:
    number = iter(range(1_000))

    def make(embedding: Known, _: int) -> Any:
        return Chroma(
            "langchain",
            embedding,
            persist_directory=str(directory / f"chroma-{next(number)}"),
            collection_metadata={"hnsw:space": "cosine"},
        )

    return LangChainSide(make, lambda bucket: {"bucket": bucket})
