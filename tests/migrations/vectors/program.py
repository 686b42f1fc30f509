"""Migrates in processes of its own, each forked when everything is imported, and ended where it is asked to be.

`python -m tests.migrations.vectors.program` reads lines `{"place": …, "commands": …, "statement": n, "processes": m}`.
With n, the process kills itself when its nth statement has been carried out. Of the m processes, all at once, it
prints a list of `{"killed": …, "statements": …, "error": …, "told": …}`, in which the last is what each of the
commands has told.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from app.connections import _chroma_http  # noqa: F401 - imported once for all processes
from app.connections._http_pool import PooledTransport

from .places import Place

CALLS = frozenset(
    (
        *("rename", "replace", "mkdir", "EdgeShard.create", "EdgeShard.update", "EdgeShard.flush"),
        *(f"Bindings.{name}" for name in ("create_collection", "delete_collection", "upsert", "update", "delete")),
    )
)
"""What changes the files or the engine of this process, as a kill leaves them."""

READS = ("/get", "/count", "/scroll")


class Statements:
    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def done(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """The functions of C and Rust that return on the engine's thread, and the requests that a server answers."""
        threading.setprofile(self._returned)
        send = PooledTransport.handle_async_request

        async def sent(transport: PooledTransport, request: Any) -> Any:
            response = await send(transport, request)
            path = request.url.path
            retrieves = request.method == "POST" and path.endswith("/points")
            if request.method != "GET" and not path.endswith(READS) and not retrieves:
                await response.aread()
                self.done()
            return response

        PooledTransport.handle_async_request = sent  # type: ignore[method-assign,assignment]

    def _returned(self, _: Any, event: str, function: Any) -> None:
        if event == "c_return" and getattr(function, "__qualname__", "") in CALLS:
            self.done()


async def migrate(place: Place, commands: list[str]) -> list[Any]:
    told: list[Any] = []
    async with place.layer() as data:
        migrator = place.migrator(data, wait=60)
        for command in commands:
            match command:
                case "state":
                    told.append(json.loads(json.dumps(await place.state(data), default=str)))
                case "status":
                    told.append([each.state for each in await migrator.status()])
                case _:
                    told.append((await getattr(migrator, command)()).applied)
    return told


def run(asked: dict[str, Any], report: int) -> None:
    statements = Statements(asked["statement"])
    statements.watch()
    told: list[Any] = []
    error = ""
    try:
        kind, section, path = asked["place"]
        told = asyncio.run(migrate(Place(kind, section, Path(path)), asked["commands"]))
    except Exception as raised:  # noqa: BLE001 - told to the test
        error = f"{type(raised).__name__}: {raised}"
    with open(report, "w", encoding="utf-8") as file:
        json.dump({"statements": statements.count, "error": error, "told": told}, file)


def start(asked: dict[str, Any]) -> tuple[int, int]:
    """A process that runs it, and where it reports."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            run(asked, writing)
        finally:
            os._exit(0)
    os.close(writing)
    return process, reading


def end(process: int, reading: int) -> dict[str, Any]:
    with open(reading, encoding="utf-8") as report:
        told = report.read()
    _, status = os.waitpid(process, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"killed": killed, "statements": 0, "error": "", **json.loads(told or "{}")}


def main() -> None:
    gc.freeze()  # so that no child copies all of it
    for line in sys.stdin:
        asked = json.loads(line)
        started = [start(asked) for _ in range(asked["processes"])]
        print(json.dumps([end(*each) for each in started]), flush=True)


if __name__ == "__main__":
    main()
