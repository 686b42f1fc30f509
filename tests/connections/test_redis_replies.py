"""What happens to a command whose connection dies under it: a proxy that passes commands on and loses replies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
from pydantic import SecretStr

from app.config.settings import PoolSettings, RedisSettings
from app.connections.redis import RedisConnectionManager
from app.core.errors import OutcomeUnknownError, PoolExhaustedError

from ..redis_server import RedisServer


class Proxy:
    """Between client and server. Loses the reply to the next `lose` commands; `forget` ends old connections on use."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.path = server.directory / "proxy"
        self.lose: list[bytes] = []
        self.generation = 0
        self.connections = 0
        self._serving: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._serving = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._serving is not None
        self._serving.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        Path(self.path).unlink(missing_ok=True)

    def forget(self) -> None:
        self.generation += 1

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        generation = self.generation
        replies, server = await asyncio.open_unix_connection(str(self._server.socket))
        try:
            with suppress(ConnectionError):
                while command := await client.read(65536):
                    if generation != self.generation:
                        return
                    server.write(command)
                    reply = await replies.read(65536)
                    lost = [name for name in self.lose if name in command]
                    if lost:
                        self.lose.remove(lost[0])
                        return
                    back.write(reply)
                    await back.drain()
        finally:
            server.close()
            back.close()


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    redis_server.command("FLUSHALL")
    async with Proxy(redis_server) as proxy:
        yield proxy


@pytest.fixture
async def manager(proxy: Proxy) -> AsyncIterator[RedisConnectionManager]:
    manager = RedisConnectionManager(RedisSettings(url=SecretStr(f"unix://{proxy.path}"), timeout=2))
    yield manager
    await manager.close()


async def test_a_write_is_sent_once(manager: RedisConnectionManager, proxy: Proxy) -> None:
    await manager.connect()
    for count in (1, 2, 3):
        proxy.lose.append(b"INCR")
        with pytest.raises(OutcomeUnknownError, match="may have been applied") as caught:
            await manager.incr("n")
        assert caught.value.__cause__ is not None
        assert await manager.get("n") == str(count)
    client = await manager.connect()
    proxy.lose.append(b"INCR")
    pipe = client.pipeline()
    pipe.incr("n")
    with pytest.raises(OutcomeUnknownError):
        await pipe.execute()
    assert await manager.get("n") == "4"


async def test_a_read_is_sent_twice_and_no_more(manager: RedisConnectionManager, proxy: Proxy) -> None:
    await manager.set("key", "value")
    proxy.lose.append(b"GET")
    assert await manager.get("key") == "value"
    proxy.lose += [b"GET", b"GET"]
    with pytest.raises(ConnectionError):
        await manager.get("key")
    assert proxy.lose == []


async def test_reads_survive_connections_that_died_unnoticed(manager: RedisConnectionManager, proxy: Proxy) -> None:
    await asyncio.gather(*(manager.get("key") for _ in range(100)))
    assert proxy.connections == 10
    proxy.forget()
    assert await asyncio.gather(*(manager.get("key") for _ in range(40))) == [None] * 40


async def test_what_holds_its_connection_counts_in_the_pool(redis_server: RedisServer) -> None:
    settings = RedisSettings(url=SecretStr(redis_server.url), pool=PoolSettings(max_size=1, timeout=0.1))
    async with RedisConnectionManager(settings) as manager:
        client = await manager.connect()
        async with client.pubsub() as subscription:
            await subscription.subscribe("channel")
            with pytest.raises(PoolExhaustedError):
                await manager.get("key")
        assert await manager.get("key") is None
