"""Does what each line of its input asks, in a process that a signal ends before one of its steps: `stepped.py` asks.

Each is forked from this one, since loading all that they need takes longer than they do.
"""

import asyncio
import functools
import gc
import json
import mmap
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import psycopg

from app.cli import commands, main, vectors
from app.db.vector import (
    chroma_catalog,
    chroma_collection,
    chroma_engine,
    pgvector_engine,
    pgvector_session,
    pgvector_write,
    qdrant_collection,
    qdrant_embedded,
    reembed,
)
from app.db.vector.copy import copy

from . import stepped

_LOADED = commands  # by then, and not in each process
SEEN = mmap.mmap(-1, 16)
"""How many steps a process has begun, and when it was signalled."""


class Steps:
    """Counts what changes the store from now on, and sends this process a signal before one of them."""

    def __init__(self, places: list[str], at: int, number: int) -> None:
        self.counting = False
        self._places = tuple(place.removeprefix("chroma:") for place in places)
        self._at = at
        self._signal = number
        self._begun = 0

    def watch(self) -> None:
        """Have the stores take small steps, and tell of them."""
        for module in (chroma_collection, chroma_engine, pgvector_engine, qdrant_collection, qdrant_embedded):
            vars(module)["PAGE"] = 2
        for module in (chroma_collection, chroma_engine):
            vars(module)["BATCH"] = 2
        vars(reembed)["_BLOCK"] = 2
        for of, names in (
            (qdrant_collection.QdrantCollection, ("upsert", "delete")),
            (pgvector_engine, ("execute", "fetch")),
            (pgvector_session, ("execute", "fetch")),
            (pgvector_write, ("execute", "fetch")),
            (chroma_catalog, ("write",)),
            (chroma_collection, ("write",)),
            (psycopg.AsyncConnection, ("execute",)),
        ):
            for name in vars(of).keys() & set(names):
                setattr(of, name, self._counted(getattr(of, name)))
        sys.addaudithook(self._audit)

    def _step(self) -> None:
        if self.counting:
            self._begun += 1
            SEEN[:8] = struct.pack("q", self._begun)
            if self._begun == self._at:
                SEEN[8:] = struct.pack("d", time.monotonic())
                os.kill(os.getpid(), self._signal)

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*given: Any, **named: Any) -> Any:
            self._step()
            return call(*given, **named)

        return counting

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[1], str) and given[1] != "r"
        if (writes or event in ("os.rename", "os.remove", "os.rmdir")) and str(given[0]).startswith(self._places):
            self._step()


async def work(action: str, places: list[str], steps: Steps) -> None:
    async with stepped.opened(places[0]) as store:
        await store.engine.contract()
        steps.counting = True
        if action == "reembed":
            await reembed.reembed(store, stepped.newer(), settles=0)
        else:
            async with stepped.opened(places[1]) as target:
                await copy(store, target)


def child(asked: dict[str, Any]) -> None:
    steps = Steps(asked["places"], asked["at"], asked["signal"])
    steps.watch()
    if "action" in asked:
        asyncio.run(work(asked["action"], asked["places"], steps))
        os._exit(0)
    vars(vectors)["reembed"] = functools.partial(reembed.reembed, settles=0)
    sys.argv = ["manystore", *asked["arguments"]]
    steps.counting = True
    main()


def run(asked: dict[str, Any]) -> tuple[int, int, float, str]:
    SEEN[:] = bytes(16)
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        pid = os.fork()
        if not pid:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            child(asked)
        _, status = os.waitpid(pid, 0)
        begun, signalled = struct.unpack("qd", SEEN[:])
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), begun, time.monotonic() - signalled, errors.read().decode()


if __name__ == "__main__":
    stepped.register()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
