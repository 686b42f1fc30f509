"""Processes that migrate, forked from one that has imported everything; they can be told to kill themselves."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import UnixDomainSocketConnection

import app.connections.mongodb
import app.connections.redis  # noqa: F401
from app.connections import redis_client
from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import AppError
from app.db import DataLayer
from app.db.migrations.lock import LockLostError
from app.db.migrations.stores import mongodb, redis  # noqa: F401

from .place import Place

UNEXPECTED, REFUSED, LOCK_LOST = 1, 2, 3


class Forks:
    """`run` has so many processes do one thing at once, and gives how they ended, as `Popen.returncode`."""

    def __init__(self, directory: Path) -> None:
        self._errors = directory / "errors"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.migrations.processes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=Path(__file__).parents[2],
            )

    def run(self, place: Place, command: str, processes: int = 1, **job: Any) -> list[int]:
        """`kill_at`: after how many commands to the store each kills itself; `sent`: before the last reply (Redis)."""
        return self.wait(self.start(place, command, processes, **job))

    def start(self, place: Place, command: str, processes: int = 1, **job: Any) -> list[int]:
        """Their process ids, for `wait`."""
        where = {"store": place.store, "section": place.section, "path": str(place.path)}
        return self._send({**where, "command": command, "processes": processes, **job})

    def wait(self, started: list[int]) -> list[int]:
        codes = self._send({"wait": started})
        assert UNEXPECTED not in codes, self._errors.read_text("utf-8")
        return codes

    def _send(self, job: dict[str, Any]) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(job)}\n")
        self._process.stdin.flush()
        answer: list[int] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        self._process.communicate(timeout=20)


@contextmanager
def forks(directory: Path) -> Iterator[Forks]:
    there = Forks(directory)
    try:
        yield there
    finally:
        there.end()


class Mortal:
    """Counts what is sent to a store, and ends the process on time."""

    def __init__(self, kill_at: int | None, *, sent: bool) -> None:
        self.count = 0
        self._kill_at = kill_at
        self._sent = sent
        self._lock = threading.Lock()

    def install(self) -> None:
        from pymongo import monitoring  # noqa: PLC0415 - in the child

        mortal = self

        class Listener(monitoring.CommandListener):
            def started(self, event: monitoring.CommandStartedEvent) -> None:
                pass

            def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
                mortal.tick(event.command_name)

            def failed(self, event: monitoring.CommandFailedEvent) -> None:
                mortal.tick(event.command_name)

        MongoDBConnectionManager._listeners = lambda _: [Listener()]  # type: ignore[method-assign,assignment]
        execute = redis_client.RedisClient.execute_command

        async def executed(client: Any, *words: Any, **options: Any) -> Any:
            try:
                return await execute(client, *words, **options)
            finally:
                mortal.tick(words[0])

        redis_client.RedisClient.execute_command = executed  # type: ignore[method-assign,assignment]
        if self._sent:
            connection = UnixDomainSocketConnection
            send = connection.send_packed_command

            async def sending(own: Any, *words: Any, **options: Any) -> None:
                await send(own, *words, **options)
                mortal.tick_sent()

            connection.send_packed_command = sending  # type: ignore[method-assign,assignment]

    def tick(self, command: str) -> None:
        if command in ("PING", "ping", "hello", "endSessions", "buildInfo"):
            return
        with self._lock:
            self.count += 1
            if not self._sent and self.count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def tick_sent(self) -> None:
        if self._kill_at is not None and self.count == self._kill_at - 1:
            os.kill(os.getpid(), signal.SIGKILL)


async def migrate(job: dict[str, Any]) -> None:
    place = Place(job["store"], job["section"], Path(job["path"]))
    async with DataLayer.from_config(place.config) as data:
        migrator = place.migrator(data, **job.get("migrator", {}))
        await getattr(migrator, job["command"])(**job.get("options", {}))


def child(job: dict[str, Any]) -> int:
    mortal = Mortal(job.get("kill_at"), sent=job.get("sent", False))
    mortal.install()
    try:
        asyncio.run(migrate(job))
    except LockLostError:
        return LOCK_LOST
    except AppError:
        return REFUSED
    except BaseException:  # noqa: BLE001 - told by the code
        traceback.print_exc()
        return UNEXPECTED
    if "counted" in job:
        Path(job["counted"]).write_text(str(mortal.count), "utf-8")
    return 0


def forked(job: dict[str, Any]) -> int:
    number = os.fork()
    if number == 0:
        code = child(job)
        sys.stderr.flush()
        os._exit(code)
    return number


def main() -> None:
    gc.freeze()  # so that no child copies all of it
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            answer = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in job["wait"]]
        else:
            answer = [forked(job) for _ in range(job["processes"])]
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
