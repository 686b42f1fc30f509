"""How near two vectors are, as every engine's answers say it; and a choice that is near and various."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ...core.constants import Distance
from ...core.errors import InvalidChangeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK: Final = 65_536
"""Numbers at a time, which a core's own cache has room for."""
_LEAST: Final = 1e-20
_MOST: Final = 1e20
"""Sums of squares between which float32 has all its digits."""


def similarities(distance: Distance, measures: Iterable[float]) -> list[float]:
    """Cosines, distances or inner products as similarities in [0, 1]."""
    if distance == Distance.COSINE:
        return [1.0 if each > 1 else (1 + each) / 2 if each > -1 else 0.0 for each in measures]
    if distance == Distance.L2:
        return [1 / (1 + max(each, 0.0)) for each in measures]
    return [1 / (1 + math.exp(-each)) if each >= 0 else (e := math.exp(each)) / (1 + e) for each in measures]


def as_array(given: Any, dimensions: int) -> "NDArray[np.float32]":
    """One vector (1) or rows of them (2) as float32; InvalidChangeError for what is none."""
    import numpy as np  # noqa: PLC0415 - only those who embed need it

    if isinstance(given, np.ndarray) and given.dtype == np.float32 and given.ndim == dimensions:
        return given
    try:
        array = np.asarray(given)
    except ValueError:
        raise InvalidChangeError("the vectors have different lengths") from None
    if array.dtype.kind not in "fiu" or array.ndim != dimensions:
        raise InvalidChangeError("a vector is a list of numbers")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused
        return array.astype(np.float32, copy=False)


def directed(distance: Distance, array: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Under cosine, unit vectors: some engines leave short ones as they are, and rank them wrong.

    InvalidChangeError for what is not finite, and for zeros, which have no direction.
    """
    if array.size <= _BLOCK:
        return _directed(distance, array, 0)
    import numpy as np  # noqa: PLC0415 - only those who embed need it

    result = np.empty_like(array)
    rows = max(1, _BLOCK // array.shape[1])
    for start in range(0, len(array), rows):
        result[start : start + rows] = _directed(distance, array[start : start + rows], start)
    return result


def directed_one(distance: Distance, vector: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """As `directed`, of one vector: in few steps, each of which takes 10 µs once a search has used the core's cache."""
    import numpy as np  # noqa: PLC0415 - only those who embed need it

    square = float(np.vdot(vector, vector))  # which warns of nothing
    if not _LEAST < square < _MOST:
        # Too little or too much for float32, or something is wrong, of which this tells.
        [vector] = _directed(distance, vector.reshape(1, -1), 0)
    elif distance == Distance.COSINE:
        vector = vector / math.sqrt(square)
    return vector


def _directed(distance: Distance, array: "NDArray[np.float32]", first: int) -> "NDArray[np.float32]":
    """Of some rows, the number of the first of which is given."""
    import numpy as np  # noqa: PLC0415 - only those who embed need it

    wide = array.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)  # a tenth of what `linalg.norm` takes for one vector
    if not np.isfinite(squares).all():
        raise InvalidChangeError("a vector has a number that is not finite")
    if distance != Distance.COSINE:
        return array
    if not squares.all():
        raise InvalidChangeError(
            f"vector {first + int(np.argmin(squares > 0))} is all zeros, which has no direction for cosine to compare; "
            "leave it out, or use the distance l2"
        )
    units: NDArray[np.float32] = (wide / np.sqrt(squares)[:, np.newaxis]).astype(np.float32)
    return units


def diverse(
    distance: Distance, query: "NDArray[np.float32]", vectors: "NDArray[np.float32]", k: int, relevance: float
) -> list[int]:
    """The positions of k rows by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), the chosen first
    first: each time the row with the most `relevance · nearness - (1 - relevance) · likeness to what is chosen`.

    Nearness and likeness are the similarities in [0, 1] that answers have. O(k · n · d).
    """
    import numpy as np  # noqa: PLC0415

    near = _similarities(distance, vectors, query)
    likest = np.zeros(len(vectors))
    left = np.ones(len(vectors), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(k, len(vectors))):
        worth = np.where(left, relevance * near - (1 - relevance) * likest, -np.inf)
        best = int(np.argmax(worth))
        chosen.append(best)
        left[best] = False
        likest = np.maximum(likest, _similarities(distance, vectors, vectors[best]))
    return chosen


def _similarities(
    distance: Distance, vectors: "NDArray[np.float32]", to: "NDArray[np.float32]"
) -> "NDArray[np.float64]":
    import numpy as np  # noqa: PLC0415

    wide, other = vectors.astype(np.float64), to.astype(np.float64)
    result: NDArray[np.float64]
    if distance == Distance.L2:
        result = 1 / (1 + np.linalg.norm(wide - other, axis=1))
        return result
    products = wide @ other
    if distance == Distance.COSINE:
        lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(other)
        result = (1 + products / np.where(lengths > 0, lengths, 1)) / 2
        return result
    with np.errstate(over="ignore"):
        result = 1 / (1 + np.exp(-products))
    return result
