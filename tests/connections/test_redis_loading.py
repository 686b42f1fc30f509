"""A server that loads its data after a restart, and a command that is cancelled on its way."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import RedisSettings
from app.connections.redis import RedisConnectionManager
from app.core.errors import DeadlineExceededError, OutcomeUnknownError, StoreUnavailableError

from ..redis_server import RedisServer

VALUE = "value" * 400


class LoadingServer(RedisServer):
    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith((b"+PONG", b"-LOADING"))
        except OSError:
            return False


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Keeps its data in a file, and takes 0.2 ms to read a key. It answers meanwhile after each two megabytes."""
    server = LoadingServer(
        *("--appendonly", "yes", "--appendfsync", "always"),
        *("--key-load-delay", "200", "--rdbcompression", "no"),
    )
    try:
        yield server.start()
    finally:
        server.end()


def manager_of(server: RedisServer, timeout: float) -> RedisConnectionManager:
    return RedisConnectionManager(RedisSettings(url=SecretStr(server.url), timeout=timeout))


async def fill(manager: RedisConnectionManager, keys: int) -> None:
    await manager.mset({f"key{i}": VALUE for i in range(keys)})
    # A file with a snapshot in front is loaded key by key.
    await manager.bgrewriteaof()
    while (await manager.info("persistence"))["aof_rewrite_in_progress"]:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.02)


def restart(server: RedisServer) -> None:
    """Kill it, and start it without waiting until it has loaded."""
    server.kill()
    server.start()
    assert server.command("GET", "key1").startswith(b"-LOADING")


async def test_commands_succeed_when_the_data_is_loaded(server: RedisServer) -> None:
    manager = manager_of(server, timeout=20)
    await fill(manager, 10_000)
    restart(server)
    start = time.monotonic()
    replies = await asyncio.gather(
        manager.get("key1"), manager.incr("n"), manager.set("key2", "new"), manager.execute_command("ECHO", "x")
    )
    assert time.monotonic() - start > 0.2
    assert list(replies) == [VALUE, 1, True, "x"]
    assert await manager.get("key2") == "new"
    await manager.disconnect()
    restart(server)
    assert await manager.incr("n") == 2, "the first command of a new client"
    await manager.close()


async def test_a_server_that_loads_for_long_is_an_outage(server: RedisServer) -> None:
    patient, manager = manager_of(server, timeout=20), manager_of(server, timeout=0.5)
    await fill(patient, 10_000)
    await patient.close()
    restart(server)
    # The last question may be under way when the time is up.
    outages: list[tuple[Any, tuple[type[Exception], ...]]] = [
        (manager.get, (StoreUnavailableError, DeadlineExceededError)),
        (manager.incr, (StoreUnavailableError, OutcomeUnknownError)),
    ]
    for command, errors in outages:
        start = time.monotonic()
        with pytest.raises(errors):
            await command("n")
        assert 0.3 < time.monotonic() - start < 1
    await manager.close()


async def test_no_cancellation_is_lost(redis_server: RedisServer) -> None:
    manager = manager_of(redis_server, timeout=5)
    await manager.ping()

    async def work() -> None:
        for _ in range(1000):
            await manager.get("key")

    for steps in range(1, 12):
        task = asyncio.create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await manager.set("key", steps)
        assert await manager.get("key") == str(steps)
    await manager.close()
