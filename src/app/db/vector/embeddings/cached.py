"""Embeddings in front of which a cache stands."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from .arrays import ArrayEmbeddings
from .cache import KeptVectors
from .model import ArrayEmbedder, AsyncArrayEmbedder, check_embeddable, checked
from .usage import Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AT_ONCE = 1_000
"""Texts whose vectors are kept together: so much is embedded again, at the most, after a process was killed."""


class CachedEmbeddings(ArrayEmbeddings):
    """Of equal texts in one call one is embedded, and none that the cache has."""

    def __init__(self, embeddings: Embeddings, kept: KeptVectors, *, model: str, dimension: int | None) -> None:
        self.embeddings = embeddings
        self.model = model
        self.dimension = dimension
        self.usage = embeddings.usage if isinstance(embeddings, AsyncArrayEmbedder) else Usage()
        self._kept = kept

    async def aembed_array(self, texts: Sequence[str], *, query: bool = False) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415 - loaded with the model

        check_embeddable(texts)
        if not texts:
            return np.empty((0, self.dimension or 0), np.float32)
        keys: list[str] = []
        vectors: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(texts), _AT_ONCE):
            asked = texts[start : start + _AT_ONCE]
            keys += [self._kept.key(text, query=query) for text in asked]
            part = {key: text for key, text in zip(keys[start:], asked, strict=True) if key not in vectors}
            found = await self._kept.get(list(part), self.dimension)
            missing = {key: text for key, text in part.items() if key not in found}
            self.usage.add(cached=len(found))
            if missing:
                made = dict(zip(missing, await self._embed(list(missing.values()), query=query), strict=True))
                await self._kept.put(made)
                found |= made
            vectors |= found
        return checked([vectors[key] for key in keys], len(keys), type(self.embeddings).__name__, self.dimension)

    def close(self) -> None:
        if isinstance(self.embeddings, AsyncArrayEmbedder):
            self.embeddings.close()

    async def _embed(self, texts: list[str], *, query: bool) -> "NDArray[np.float32]":
        """Checked, so that nothing is kept that another check would refuse."""
        embeddings = self.embeddings
        vectors: object
        if isinstance(embeddings, AsyncArrayEmbedder):
            vectors = await embeddings.aembed_array(texts, query=query)
        else:
            if isinstance(embeddings, ArrayEmbedder):
                vectors = await asyncio.to_thread(embeddings.embed_array, texts)
            elif query:
                vectors = [await embeddings.aembed_query(text) for text in texts]
            else:
                vectors = await embeddings.aembed_documents(texts)
            self.usage.add(texts=len(texts), requests=1)
        array = checked(vectors, len(texts), type(embeddings).__name__, self.dimension)
        self.dimension = self.dimension or array.shape[1]
        return array
