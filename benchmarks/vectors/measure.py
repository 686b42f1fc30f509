"""All sides of one engine, interleaved, round after round; each round another one begins."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from .data import Corpus, K
from .engines import Engine
from .timing import Taken, Timed, idle_stall

BUCKET = 7
UPSERTED = 2_000
FEW = 4_900
"""Rows that a collection is loaded with before PostgreSQL has an index on it."""
RECALLS = (0.8, 0.95, 0.99)
BLOCK = 10
"""Questions that one side is asked before the other has its turn: the clock of a machine may change within a second."""
PEERS_ASK = 20
"""Questions for other layers, of which some take a tenth of a second each."""

LOAD_FEW = f"load of {FEW:,}"
LOAD = "load of all"
UPSERT = f"upsert of {UPSERTED:,}"
SEARCH = "search"
FILTERED = "search, 1 % filter"
IDLE = "idle"


@dataclass
class Seen:
    """Of one side at one operation, in the order of the rounds."""

    seconds: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)


@dataclass
class Results:
    """By operation and side. Ours is the first side, raw the second."""

    engine: str
    kind: str
    sides: list[str]
    seen: dict[str, dict[str, Seen]] = field(default_factory=dict)

    def at(self, operation: str, side: str) -> Seen:
        return self.seen.setdefault(operation, {}).setdefault(side, Seen())

    def add(self, operation: str, side: str, taken: Taken, answers: Sequence[set[str]] = ()) -> None:
        seen = self.at(operation, side)
        seen.seconds.append(taken.seconds)
        if answers:
            pairs = list(zip(taken.found, answers, strict=True))
            seen.recalls.append(statistics.mean(len({*found} & right) / K for found, right in pairs))
            seen.rows.append(statistics.mean(len(found) for found, _ in pairs))


async def measure(engine: Engine, given: Corpus, rounds: int) -> Results:
    """The peers take part in the first round only: they take their time."""
    both = engine.both
    results = Results(engine.title, given.kind, [side.name for side in (*both, *engine.peers)])
    for number in range(rounds):
        for side in _turn(both, engine.peers, number):
            await _load(results, LOAD_FEW, side, given, FEW)
            await side.clear()
    for number in range(rounds):
        for side in _turn(both, engine.peers, number):
            if number:
                await side.clear()
            await _load(results, LOAD, side, given, len(given.vectors))
        for operation, bucket in ((SEARCH, None), (FILTERED, BUCKET)) * 2:  # in another index each round
            await _search(results, operation, engine, given, bucket)
        if not number:
            for operation, bucket in ((SEARCH, None), (FILTERED, BUCKET)):
                await _ask(results, operation, engine.peers, given.questions(PEERS_ASK), bucket)
    for number in range(rounds):
        for side in _turn(both, engine.peers, number):
            results.add(UPSERT, side.name, await side.upsert(given, UPSERTED))
    for number in range(min(rounds, 2)):
        results.at(IDLE, both[0].name).stalls.append(await idle_stall())
        for side in _turn(both, engine.peers, number):
            taken = await side.upsert(given, UPSERTED, ticking=True)
            results.at(UPSERT, side.name).stalls.append(taken.stall)
            peers = side.name not in {each.name for each in both}
            taken = await side.search(given.questions(PEERS_ASK) if peers else given, ticking=True)
            results.at(SEARCH, side.name).stalls.append(taken.stall)
    return results


async def measure_hard(engine: Engine, given: Corpus, rounds: int) -> Results:
    """The same search with one setting of recall after the other; the peers have none, and search as they do."""
    both = engine.both
    peers = () if engine.exact else engine.peers
    results = Results(engine.title, given.kind, [side.name for side in (*both, *engine.peers)])
    for side in (*both, *peers):
        await _load(results, LOAD, side, given, len(given.vectors))
    for _ in range(rounds):
        for recall in RECALLS[:1] if engine.exact else RECALLS:
            engine.ours.want(recall)
            await _search(results, f"search, recall {recall:g}", engine, given, None)
    await _ask(results, "search, as it comes", peers, given.questions(PEERS_ASK), None)
    return results


async def _load(results: Results, operation: str, side: Timed, given: Corpus, rows: int) -> None:
    taken = await side.load(given, rows)
    results.add(operation, side.name, taken)
    results.at(operation, side.name).stalls.append(taken.stall)


async def _search(results: Results, operation: str, engine: Engine, given: Corpus, bucket: int | None) -> None:
    await engine.ours.search(given.queries[0])  # finds the index, and so its width
    await engine.as_wide()
    for number, start in enumerate(range(0, len(given.queries), BLOCK)):
        part = given.questions(BLOCK, start)
        await _ask(results, operation, _turn(engine.both, (), number), part, bucket)


async def _ask(results: Results, operation: str, sides: Sequence[Timed], given: Corpus, bucket: int | None) -> None:
    for side in sides:
        results.add(operation, side.name, await side.search(given, bucket), given.answers(bucket))


def _turn(both: Sequence[Timed], peers: Sequence[Timed], number: int) -> list[Timed]:
    start = number % len(both)
    return [*both[start:], *both[:start], *(() if number else peers)]
