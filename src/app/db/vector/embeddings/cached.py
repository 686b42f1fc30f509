"""Embeddings in front of which a cache stands."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from .arrays import ArrayEmbeddings
from .cache import KeptVectors
from .flights import Flights, arrived
from .model import ArrayEmbedder, AsyncArrayEmbedder, check_embeddable, checked
from .usage import Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AT_ONCE = 1_000
"""Texts whose vectors are kept together: so much is embedded again, at the most, after a process was killed."""
_PATIENCE = 2
"""How often another is waited for in vain before a text is embedded whoever else does so too: a provider that is away
should not be found out by one caller after the other.
"""


class CachedEmbeddings(ArrayEmbeddings):
    """Of equal texts one is embedded, and none that the cache has.

    The object may be used from several threads and event loops, and texts that are being embedded for one caller are
    waited for by all others. A failure is that caller's own: of those who wait, one takes over.
    """

    def __init__(self, embeddings: Embeddings, kept: KeptVectors, *, model: str, dimension: int | None) -> None:
        self.embeddings = embeddings
        self.model = model
        self.dimension = dimension
        self.usage = embeddings.usage if isinstance(embeddings, AsyncArrayEmbedder) else Usage()
        self._kept = kept
        self._flights: Flights[NDArray[np.float32]] = Flights()

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
            vectors |= await self._obtain(part, query=query)
        return checked([vectors[key] for key in keys], len(keys), type(self.embeddings).__name__, self.dimension)

    def close(self) -> None:
        if isinstance(self.embeddings, AsyncArrayEmbedder):
            self.embeddings.close()

    async def _obtain(self, texts: dict[str, str], *, query: bool) -> "dict[str, NDArray[np.float32]]":
        """The vectors of texts by key: from the cache, from who embeds them just now, or made."""
        vectors: dict[str, NDArray[np.float32]] = {}
        for _ in range(_PATIENCE):
            mine, others = self._flights.board(key for key in texts if key not in vectors)
            made: dict[str, NDArray[np.float32]] = {}
            try:
                made = await self._look_or_embed({key: texts[key] for key in mine}, query=query)
            finally:
                self._flights.land(mine, made)
            shared = await arrived(others)  # after one's own, which others may wait for
            self.usage.add(cached=len(shared))
            vectors |= made | shared
            if len(vectors) == len(texts):
                return vectors
        left = {key: text for key, text in texts.items() if key not in vectors}
        return vectors | await self._look_or_embed(left, query=query)

    async def _look_or_embed(self, texts: dict[str, str], *, query: bool) -> "dict[str, NDArray[np.float32]]":
        found = await self._kept.get(list(texts), self.dimension)
        missing = {key: text for key, text in texts.items() if key not in found}
        self.usage.add(cached=len(found))
        if missing:
            made = dict(zip(missing, await self._embed(list(missing.values()), query=query), strict=True))
            await self._kept.put(made)
            found |= made
        return found

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
