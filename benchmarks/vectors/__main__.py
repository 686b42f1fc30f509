"""Vectors: our stores against the engines by hand and against LangChain's own stores. `--help` lists the options."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..page import head, write
from .data import corpus
from .engines import ENGINES
from .measure import FEW, Results, measure, measure_hard
from .report import failures, stalls, table, targets

_PACKAGES = (
    *("numpy", "psycopg", "pgvector", "qdrant-edge-py", "qdrant-client", "chromadb"),
    *("langchain-core", "langchain-qdrant", "langchain-chroma"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vectors", description=__doc__)
    parser.add_argument("engines", nargs="*", choices=[*ENGINES, []], help="by default all")
    parser.add_argument("--number", type=int, default=20_000, help="of documents")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a page whose results are replaced by these")
    options = parser.parse_args()
    if options.number < FEW:
        parser.error(f"--number is {FEW} at least")
    return options


async def run(name: str, options: argparse.Namespace) -> tuple[Results, Results]:
    async def one(kind: str) -> Results:
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
            async with ENGINES[name](Path(directory)) as engine:
                sides = [*engine.both, *engine.peers]
                for side in sides:
                    await side.open()
                try:
                    given = corpus(kind, options.number, options.dimension)
                    return await (measure_hard if kind == "hard" else measure)(engine, given, options.rounds)
                finally:
                    for side in sides:
                        await side.close()

    start = time.monotonic()
    clustered, hard = await one("clustered"), await one("hard")
    print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return clustered, hard


def main() -> None:
    options = arguments()
    parts = [head("bench-vectors", _PACKAGES)]
    measured = [asyncio.run(run(name, options)) for name in options.engines or ENGINES]
    clustered, hard = [each for each, _ in measured], [each for _, each in measured]
    parts += ["### Targets", targets(clustered, hard)]
    parts += ["### Speed and recall", *(table(each) for pair in measured for each in pair)]
    parts += ["### The longest stall of the event loop", stalls(clustered)]
    parts += ["### What other layers leave out", _list(failures([*clustered, *hard]))]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.write:
        write(options.write, text)


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {each}" for each in lines) or "Nothing, this time."


if __name__ == "__main__":
    main()
