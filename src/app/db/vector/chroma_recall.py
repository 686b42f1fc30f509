"""How wide a search has to be: measured on rows of the collection, since Chroma's index does not say what it misses.

Chroma takes no width with a query, and a changed `ef_search` works only after the collection was opened again. But an
index looks at no fewer rows than it is asked for, so more are asked for than are wanted.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from .chroma_collection import ChromaCollection
from .chroma_steps import Steps
from .engine import Found

K: Final = 10
SAMPLE: Final = 16
WIDTHS: Final = (K, 200, 400, 800, 1_600, 3_200, 6_400)
"""The index looks at 100 rows at least."""
WIDEST: Final = 10_000
_HARDER: Final = 2.5
"""How much more than what lies between rows, which the graph has paths to, a question may miss: with random vectors of
256 and 384 dimensions it was 1.3 to 3.5 times as much.
"""


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
    """Search for what lies between two rows, ever wider, until a search four times as wide finds little else.

    It takes some milliseconds for each of some tens of searches.
    """
    if rows <= WIDTHS[1]:
        return MeasuredIndex(rows, WIDTHS[1])
    ids = await read(lambda each: each.ids(where=True), [])
    chosen = random.Random(rows).sample(ids, min(2 * SAMPLE, len(ids)))  # noqa: S311 - a sample
    drawn = await read(lambda each: each.retrieve(chosen, vectors=True), [])
    sample = [_Question(*pair) for pair in zip(drawn[::2], drawn[1::2], strict=False)]
    widest = min(rows, WIDEST)
    widths = [*(width for width in WIDTHS if width < widest), widest]
    found: dict[int, list[set[str]]] = {}
    for place, width in enumerate(widths):
        wider = widths[min(place + 2, len(widths) - 1)]
        for each in (width, wider):
            if each not in found:
                found[each] = [await question.neighbours(read, min(each + 2, rows)) for question in sample]
        missed = sum(len(more - less) for less, more in zip(found[width], found[wider], strict=True))
        if missed * _HARDER <= (1 - recall) * sum(map(len, found[wider])):
            return MeasuredIndex(rows, width)
    return MeasuredIndex(rows, widest)


class _Question:
    """What lies between two rows, which do not count as its neighbours."""

    def __init__(self, one: Found, other: Found) -> None:
        self._own = {one.id, other.id}
        import numpy as np  # noqa: PLC0415 - loaded by what made the vectors

        assert one.vector is not None and other.vector is not None  # noqa: S101, PT018 - they were asked for
        self._vector = (one.vector + other.vector) * np.float32(0.5)

    async def neighbours(self, read: Read, asked: int) -> set[str]:
        ids, _ = await read(lambda each: each.query(self._vector, asked, where=True), ([], []))
        return set([each for each in ids if each not in self._own][:K])
