"""One way to keep vectors on one engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .data import Corpus, Vectors


class Side(ABC):
    name: str

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def load(self, corpus: Corpus, rows: Sequence[int]) -> None:
        """Into an empty collection, until it can be searched as fast as it will be."""

    @abstractmethod
    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        """The same rows again, in the place of those that are there."""

    @abstractmethod
    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[str]:
        """The ids of the ten nearest, each of which was read with its text and metadata."""

    async def widen(self, width: int) -> None:
        """Read so much of the index from now on, where the engine has one that may miss some."""
        raise NotImplementedError

    @abstractmethod
    async def clear(self) -> None:
        """Drop the collection; not measured."""
