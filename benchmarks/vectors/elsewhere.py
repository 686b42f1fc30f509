"""A side in a process of its own, for what cannot be installed beside the others.

The two speak in lines of JSON. Each makes the same data for itself, and the clock is on the other side.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .data import Corpus, corpus
from .side import Side
from .timing import Here, Taken, Timed

_LINE = 2**26


class Elsewhere(Timed):
    """The side that `python -m <module> <arguments>` serves, with the Python of another environment."""

    def __init__(self, name: str, environment: Path, module: str, *arguments: str) -> None:
        if not environment.exists():
            raise SystemExit(f"{name} has an environment of its own, which `make bench-vectors` makes")
        self.name = name
        self._command = (str(environment / "bin" / "python"), "-m", module, *arguments)

    async def open(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE
        )
        await self._ask("open")

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def load(self, corpus: Corpus, rows: int) -> Taken:
        number, dimension = corpus.vectors.shape
        await self._ask("give", kind=corpus.kind, number=number, dimension=dimension, queries=len(corpus.queries))
        return await self._ask("load", rows=rows)

    async def upsert(self, corpus: Corpus, rows: int, *, ticking: bool = False) -> Taken:
        del corpus  # the one of the load
        return await self._ask("upsert", rows=rows, ticking=ticking)

    async def search(self, corpus: Corpus, bucket: int | None = None, *, ticking: bool = False) -> Taken:
        return await self._ask("search", queries=len(corpus.queries), bucket=bucket, ticking=ticking)

    async def clear(self) -> None:
        await self._ask("clear")

    async def _ask(self, what: str, **given: Any) -> Taken:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([what, given]).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: its process ended at {what!r}; what it said stands above")
        return Taken(**json.loads(line))


async def serve(side: Side) -> None:
    """Do what the other process asks for until it asks no more."""
    timed = Here(side)
    given: Corpus | None = None
    say, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, options = json.loads(line)
        taken = Taken()
        match what:
            case "open":
                await timed.open()
            case "give":
                given = corpus(**options)
            case "clear":
                await timed.clear()
            case "search":
                assert given is not None
                taken = await timed.search(given.questions(options.pop("queries")), **options)
            case _:
                assert given is not None
                taken = await {"load": timed.load, "upsert": timed.upsert}[what](given, **options)
        print(json.dumps(asdict(taken)), file=say, flush=True)
    await timed.close()
