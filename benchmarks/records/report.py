"""The tables, in Markdown."""

import statistics
from collections.abc import Mapping, Sequence

from .measure import TASKS, Results
from .side import MANY, SINGLE

RAW = "raw"
SINGLE_TARGET = 1.15
MANY_TARGET = 1.10
# Our own other sides: the operations that count, and how many times raw they may take.
OTHERS: Mapping[str, tuple[Sequence[str], float]] = {
    "with mixins": (SINGLE, 1.30),
    "cache in Redis": (("get",), 1.20),
    "cache in process": (("get",), 0.20),
}


def ratio(results: Results, name: str, tasks: int, side: str, to: str = RAW) -> float | None:
    """The median over the rounds of one side's time to another's in the same round."""
    times = results.times.get((name, tasks), {})
    if side not in times or to not in times:
        return None
    return statistics.median(ours / theirs for ours, theirs in zip(times[side], times[to], strict=False))


def mean(results: Results, names: Sequence[str], tasks: int, side: str, to: str = RAW) -> float | None:
    """The geometric mean of the ratios, over the operations that both have."""
    found = [each for name in names if (each := ratio(results, name, tasks, side, to)) is not None]
    return statistics.geometric_mean(found) if found else None


def table(results: Results) -> str:
    others = [side for side in results.sides if side != RAW]
    lines = [
        f"| {results.store} | tasks | raw, µs | {' | '.join(others)} |",
        f"|---|--:|--:|{'--:|' * len(others)}",
    ]
    for name in (*SINGLE, *MANY):
        for tasks in TASKS:
            times = results.times.get((name, tasks), {})
            if RAW in times:
                raw = statistics.median(times[RAW])
                cells = [_cell(ratio(results, name, tasks, side)) for side in others]
                lines.append(f"| {name} | {tasks} | {raw:,.1f} | {' | '.join(cells)} |")
    for label, names in (("one record", SINGLE), ("page and bulk", MANY)):
        for tasks in TASKS:
            cells = [_cell(mean(results, names, tasks, side), "**") for side in others]
            lines.append(f"| **geometric mean, {label}** | {tasks} | | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(results: Results, ours: str = "manystore") -> list[str]:
    """What misses its target."""
    found = []
    for label, names, target in (("one record", SINGLE, SINGLE_TARGET), ("page and bulk", MANY, MANY_TARGET)):
        for tasks in TASKS:
            reached = mean(results, names, tasks, ours)
            if reached is not None and reached > target:
                found.append(
                    f"{results.store}, {label}, {_tasks(tasks)}: {reached:.2f} × raw, the target is {target:.2f}"
                )
            for peer in results.sides:
                if peer in (RAW, ours, *OTHERS):
                    continue
                against = mean(results, names, tasks, ours, peer)
                limit = 1.10 if peer == "pydantic-mongo" else 1.0
                if against is not None and against > limit:
                    found.append(
                        f"{results.store}, {label}, {_tasks(tasks)}: {against:.2f} × {peer}, the target is {limit:.2f}"
                    )
    for side, (names, target) in OTHERS.items():
        for tasks in TASKS:
            reached = mean(results, names, tasks, side)
            if reached is not None and reached > target:
                found.append(
                    f"{results.store}, {side}, {_tasks(tasks)}: {reached:.2f} × raw, the target is {target:.2f}"
                )
    return found


def _tasks(number: int) -> str:
    return f"{number} task" if number == 1 else f"{number} tasks"


def _cell(value: float | None, mark: str = "") -> str:
    return "" if value is None else f"{mark}{value:.2f}{mark}"
