"""One way to keep vectors on one engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.embeddings import Embeddings

from .data import Corpus, Vectors


class Side(ABC):
    name: ClassVar[str]

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def load(self, corpus: Corpus) -> None:
        """Into an empty collection, until it can be searched as fast as it will be."""

    @abstractmethod
    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        """The same rows again, in the place of those that are there."""

    @abstractmethod
    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[Any]:
        """The ids of the ten nearest, each of which was read with its text and metadata."""

    async def clear(self) -> None:
        """Drop the collection; not measured."""
        raise NotImplementedError


class Unused(Embeddings):
    """All vectors are given."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


class Known(Embeddings):
    """LangChain's embeddings for sides that insist on embedding: each text has the vector that was made before."""

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
