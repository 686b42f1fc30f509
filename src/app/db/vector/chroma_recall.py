"""How wide a search has to be: measured on rows of the collection, since Chroma's index does not say what it misses.

Chroma takes no width with a query, and a changed `ef_search` works only after the collection was opened again. But an
index looks at no fewer rows than it is asked for, so more are asked for than are wanted.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .chroma_collection import ChromaCollection
from .chroma_steps import Steps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K: Final = 10
SAMPLE: Final = 16
WIDTHS: Final = (K, 200, 400, 800, 1_600, 3_200, 6_400)
"""The index looks at 100 rows at least."""
WIDEST: Final = 10_000
"""What this finds of the nearest counts as all of them."""


@dataclass(frozen=True, slots=True)
class MeasuredIndex:
    rows: int
    wide: int
    """What K rows need."""

    def width(self, recall: float, k: int) -> int:
        """`recall` is the one that was measured for."""
        del recall
        return max(k, self.wide if k <= K or self.wide == K else self.wide + 2 * k)


Read = Callable[[Callable[[ChromaCollection], Steps[Any]], Any], Awaitable[Any]]


async def measure(read: Read, rows: int, recall: float) -> MeasuredIndex:
    """Search for rows that are there, ever wider, until the share of their neighbours that is found is large enough.

    It takes some milliseconds for each of some tens of searches.
    """
    if rows <= WIDTHS[1]:
        return MeasuredIndex(rows, WIDTHS[1])
    ids = await read(lambda each: each.ids(where=True), [])
    chosen = random.Random(rows).sample(ids, min(SAMPLE, len(ids)))  # noqa: S311 - a sample
    sample = [each.vector for each in await read(lambda each: each.retrieve(chosen, vectors=True), [])]
    if not sample:
        return MeasuredIndex(rows, WIDTHS[1])
    widest = min(rows, WIDEST)
    truth = [await _nearest(read, vector, widest) for vector in sample]
    for width in WIDTHS:
        if width >= widest:
            break
        found = [await _nearest(read, vector, width) for vector in sample]
        share = sum(len(one & other) for one, other in zip(truth, found, strict=True)) / sum(map(len, truth))
        if share >= recall:
            return MeasuredIndex(rows, width)
    return MeasuredIndex(rows, widest)


async def _nearest(read: Read, vector: "NDArray[np.float32]", width: int) -> set[str]:
    ids, _ = await read(lambda each: each.query(vector, width, where=True), ([], []))
    return set(ids[:K])
