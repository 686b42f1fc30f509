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
from .question import Question, question_beside

K: Final = 10
SAMPLE: Final = 16
WIDTHS: Final = (K, 200, 400, 800, 1_600, 3_200, 6_400)
"""The index looks at 100 rows at least."""
WIDEST: Final = 10_000
_HARDER: Final = 2
"""How much more than what is made of rows a question may miss (`question.py`)."""


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
    """Ask questions made of rows, ever wider, until a search four times as wide finds little else.

    It takes some milliseconds for each of some tens of searches.
    """
    if rows <= WIDTHS[1]:
        return MeasuredIndex(rows, WIDTHS[1])
    questions = await _questions(read, rows)
    widest = min(rows, WIDEST)
    widths = [*(width for width in WIDTHS if width < widest), widest]
    found: dict[int, list[set[str]]] = {}
    for place, width in enumerate(widths):
        wider = widths[min(place + 2, len(widths) - 1)]
        for each in (width, wider):
            if each not in found:
                found[each] = [await _neighbours(read, question, each) for question in questions]
        missed = sum(len(more - less) for less, more in zip(found[width], found[wider], strict=True))
        if missed * _HARDER <= (1 - recall) * sum(map(len, found[wider])):
            return MeasuredIndex(rows, width)
    return MeasuredIndex(rows, widest)


async def _questions(read: Read, rows: int) -> list[Question]:
    ids = await read(lambda each: each.ids(where=True), [])
    chosen = random.Random(rows).sample(ids, min(SAMPLE, len(ids)))  # noqa: S311 - a sample
    questions = []
    for row in await read(lambda each: each.retrieve(chosen, vectors=True), []):
        near = await read(lambda each, v=row.vector: each.nearest(v, K, K, where=True, vectors=True), [])  # type: ignore[misc]
        questions.append(question_beside((row.id, row.vector), [(e.id, e.vector) for e in near if e.id != row.id]))
    return questions


async def _neighbours(read: Read, question: Question, width: int) -> set[str]:
    asked = width + len(question.rows)  # more than there are is no error
    ids, _ = await read(lambda each: each.query(question.vector, asked, where=True), ([], []))
    return question.neighbours(ids, K)
