"""Vectors: our stores against the engines by hand and against LangChain's own stores. `--help` lists the options."""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from app.connections.embedded import postgres as embedded_postgres
from app.core.constants import VectorDBType

from . import langchain
from .data import Corpus, corpus
from .ours import Ours
from .raw_pgvector import RawPgvector
from .raw_qdrant import RawQdrantEdge
from .side import Side

BUCKET = 7
UPSERTED = 2_000
Engine = Callable[[Path], AbstractAsyncContextManager[list[Side]]]


@asynccontextmanager
async def pgvector(directory: Path) -> AsyncIterator[list[Side]]:
    lease = await embedded_postgres.acquire(directory / "postgres")
    try:
        connection = {"type": "postgres", "url": lease.url, "timeout": 600}
        yield [Ours(VectorDBType.PGVECTOR, connection, directory), RawPgvector(lease.url)]
    finally:
        await lease.release()


@asynccontextmanager
async def qdrant(directory: Path) -> AsyncIterator[list[Side]]:
    yield [
        Ours(VectorDBType.QDRANT, {"type": "qdrant", "url": "embedded"}, directory),
        RawQdrantEdge(directory),
        langchain.qdrant(directory),
    ]


ENGINES: dict[str, Engine] = {"pgvector": pgvector, "qdrant": qdrant}


async def measure(sides: Sequence[Side], given: Corpus, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by operation and side; recall beside the searches."""
    times: dict[str, dict[str, list[float]]] = {}
    truth, of_bucket = given.answers(), given.answers(BUCKET)

    async def timed(name: str, side: Side, work: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = await work()  # type: ignore[misc]
        times.setdefault(name, {}).setdefault(side.name, []).append(time.perf_counter() - start)
        return result

    for side in sides:
        await timed("load", side, lambda: side.load(given))  # noqa: B023 - awaited at once
        width = _width(side)
        for other in sides:
            if width and isinstance(other, RawPgvector):
                other.width = width
    for number in range(rounds):
        order = [*sides[number % len(sides) :], *sides[: number % len(sides)]]
        for side in order:
            await timed(f"upsert of {UPSERTED:,}", side, lambda: side.upsert(given, range(UPSERTED)))  # noqa: B023
        for label, answers, bucket in (("search", truth, None), ("search, 1 % filter", of_bucket, BUCKET)):
            for side in order:
                await side.search(given.queries[0], bucket)
                start = time.perf_counter()
                found = [await side.search(query, bucket) for query in given.queries]
                times.setdefault(label, {}).setdefault(side.name, []).append(
                    (time.perf_counter() - start) / len(given.queries)
                )
                right = statistics.mean(len({*a} & b) / 10 for a, b in zip(found, answers, strict=True))
                times.setdefault(f"{label}: recall", {}).setdefault(side.name, []).append(right)
                rows = statistics.mean(map(len, found))
                times.setdefault(f"{label}: rows of 10", {}).setdefault(side.name, []).append(rows)
    return times


def _width(side: Side) -> int | None:
    """How wide ours searches, so that what is by hand searches as wide."""
    engine = getattr(getattr(side, "_store", None), "engine", None)
    index = getattr(engine, "_index", None)
    return None if index is None else index.width(0.95, 10)


async def run(engine: str, kind: str, options: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        async with ENGINES[engine](Path(directory)) as sides:
            for side in sides:
                await side.open()
            try:
                given = corpus(kind, options.number, options.dimension)
                return table(
                    f"{engine}, {kind}", [side.name for side in sides], await measure(sides, given, options.rounds)
                )
            finally:
                for side in sides:
                    await side.close()


def table(title: str, sides: Sequence[str], times: dict[str, dict[str, list[float]]]) -> str:
    lines = [f"| {title} | {' | '.join(sides)} | raw / manystore |", f"|---|{'--:|' * len(sides)}--:|"]
    for name, by_side in times.items():
        middle = {side: statistics.median(values) for side, values in by_side.items()}
        if name.endswith(("recall", "of 10")):
            cells = [f"{middle[side]:.3f}" if side in middle else "" for side in sides]
            lines.append(f"| {name} | {' | '.join(cells)} | |")
        else:
            cells = [_seconds(middle.get(side)) for side in sides]
            speed = f"{middle['raw'] / middle['manystore']:.2f}" if "raw" in middle else ""
            lines.append(f"| {name} | {' | '.join(cells)} | {speed} |")
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f} s" if value > 1 else f"{value * 1000:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vectors", description=__doc__)
    parser.add_argument("engines", nargs="*", choices=[*ENGINES, []], help="by default all")
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}, Python {sys.version.split()[0]}")
    for engine in options.engines or ENGINES:
        for kind in ("clustered", "hard"):
            print(asyncio.run(run(engine, kind, options)), "\n")


if __name__ == "__main__":
    main()
