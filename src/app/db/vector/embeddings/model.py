"""A configured embedder: LangChain's methods outside, arrays inside, and what a collection remembers of it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ....core.errors import AppError, DimensionMismatchError, InvalidChangeError
from ...models.values import check_text

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray


@runtime_checkable
class ArrayEmbedder(Protocol):
    """What an embedder may have beside LangChain's methods, so that vectors need not become lists on the way."""

    def embed_array(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One row for each text. It is called in a thread, by several at once."""


def check_embeddable(texts: Sequence[Any]) -> None:
    """Refuse texts that have no meaning to embed, or that some store cannot keep."""
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InvalidChangeError(f"text {number} is empty: there is nothing to embed; leave it out")
        try:
            check_text(text)
        except ValueError as error:
            raise InvalidChangeError(f"text {number}: {error}") from None


class EmbeddingModel:
    """One entry under `embeddings`, made on first use and shared by all stores that name it.

    `provider`, `model` and the dimension are the contract that a collection remembers.
    """

    def __init__(
        self,
        create: "Callable[[], Embeddings]",
        *,
        name: str = "",
        provider: str,
        model: str | None = None,
        dimension: int | None = None,
    ) -> None:
        self.name = name or provider
        self.provider = provider
        self._model = model
        self._dimension = dimension
        self._create = create
        self._embeddings: Embeddings | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls, embeddings: "Embeddings", *, provider: str = "", model: str | None = None, dimension: int | None = None
    ) -> "EmbeddingModel":
        """Take any LangChain Embeddings. What a collection is to remember is read from it where not given."""
        return cls(lambda: embeddings, provider=provider or type(embeddings).__name__, model=model, dimension=dimension)

    @property
    def langchain(self) -> "Embeddings":
        """The provider's LangChain object. Making it may load a model: `await load()` does that in a thread."""
        if self._embeddings is None:
            with self._lock:
                if self._embeddings is None:
                    self._embeddings = self._create()
        return self._embeddings

    async def load(self) -> "Embeddings":
        if self._embeddings is None:
            return await asyncio.to_thread(lambda: self.langchain)
        return self._embeddings

    @property
    def model(self) -> str:
        """The model's name, once it is loaded; empty where the provider tells none."""
        return str(self._model or _told(self._embeddings, "model", "model_name", "model_id") or "")

    @property
    def dimension(self) -> int | None:
        """The length of a vector, as far as it is known without embedding anything."""
        return self._dimension or _told(self._embeddings, "dimension", "dimensions")

    async def measure(self) -> int:
        """The length of a vector; where the provider does not tell, one text is embedded to find out."""
        await self.load()
        return self.dimension or len(await self.query_array("dimension"))

    async def array(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One row for each text. A vector of another length, or with NaN or infinity in it, is refused with its
        position, and so all are.
        """
        embeddings = await self.load()
        if isinstance(embeddings, ArrayEmbedder):
            return await asyncio.to_thread(self._embed_array, embeddings, texts)
        check_embeddable(texts)
        return self._checked(await embeddings.aembed_documents(list(texts)), len(texts))

    async def query_array(self, text: str) -> "NDArray[np.float32]":
        embeddings = await self.load()
        if isinstance(embeddings, ArrayEmbedder):
            array = await asyncio.to_thread(self._embed_array, embeddings, [text])
        else:
            check_embeddable([text])
            array = self._checked([await embeddings.aembed_query(text)], 1)
        row: NDArray[np.float32] = array[0]
        return row

    def embed_query(self, text: str) -> list[float]:
        return self.langchain.embed_query(text)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.langchain.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        return await (await self.load()).aembed_query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await (await self.load()).aembed_documents(texts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, provider={self.provider!r})"

    def _embed_array(self, embeddings: ArrayEmbedder, texts: Sequence[str]) -> "NDArray[np.float32]":
        check_embeddable(texts)
        return self._checked(embeddings.embed_array(texts), len(texts))

    def _checked(self, vectors: Any, expected: int) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415 - 0.25 s that only those who embed should pay

        if len(vectors) != expected:
            raise AppError(f"the provider {self.provider!r} returned {len(vectors)} vectors for {expected} texts")
        dimension = self.dimension or (len(vectors[0]) if expected else 0)
        for number, vector in enumerate(vectors):
            if len(vector) != dimension:
                raise DimensionMismatchError(
                    f"vector {number} has {len(vector)} dimensions, the others {dimension}; nothing was written"
                )
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused below
            array: NDArray[np.float32] = np.asarray(vectors, dtype=np.float32).reshape(expected, dimension)
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            number = int(np.argmin(finite))
            raise InvalidChangeError(f"vector {number} has a number that is not finite; nothing was written")
        self._dimension = self._dimension or dimension or None
        return array


def _told(embeddings: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(embeddings, name, None))), None)
