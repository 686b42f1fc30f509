"""Both engines behind one face, and a look at the processes that belong to a directory."""

import importlib
import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from app.core.errors import MissingDependencyError, UnsupportedOperationError

USER = """
import asyncio, sys, time
from pathlib import Path
from app.connections.embedded import {module}

async def main():
    lease = await {module}.acquire(Path(sys.argv[1]))
    print(lease.url, flush=True)
    write = connect(lease.url)
    for number in range(int(sys.argv[2]), int(sys.argv[2]) + 1_000_000):
        write(number)
        print(number, flush=True)
        time.sleep(0.001)

{connect}
asyncio.run(main())
"""

REDIS = """
def connect(url):
    import redis
    client = redis.Redis.from_url(url)
    return lambda number: client.sadd("numbers", number)
"""

POSTGRES = """
def connect(url):
    import psycopg
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("SELECT pg_advisory_lock(1)")  # two CREATE at once may collide
    connection.execute("CREATE TABLE IF NOT EXISTS numbers (x bigint)")
    connection.execute("SELECT pg_advisory_unlock(1)")
    return lambda number: connection.execute("INSERT INTO numbers VALUES (%s)", (number,))
"""


def redis_numbers(url: str) -> set[int]:
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(url) as client:
        return {int(each) for each in cast("Iterable[bytes]", client.smembers("numbers"))}


def postgres_numbers(url: str) -> set[int]:
    import psycopg  # noqa: PLC0415

    with psycopg.connect(url) as connection:
        return {each for (each,) in connection.execute("SELECT x FROM numbers")}


@dataclass(frozen=True)
class Engine:
    name: str
    module: ModuleType
    user: str
    """A program that writes numbers until it is killed, and prints each that was acknowledged."""
    numbers: Callable[[str], set[int]]

    async def acquire(self, path: Path) -> Any:
        return await self.module.acquire(path)

    def answers(self, url: str) -> bool:
        socket = {"redis": "redis.sock", "postgres": ".s.PGSQL.5432"}[self.name]
        return bool(self.module._answers(sockets_of(url) / socket))


def sockets_of(url: str) -> Path:
    from urllib.parse import parse_qs, unquote, urlsplit  # noqa: PLC0415

    parts = urlsplit(url)
    return Path(parse_qs(parts.query)["host"][0]) if parts.query else Path(unquote(parts.path)).parent


def make_engine(name: str) -> Engine:
    """The engine; skip the test, visibly, where it cannot run."""
    module = importlib.import_module(f"app.connections.embedded.{name}")
    try:
        module.binary() if name == "redis" else module.programs()
    except (MissingDependencyError, UnsupportedOperationError) as error:
        pytest.skip(str(error))
    driver, connect, numbers = {
        "redis": ("redis", REDIS, redis_numbers),
        "postgres": ("psycopg", POSTGRES, postgres_numbers),
    }[name]
    if importlib.util.find_spec(driver) is None:
        pytest.skip(f"the package {driver!r} is not installed")
    return Engine(name, module, USER.format(module=name, connect=connect), numbers)


def processes(path: Path, file: str = "server.lock") -> list[int]:
    """Who has a file of the directory open, this process excepted: supervisor, server and its children."""
    found = set()
    wanted = str((path / "run" / file).resolve())
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == wanted:  # noqa: PTH115 - it may be a text that is no path
                found.add(int(descriptor.parts[2]))
        except OSError:
            continue
    return sorted(found - {os.getpid()})


def supervisor_of(path: Path) -> int:
    [pid] = processes(path, "supervisor.lock")
    return pid


def kill_supervisor(path: Path) -> None:
    """Kill it and wait until it is dead; for a moment it still holds its lock, and its server answers."""
    pid = supervisor_of(path)
    os.kill(pid, signal.SIGKILL)
    while pid in processes(path, "supervisor.lock"):
        time.sleep(0.001)


def server_of(path: Path) -> int:
    """The server itself: the child of the supervisor."""
    parent = supervisor_of(path)
    [pid] = [each for each in processes(path) if parent_of(each) == parent]
    return pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(path: Path, seconds: float = 8) -> bool:
    deadline = time.monotonic() + seconds
    while processes(path) or processes(path, "supervisor.lock"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
