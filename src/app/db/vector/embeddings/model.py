"""A configured embedder: LangChain's methods outside, arrays inside, and what a collection remembers of it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ....core.errors import AppError, DimensionMismatchError, InvalidChangeError
from ...models.values import check_text
from .usage import Usage

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray


@runtime_checkable
class ArrayEmbedder(Protocol):
    """What an embedder may have beside LangChain's methods, so that vectors need not become lists on the way."""

    def embed_array(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One row for each text. It is called in a thread, by several at once."""


@runtime_checkable
class AsyncArrayEmbedder(Protocol):
    """The same where embedding waits for others. What was asked of the provider is counted in `usage`."""

    usage: Usage

    async def aembed_array(self, texts: Sequence[str], *, query: bool = False) -> "NDArray[np.float32]": ...

    def close(self) -> None: ...


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
        self._usage = Usage()
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
        return self._model or told_model(self._embeddings)

    @property
    def dimension(self) -> int | None:
        """The length of a vector, as far as it is known without embedding anything."""
        return self._dimension or told_dimension(self._embeddings)

    async def measure(self) -> int:
        """The length of a vector; where the provider does not tell, one text is embedded to find out."""
        await self.load()
        return self.dimension or len(await self.query_array("dimension"))

    @property
    def usage(self) -> Usage:
        """What was embedded so far, and what it cost."""
        embeddings: object = self._embeddings
        return embeddings.usage if isinstance(embeddings, AsyncArrayEmbedder) else self._usage

    async def array(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One row for each text. A vector of another length, or with NaN or infinity in it, is refused with its
        position, and so all are.
        """
        embeddings = await self.load()
        if isinstance(embeddings, AsyncArrayEmbedder):
            return self._checked(await embeddings.aembed_array(texts), len(texts))
        if isinstance(embeddings, ArrayEmbedder):
            return await asyncio.to_thread(self._embed_array, embeddings, texts)
        check_embeddable(texts)
        return self._counted(await embeddings.aembed_documents(list(texts)), len(texts))

    async def query_array(self, text: str) -> "NDArray[np.float32]":
        embeddings = await self.load()
        if isinstance(embeddings, AsyncArrayEmbedder):
            array = self._checked(await embeddings.aembed_array([text], query=True), 1)
        elif isinstance(embeddings, ArrayEmbedder):
            array = await asyncio.to_thread(self._embed_array, embeddings, [text])
        else:
            check_embeddable([text])
            array = self._counted([await embeddings.aembed_query(text)], 1)
        row: NDArray[np.float32] = array[0]
        return row

    def close(self) -> None:
        """Let go of what the provider has open, for good."""
        embeddings: object = self._embeddings
        if isinstance(embeddings, AsyncArrayEmbedder):
            embeddings.close()

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
        return self._counted(embeddings.embed_array(texts), len(texts))

    def _counted(self, vectors: Any, expected: int) -> "NDArray[np.float32]":
        array = self._checked(vectors, expected)
        self._usage.add(texts=expected, requests=1)
        return array

    def _checked(self, vectors: Any, expected: int) -> "NDArray[np.float32]":
        array = checked(vectors, expected, f"the provider {self.provider!r}", self.dimension)
        self._dimension = self._dimension or array.shape[1] or None
        return array


def checked(vectors: Any, expected: int, source: str, dimension: int | None) -> "NDArray[np.float32]":
    """As many vectors as expected, all of one length and finite, as an array; else an error that says which is not."""
    import numpy as np  # noqa: PLC0415 - 0.25 s that only those who embed should pay

    if len(vectors) != expected:
        raise AppError(f"{source} returned {len(vectors)} vectors for {expected} texts")
    length = dimension or (len(vectors[0]) if expected else 0)
    alike = isinstance(vectors, np.ndarray) and vectors.shape == (expected, length)
    for number, vector in enumerate(() if alike else vectors):
        if len(vector) != length:
            others = f"{length} are expected" if dimension else f"the others {length}"
            raise DimensionMismatchError(
                f"{source}: vector {number} has {len(vector)} dimensions, {others}; nothing was written"
            )
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused below
            array: NDArray[np.float32] = np.asarray(vectors, dtype=np.float32).reshape(expected, length)
    except (TypeError, ValueError):
        raise AppError(f"{source} returned something else than numbers") from None
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        number = int(np.argmin(finite))
        raise InvalidChangeError(f"{source}: vector {number} has a number that is not finite; nothing was written")
    return array


def told_model(embeddings: object) -> str:
    return str(_told(embeddings, "model", "model_name", "model_id") or "")


def told_dimension(embeddings: object) -> int | None:
    dimension: int | None = _told(embeddings, "dimension", "dimensions")
    return dimension


def _told(embeddings: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(embeddings, name, None))), None)
