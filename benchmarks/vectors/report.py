"""The tables, in Markdown, and the targets."""

import statistics
from collections.abc import Sequence

from .measure import FILTERED, IDLE, LOAD, SEARCH, UPSERT, Results, Seen

SPEEDS = ((LOAD, 0.8), (UPSERT, 0.8), (SEARCH, 0.85))
STALLED = (LOAD, UPSERT, SEARCH)
TURN = 0.005
"""The interpreter gives every thread so many seconds before it looks for another, so a stall may be so much longer."""
RECALL = 0.95


def ratio(results: Results, operation: str, to: int = 1) -> float | None:
    """The median over the rounds of another side's time to ours in the same round, and of the medians' where it did not
    take part in all: above 1 ours is faster.
    """
    ours, theirs = (results.seen.get(operation, {}).get(results.sides[side]) for side in (0, to))
    if ours is None or theirs is None or not theirs.seconds:
        return None
    if len(ours.seconds) != len(theirs.seconds):
        return statistics.median(theirs.seconds) / statistics.median(ours.seconds)
    return statistics.median(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))


def table(results: Results) -> str:
    ours, raw, *peers = results.sides
    lines = [
        f"| {results.engine}, {results.kind} | {ours} | {raw} | {' | '.join((*peers, f'{raw} / {ours}'))} |",
        f"|---|--:|--:|{'--:|' * len(peers)}--:|",
    ]
    for operation, by_side in results.seen.items():
        if operation == IDLE:
            continue
        cells = [_cell(by_side.get(side)) for side in results.sides]
        for place in range(2, len(cells)):
            slower = ratio(results, operation, place)
            cells[place] += "" if slower is None else f" ({slower:.3g} ×)"
        reached = ratio(results, operation)
        lines.append(f"| {operation} | {' | '.join(cells)} | {'' if reached is None else f'{reached:.2f}'} |")
    return "\n".join(lines)


def stalls(each: Sequence[Results]) -> str:
    """The largest gaps of a task that wants to run every millisecond."""
    lines = []
    for results in each:
        ours, raw, *peers = results.sides
        lines += [
            f"| {results.engine} | {ours} | {raw} | {' | '.join(peers)} |",
            f"|---|--:|--:|{'--:|' * len(peers)}",
        ]
        for operation in (IDLE, *STALLED):
            found = [_stall(results, operation, side) for side in results.sides]
            cells = ["" if stall is None else f"{stall * 1000:.1f} ms" for stall in found]
            lines.append(f"| {operation} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def targets(clustered: Sequence[Results], hard: Sequence[Results]) -> str:
    """Whether each holds on each engine."""
    lines = [
        f"| target | {' | '.join(results.engine for results in clustered)} |",
        f"|---|{'--:|' * len(clustered)}",
    ]
    for operation, target in SPEEDS:
        reached = [ratio(results, operation) for results in clustered]
        cells = [_verdict(f"{each:.2f}", holds=each >= target) if each else "" for each in reached]
        lines.append(f"| {operation}: at least {target:g} of raw's speed | {' | '.join(cells)} |")
    cells = []
    for results in clustered:
        seen = results.at(FILTERED, results.sides[0])
        rows, recall = min(seen.rows), statistics.mean(seen.recalls)
        cells.append(_verdict(f"{rows:g} rows, recall {recall:.3f}", holds=rows == 10 and recall >= RECALL))
    lines.append(f"| 1 % filter: 10 rows of 10, recall at least {RECALL:g} | {' | '.join(cells)} |")
    cells = [_steps(results) for results in hard]
    lines.append(f"| hard data: the setting of recall moves it | {' | '.join(cells)} |")
    for operation in STALLED:
        cells = [_stall_verdict(results, operation) for results in clustered]
        lines.append(f"| {operation}: no longer stall than raw's and {TURN * 1000:g} ms | {' | '.join(cells)} |")
    return "\n".join(lines)


def failures(each: Sequence[Results]) -> list[str]:
    """Where another layer gives fewer rows, or others, than it was asked for."""
    found = []
    for results in each:
        for operation, by_side in results.seen.items():
            for side in results.sides[2:]:
                seen = by_side.get(side)
                if seen is None or not seen.rows:
                    continue
                rows, recall = statistics.mean(seen.rows), statistics.mean(seen.recalls)
                if rows < 10 or recall < RECALL:
                    what = f"{side}, {results.kind} data, {operation}"
                    found.append(f"{what}: {rows:.1f} rows of 10, without an error; recall {recall:.2f}")
    return found


def _steps(results: Results) -> str:
    reached = {
        operation.rpartition(" ")[2]: statistics.mean(by_side[results.sides[0]].recalls)
        for operation, by_side in results.seen.items()
        if results.sides[0] in by_side and by_side[results.sides[0]].recalls
    }
    told = ", ".join(f"{asked}: {recall:.3f}" for asked, recall in reached.items())
    if min(reached.values()) == 1:
        return f"{told} (compares with every row)"
    steps = list(reached.values())
    holds = steps == sorted(steps) and all(recall > float(asked) - 0.03 for asked, recall in reached.items())
    return _verdict(told, holds=holds)


def _stall(results: Results, operation: str, side: str) -> float | None:
    seen = results.seen.get(operation, {}).get(side)
    return statistics.median(seen.stalls) if seen and seen.stalls else None


def _stall_verdict(results: Results, operation: str) -> str:
    ours, raw = (_stall(results, operation, side) for side in results.sides[:2])
    if ours is None or raw is None:
        return ""
    return _verdict(f"{ours * 1000:.1f} ms against {raw * 1000:.1f}", holds=ours <= raw + TURN)


def _verdict(text: str, *, holds: bool) -> str:
    return text if holds else f"**missed:** {text}"


def _cell(seen: Seen | None) -> str:
    if seen is None or not seen.seconds:
        return ""
    value = statistics.median(seen.seconds)
    text = f"{value:.2f} s" if value >= 0.2 else f"{value * 1000:.2f} ms"
    if seen.recalls:
        text += f" · {statistics.mean(seen.recalls):.3f}"
    if seen.rows and (rows := statistics.mean(seen.rows)) < 10:
        text += f" · {rows:.1f} rows"
    return text
