"""Migrates in processes of its own, each forked when everything is imported, and ended where it is asked to be.

`python program.py STORE` reads lines `{"config": …, "command": …, "statement": n}`. With n, the process kills itself
when its nth statement has been carried out. It prints `{"killed": …, "statements": …, "error": …}` for each.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from app.connections._http_pool import PooledTransport
from app.db import DataLayer
from app.db.migrations.runner import StepMigrator
from app.db.migrations.store import MigrationStoreRegistry

CALLS = frozenset(
    (
        *("fsync", "rename", "replace", "mkdir", "EdgeShard.create", "EdgeShard.update", "EdgeShard.flush"),
        *(f"Bindings.{name}" for name in ("create_collection", "delete_collection", "upsert", "update", "delete")),
    )
)
"""What changes files or an engine in this process."""

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

        PooledTransport.handle_async_request = sent  # type: ignore[method-assign]

    def _returned(self, _: Any, event: str, function: Any) -> None:
        if event == "c_return" and getattr(function, "__qualname__", "") in CALLS:
            self.done()


async def migrate(config: dict[str, Any], store: str, command: str) -> None:
    async with DataLayer.from_config(config) as data:
        migrations = MigrationStoreRegistry.get(store)(data.connection(store), {})
        migrator = StepMigrator(store, Path(config["migrations"]["path"]) / store, migrations, wait=60)
        await getattr(migrator, command)()


def run(asked: dict[str, Any], store: str, report: int) -> None:
    statements = Statements(asked.get("statement", 0))
    statements.watch()
    error = ""
    try:
        asyncio.run(migrate(asked["config"], store, asked["command"]))
    except Exception as raised:  # noqa: BLE001 - told to the test
        error = f"{type(raised).__name__}: {raised}"
    os.write(report, json.dumps({"statements": statements.count, "error": error}).encode())


def main(store: str) -> None:
    MigrationStoreRegistry.get(store)
    for module in ("qdrant_client", "chromadb", "app.connections._chroma_http", "app.db.vector.qdrant_collection"):
        with contextlib.suppress(ImportError):
            __import__(module)
    for line in sys.stdin:
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            try:
                run(json.loads(line), store, writing)
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as report:  # noqa: PTH123 - a descriptor
            told = report.read()
        _, status = os.waitpid(process, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"killed": killed, "statements": 0, "error": "", **json.loads(told or "{}")}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
