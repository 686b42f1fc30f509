"""Vectors that are kept, so that a text is embedded once. A cache that is away makes embedding dearer, never wrong."""

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Final
from zlib import crc32

from ....core.errors import AppError
from ....core.utils.logger import get_logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = get_logger(__name__)

_BROKEN_SECONDS: Final = 5.0
"""For how long a cache that failed is left alone."""
_CHECK: Final = 4
"""Bytes of the checksum before a vector's."""


class VectorCache(ABC):
    """Bytes by key. The oldest goes when there are too many; errors of a store that is away are ours (`AppError`)."""

    @abstractmethod
    async def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What there is of these keys."""

    @abstractmethod
    async def put(self, entries: Mapping[str, bytes]) -> None: ...


class MemoryVectors(VectorCache):
    """In this process; what was not used for longest goes first."""

    def __init__(self, max_entries: int) -> None:
        self._most = max_entries
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    async def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        with self._lock:
            found = {key: self._entries[key] for key in keys if key in self._entries}
            for key in found:
                self._entries.move_to_end(key)
        return found

    async def put(self, entries: Mapping[str, bytes]) -> None:
        with self._lock:
            for key, value in entries.items():
                self._entries[key] = value
                self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)


class KeptVectors:
    """The vectors of one embedding in a cache. `identity` is all that decides a text's vector but the text."""

    def __init__(self, cache: VectorCache, identity: str) -> None:
        self._cache = cache
        self._identity = sha256(identity.encode()).digest()
        self._broken_until = 0.0

    def key(self, text: str, *, query: bool) -> str:
        """A digest, which says nothing of the text."""
        return sha256(self._identity + (b"q" if query else b"d") + text.encode()).hexdigest()

    async def get(self, keys: Sequence[str], dimension: int | None) -> "dict[str, NDArray[np.float32]]":
        if not keys or time.monotonic() < self._broken_until:
            return {}
        try:
            found = await self._cache.get(keys)
        except AppError as error:
            self._failed(error)
            return {}
        vectors = {key: _read(value, dimension) for key, value in found.items()}
        return {key: vector for key, vector in vectors.items() if vector is not None}

    async def put(self, vectors: "Mapping[str, NDArray[np.float32]]") -> None:
        if time.monotonic() < self._broken_until:
            return
        try:
            await self._cache.put({key: _written(vector) for key, vector in vectors.items()})
        except AppError as error:
            self._failed(error)

    def _failed(self, error: AppError) -> None:
        self._broken_until = time.monotonic() + _BROKEN_SECONDS
        logger.warning("the embedding cache failed and is left alone for %g s: %s", _BROKEN_SECONDS, error)


def _written(vector: "NDArray[np.float32]") -> bytes:
    content = vector.astype("<f4", copy=False).tobytes()
    return crc32(content).to_bytes(_CHECK) + content


def _read(value: bytes, dimension: int | None) -> "NDArray[np.float32] | None":
    """None where it is not what was written: cut off, changed, or of another length than vectors have."""
    import numpy as np  # noqa: PLC0415 - loaded with the model

    content = value[_CHECK:]
    if len(content) % 4 or not content or value[:_CHECK] != crc32(content).to_bytes(_CHECK):
        return None
    vector: NDArray[np.float32] = np.frombuffer(content, "<f4").astype(np.float32, copy=False)
    return vector if dimension in (None, len(vector)) and np.isfinite(vector).all() else None
