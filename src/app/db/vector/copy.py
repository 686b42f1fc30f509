"""A collection from one store to another, on whatever engines, with its vectors; and whether it arrived.

Rows that are there already, with the same content and of the same moment, are passed over, so that a copy that was
stopped goes on, and a second one brings what has changed since.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ...core.constants import Distance
from ...core.errors import ConfigurationError, EmbeddingMismatchError
from ..query import ALL
from .comparison import content_hash, row_from, surplus
from .contract import CollectionContract
from .engine import Found, VectorEngine
from .question import question_beside
from .similarity import directed_one
from .store import CollectionVectorStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CopyReport", "Progress", "Side", "copy"]

Progress = Callable[[str, int, int], None]
"""Called after each page with what is being done, how many rows are, and how many there are."""

_SAMPLE: Final = 40
_NEIGHBOURS: Final = 10
_MOST_PASSES: Final = 3
_LUCK: Final = 0.05
"""How far below what is asked of it the recall of a sample may be."""
_ROUNDING: Final = 2e-4
"""Within what share of it a measure counts as equal: engines sum float32s in different orders, or keep half of them."""


@dataclass(frozen=True, slots=True)
class Side:
    """What was read of one of the two. `digest` is of the content of all rows, in no order, and without their vectors;
    `recall` the share of the true neighbours, by comparing with every row of the source, that its own search finds.
    """

    rows: int
    digest: str
    recall: float


@dataclass(frozen=True, slots=True)
class CopyReport:
    """`written` and `removed` are rows of the target, in this run; `recall` is what it is configured for."""

    written: int
    removed: int
    recall: float
    source: Side
    target: Side

    @property
    def problems(self) -> list[str]:
        """What is not as it should be; nothing where the copy is verified."""
        found = []
        if self.source.rows != self.target.rows:
            found.append(f"the source has {self.source.rows} rows, and the target {self.target.rows}")
        if self.source.digest != self.target.digest:
            found.append("the contents of the two differ")
        if self.target.recall < min(self.recall - _LUCK, self.source.recall):
            found.append(
                f"searches find {self.target.recall:.0%} of the nearest rows in the target, "
                f"and {self.source.recall:.0%} in the source"
            )
        return found


async def copy(
    source: CollectionVectorStore,
    target: CollectionVectorStore,
    *,
    delete_others: bool = False,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy the source's collection into the target's, and compare the two. Nothing is embedded.

    What the target has beside it stays, and is a problem of the report, unless `delete_others` has it go. Raises
    EmbeddingMismatchError where the target's collection, or the target as it is configured, is made otherwise. Reads
    the source once to copy it and once more to compare, and again while it is being written to.
    """
    report = progress or (lambda *_: None)
    contract = await source.engine.contract()
    if contract is None:
        raise ConfigurationError(f"there is no collection {source.collection!r}: there is nothing to copy")
    if (source.connection, source.collection) == (target.connection, target.collection):
        raise ConfigurationError(f"{source.name!r} and {target.name!r} are the same collection")
    made = replace(contract, replaces=None, ready=None, moving_to=None, closed_by=None, run=None)

    async def as_it_is(_: int | None) -> CollectionContract:
        return made

    origin, copied = (each.engine_on(each.collection, as_it_is) for each in (source, target))
    await _check(made, target, await copied.contract())
    written = removed = 0
    copied.loading = True
    for _ in range(_MOST_PASSES):
        changed = await _bring(origin, copied, report)
        written += changed
        if not changed:
            break
    if delete_others:
        async for ids in surplus(copied, origin):
            removed += await copied.delete(ids)
    await copied.loaded()
    return CopyReport(written, removed, target.recall, *await _compared(origin, copied, made.distance, report))


async def _check(made: CollectionContract, target: CollectionVectorStore, there: CollectionContract | None) -> None:
    """Refuse a copy that the target's collection, or the target, could not use."""
    asked = await target._contract()  # noqa: SLF001 - what it would make
    for other, whose in (
        (there, f"the target's collection {target.collection!r} is"),
        (asked, f"the store {target.name!r} is configured to be"),
    ):
        for is_it, value, its in (
            ("embedded with", _embedding(made), other and _embedding(other)),
            ("of the dimension", made.dimension, other and other.dimension),
            ("measured by", made.distance, other and other.distance),
        ):
            if None not in (value, its) and value != its:
                raise EmbeddingMismatchError(
                    f"the collection to copy is {is_it} {value}, and {whose} {is_it} {its}: "
                    "name another target, or configure it as the source is"
                )


def _embedding(contract: CollectionContract) -> str | None:
    return None if contract.provider is None else contract.embedding


async def _bring(source: VectorEngine, target: VectorEngine, report: Progress) -> int:
    """Write what the target has not; return how many rows that is."""
    import numpy as np  # noqa: PLC0415 - only those who copy need it

    total, seen, written = await source.count(ALL), 0, 0
    report("copying", 0, total)
    async for page in source.pages(ALL, vectors=True):
        there = {each.id: each for each in await target.retrieve([each.id for each in page])}
        by_moment: dict[str, list[Found]] = defaultdict(list)
        for each in page:
            if each.id not in there or _version(each) != _version(there[each.id]):
                by_moment[each.embedded_at].append(each)
        for moment, rows in by_moment.items():
            vectors = np.stack([each.vector for each in rows if each.vector is not None])
            await target.upsert([row_from(each) for each in rows], vectors, moment)
            written += len(rows)
        seen += len(page)
        report("copying", seen, total)
    return written


def _version(found: Found) -> tuple[bytes, datetime]:
    return content_hash(found), datetime.fromisoformat(found.embedded_at)


async def _compared(
    source: VectorEngine, target: VectorEngine, distance: Distance, report: Progress
) -> tuple[Side, Side]:
    """Both sides, each read once from end to end, and asked for the neighbours of the same points."""
    questions = await _questions(source, distance)
    true = _Nearest(distance, questions)
    sides = []
    for engine, phase in ((source, "checking the source"), (target, "checking the target")):
        total, rows, digest = await engine.count(ALL), 0, 0
        report(phase, 0, total)
        async for page in engine.pages(ALL, vectors=engine is source):
            rows += len(page)
            digest = (digest + sum(int.from_bytes(content_hash(each)) for each in page)) % 2**256
            if engine is source:
                true.add(page)
            report(phase, rows, total)
        sides.append((rows, f"{digest:064x}"))
    recalls = [await true.recall(engine) for engine in (source, target)]
    (rows, digest_text), (target_rows, target_digest) = sides
    return Side(rows, digest_text, recalls[0]), Side(target_rows, target_digest, recalls[1])


async def _questions(source: VectorEngine, distance: Distance) -> "list[NDArray[np.float32]]":
    """Made of rows of the first pages, as those are that an index is measured with."""
    drawn: list[Found] = []
    async for page in source.pages(ALL, vectors=True):
        drawn += page[:: max(1, len(page) // _SAMPLE)]
        if len(drawn) >= _SAMPLE:
            break
    questions: list[NDArray[np.float32]] = []
    for row in drawn[:_SAMPLE]:
        assert row.vector is not None  # noqa: S101 - it was asked for
        near = await source.nearest(row.vector, _NEIGHBOURS, ALL, vectors=True)
        others = [(each.id, each.vector) for each in near if each.vector is not None and each.id != row.id]
        questions.append(question_beside((row.id, row.vector), others).vector)
    return [directed_one(distance, each) for each in questions if float(each @ each) > 0]


class _Nearest:
    """What the nearest of all rows to each of some points measure, kept while the rows pass by."""

    def __init__(self, distance: Distance, questions: "Sequence[NDArray[np.float32]]") -> None:
        self._distance = distance
        self._questions = questions
        self._best: NDArray[np.float64] | None = None

    def add(self, page: Sequence[Found]) -> None:
        import numpy as np  # noqa: PLC0415

        if not self._questions:
            return
        rows = np.stack([each.vector for each in page if each.vector is not None]).astype(np.float64)
        questions = np.stack(self._questions).astype(np.float64)
        near = questions @ rows.T
        if self._distance == Distance.L2:
            squares = (questions**2).sum(axis=1)[:, None] + (rows**2).sum(axis=1) - 2 * near
            near = -np.sqrt(np.maximum(squares, 0))
        together = near if self._best is None else np.concatenate([self._best, near], axis=1)
        self._best = -np.sort(-together, axis=1)[:, :_NEIGHBOURS]

    async def recall(self, engine: VectorEngine) -> float:
        """The share of rows found that are as near as the k nearest; rows that are equally near count alike."""
        if self._best is None:
            return 1.0
        right = 0
        for question, best in zip(self._questions, self._best, strict=True):
            found = await engine.nearest(question, len(best), ALL)
            measures = [-each.score if self._distance == Distance.L2 else each.score for each in found]
            least = best[-1] - _ROUNDING * max(abs(float(best[0])), 1.0)
            right += sum(bool(measure >= least) for measure in measures)
        return right / int(self._best.size)
