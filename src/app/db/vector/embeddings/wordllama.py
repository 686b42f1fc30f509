"""WordLlama: a static model that comes inside its wheel. No server, no key, no download."""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain_core.embeddings import Embeddings

from ....core.errors import ConfigurationError, InvalidChangeError, MissingDependencyError
from .model import check_embeddable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL: Final = "l2_supercat"
DIMENSIONS: Final = (64, 128, 256)  # the wheel has the weights of 256; the first 64 or 128 stand for themselves

_BATCH = 64
_BATCH_CHARACTERS = 65_536  # a batch is padded to its longest text: unbounded, one long text makes gigabytes
_SLICE = 8_192  # tokens


class WordLlamaEmbeddings(Embeddings):
    """Unit vectors. The model is loaded on first use, once per process."""

    def __init__(self, dimension: int = 256) -> None:
        self.model = MODEL
        self.dimension = dimension

    def embed_array(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np  # noqa: PLC0415 - loaded with the model

        check_embeddable(texts)
        model = _load_once(self.dimension)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for numbers in _batches(texts):
            if len(texts[numbers[0]]) > _BATCH_CHARACTERS:
                vectors[numbers[0]] = _embed_long(model, texts[numbers[0]])
            else:
                vectors[numbers] = model.embed([texts[number] for number in numbers])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (lengths > 0).all():
            raise InvalidChangeError(f"text {int(np.argmin(lengths > 0))} has nothing in it that the model knows")
        vectors /= lengths
        return vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.embed_array(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        return await asyncio.to_thread(self.embed_query, text)


def create(config: Mapping[str, Any]) -> WordLlamaEmbeddings:
    """Make the provider from its section of the settings; `dimension` may shorten the vectors."""
    if (config.get("model") or MODEL) != MODEL:
        raise ConfigurationError(f"wordllama has one model in its wheel, {MODEL!r}, and not {config['model']!r}")
    dimension = config.get("dimension") or DIMENSIONS[-1]
    if dimension not in DIMENSIONS:
        raise ConfigurationError(f"wordllama makes vectors of {', '.join(map(str, DIMENSIONS))}, and not {dimension}")
    return WordLlamaEmbeddings(dimension)


_lock = threading.Lock()


def _load_once(dimension: int) -> Any:
    with _lock:  # `cache` alone lets two first users load it twice
        return _load(dimension)


@cache
def _load(dimension: int) -> Any:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        import wordllama  # type: ignore[import-untyped]  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise MissingDependencyError.for_extra("wordllama", "embedded") from error
    finally:
        # Importing it calls `logging.basicConfig(level=INFO)`, which is the application's to do.
        root.handlers[:] = handlers
        root.setLevel(level)
    return wordllama.WordLlama.load(
        config=MODEL,
        # Where its own search for the tokenizer ends in a download, this finds the one in the wheel.
        cache_dir=Path(wordllama.__file__).parent,
        disable_download=True,
        trunc_dim=dimension if dimension != DIMENSIONS[-1] else None,
    )


def _batches(texts: Sequence[str]) -> list[list[int]]:
    """Positions of texts of like length, so that little is padding."""
    batches: list[list[int]] = []
    batch: list[int] = []
    for number in sorted(range(len(texts)), key=lambda number: len(texts[number])):
        if batch and (len(batch) == _BATCH or (len(batch) + 1) * len(texts[number]) > _BATCH_CHARACTERS):
            batches.append(batch)
            batch = []
        batch.append(number)
    return [*batches, batch] if batch else batches


def _embed_long(model: Any, text: str) -> "NDArray[np.float32]":
    """The mean of the tokens' vectors, as `embed` has it, with a slice of them in memory at a time."""
    import numpy as np  # noqa: PLC0415 - loaded with the model

    [encoded] = model.tokenize([text])
    ids = np.clip(np.asarray(encoded.ids), 0, len(model.embedding) - 1)
    total = sum(
        model.embedding[ids[start : start + _SLICE]].sum(axis=0, dtype=np.float64)
        for start in range(0, len(ids), _SLICE)
    )
    mean: NDArray[np.float32] = np.asarray(total / max(len(ids), 1), dtype=np.float32)
    return mean
