"""What LangChain's own stores have in common here: vectors that were made before, and ids that are UUIDs."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from langchain_core.embeddings import Embeddings

from .data import Corpus, K, Vectors
from .side import Side


class Known(Embeddings):
    """Each text has the vector that was made before."""

    def __init__(self, corpus: Corpus) -> None:
        self._vectors = dict(zip(corpus.texts, corpus.vectors, strict=True))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = [self._vectors[text].tolist() for text in texts]
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        return self.embed_query(text)


class LangChainSide(Side):
    most: int | None = None
    """Rows that the store takes in one call."""

    @abstractmethod
    async def make(self, embedding: Known, dimension: int) -> Any:
        """The store over an empty collection."""

    async def made(self) -> None:
        """After the load."""

    @abstractmethod
    def condition(self, bucket: int) -> Any: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def load(self, corpus: Corpus, rows: Sequence[int]) -> None:
        self._ids = dict(zip(corpus.texts, corpus.ids, strict=True))
        self._store = await self.make(Known(corpus), corpus.vectors.shape[1])
        await self.upsert(corpus, rows)
        await self.made()

    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        step = self.most or len(rows)
        for start in range(0, len(rows), step):
            part = slice(start, min(start + step, len(rows)))
            await self._store.aadd_texts(corpus.texts[part], corpus.metadatas[part], ids=corpus.uuids[part])

    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[str]:
        options = {} if bucket is None else {"filter": self.condition(bucket)}
        found = await self._store.asimilarity_search_by_vector(vector.tolist(), K, **options)
        return [self._ids[document.page_content] for document in found]

    async def clear(self) -> None:
        """Each load makes a collection of its own."""
