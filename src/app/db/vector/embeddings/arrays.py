"""LangChain's Embeddings over arrays: what embeds in arrays has its four methods from here."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from ..portal import wait
from .usage import Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ArrayEmbeddings(Embeddings):
    """The sync methods may be called from anywhere; they run on a loop in another thread."""

    model: str
    dimension: int | None
    usage: Usage

    @abstractmethod
    async def aembed_array(self, texts: Sequence[str], *, query: bool = False) -> "NDArray[np.float32]":
        """One row for each text, all of one length and finite, or an error."""

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = (await self.aembed_array(texts)).tolist()
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        vector: list[float] = (await self.aembed_array([text], query=True))[0].tolist()
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return wait(self.aembed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        return wait(self.aembed_query(text))

    def close(self) -> None:
        """Let go of what it has open, for good."""
