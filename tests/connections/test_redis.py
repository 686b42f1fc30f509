"""Redis as a connection: one client, a bounded pool that waits, one deadline, and a typed error for every outage."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import PoolSettings, RedisSettings
from app.connections.redis import RedisConnectionManager
from app.core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)

from ..redis_server import RedisServer

TIMEOUT = 0.8


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own, to be killed and stopped."""
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.end()


def manager_of(server: RedisServer, **settings: Any) -> RedisConnectionManager:
    return RedisConnectionManager(RedisSettings(url=SecretStr(server.url), **settings))


@pytest.fixture
async def manager(redis_server: RedisServer) -> AsyncIterator[RedisConnectionManager]:
    redis_server.command("FLUSHALL")
    manager = manager_of(redis_server)
    yield manager
    await manager.close()


@pytest.fixture
async def brief(server: RedisServer) -> AsyncIterator[RedisConnectionManager]:
    """A manager of a server of its own that soon gives up."""
    manager = manager_of(server, timeout=TIMEOUT)
    yield manager
    await manager.close()


def connections_at(server: RedisServer) -> int:
    return server.command("CLIENT", "LIST").count(b"name=manystore")


async def test_a_thousand_first_users_get_one_client(
    manager: RedisConnectionManager, redis_server: RedisServer
) -> None:
    clients = await asyncio.gather(*(manager.connect() for _ in range(1000)))
    assert len({id(client) for client in clients}) == 1
    assert connections_at(redis_server) == 1


async def test_a_thousand_commands_share_a_pool_of_ten(
    manager: RedisConnectionManager, redis_server: RedisServer
) -> None:
    counts = await asyncio.gather(*(manager.incr("n") for _ in range(1000)))
    assert sorted(counts) == list(range(1, 1001))
    assert connections_at(redis_server) == 10
    assert manager.get_pool_stats() == {"size": 10, "idle": 10, "in_use": 0, "max_size": 10}


async def test_the_clients_own_commands(manager: RedisConnectionManager) -> None:
    assert await manager.set("key", "é", ex=10)
    assert await manager.get("key") == "é"
    assert 0 < await manager.ttl("key") <= 10
    client = await manager.connect()
    assert [key async for key in client.scan_iter(match="k*")] == ["key"]
    async with client.pipeline() as pipe:
        pipe.incr("n")
        pipe.get("key")
        assert await pipe.execute() == [1, "é"]
    for wrong in ("no_command", "pubsub", "scan_iter", "_pool"):
        with pytest.raises(AttributeError, match=r"connect\(\)"):
            getattr(manager, wrong)


def test_one_manager_serves_three_loops_in_turn(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    manager = manager_of(redis_server)

    async def use() -> int:
        await asyncio.gather(*(manager.incr("n") for _ in range(20)))
        return int(await manager.get("n"))

    assert [asyncio.run(use()) for _ in range(3)] == [20, 40, 60]
    asyncio.run(manager.close())
    assert connections_at(redis_server) == 0


def test_two_threads_with_a_loop_each(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    manager = manager_of(redis_server)
    failures: list[BaseException] = []
    barrier = threading.Barrier(2)

    async def use() -> None:
        barrier.wait(10)
        for _ in range(20):
            await asyncio.gather(*(manager.incr("n") for _ in range(20)))
        await manager.disconnect()

    def run() -> None:
        try:
            asyncio.run(use())
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert redis_server.command("GET", "n").split() == [b"$3", b"800"]
    assert connections_at(redis_server) == 0


async def test_health_tells_latency_version_and_pool(manager: RedisConnectionManager) -> None:
    health = await manager.health()
    assert health.healthy
    assert health.latency is not None
    assert 0 < health.latency < 1
    assert health.server_version is not None
    assert health.server_version.startswith("6.2")
    assert health.pool == {"size": 1, "idle": 1, "in_use": 0, "max_size": 10}


async def test_a_full_pool_says_so_after_its_time(redis_server: RedisServer) -> None:
    manager = manager_of(redis_server, pool=PoolSettings(max_size=2, timeout=0.2), timeout=2)
    await manager.connect()
    blocked = [asyncio.create_task(manager.blpop("nothing", timeout=1)) for _ in range(2)]
    await asyncio.sleep(0.05)
    start = time.monotonic()
    with pytest.raises(PoolExhaustedError, match="none of 2 connections"):
        await manager.get("key")
    assert 0.2 <= time.monotonic() - start < 1
    assert await asyncio.gather(*blocked) == [None, None]
    assert await manager.get("key") is None
    await manager.close()


async def test_a_cancelled_command_leaves_no_reply_for_the_next(manager: RedisConnectionManager) -> None:
    await manager.set("a", "1")
    for _ in range(20):
        task = asyncio.create_task(manager.blpop("nothing", timeout=5))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await manager.get("a") == "1"


# ---------------------------------------------------------------- outages


async def test_a_restarted_server_fails_no_read(server: RedisServer) -> None:
    manager = manager_of(server)
    await asyncio.gather(*(manager.get("key") for _ in range(100)))
    assert connections_at(server) == 10
    server.kill()
    server.start()
    assert await asyncio.gather(*(manager.get("key") for _ in range(40))) == [None] * 40
    await manager.close()


async def test_a_read_is_sent_again_when_its_connection_dies_under_it(server: RedisServer) -> None:
    manager = manager_of(server)
    await asyncio.gather(*(manager.get("key") for _ in range(100)))
    server.signal(signal.SIGSTOP)
    reads = [asyncio.create_task(manager.get("key")) for _ in range(10)]
    await asyncio.sleep(0.05)
    server.kill()
    server.start()
    results = await asyncio.gather(*reads, return_exceptions=True)
    # They lose their connections while the server is away; those that ask again too early are told so.
    assert {type(each) for each in results} <= {type(None), StoreUnavailableError}
    await manager.close()


async def test_a_write_whose_reply_is_lost_is_not_sent_again(server: RedisServer) -> None:
    manager = manager_of(server)
    await manager.connect()
    client = await manager.connect()
    server.signal(signal.SIGSTOP)
    write = asyncio.create_task(manager.incr("n"))
    await asyncio.sleep(0.05)
    server.kill()
    with pytest.raises(OutcomeUnknownError, match="may have been applied"):
        await write
    server.start()
    assert await client.get("n") is None
    await manager.close()


async def test_a_silent_server_is_told_within_the_timeout(brief: RedisConnectionManager, server: RedisServer) -> None:
    await asyncio.gather(*(brief.get("key") for _ in range(20)))
    server.signal(signal.SIGSTOP)
    start = time.monotonic()
    results = await asyncio.gather(
        *(brief.get("key") for _ in range(5)), *(brief.incr("n") for _ in range(20)), return_exceptions=True
    )
    assert time.monotonic() - start < TIMEOUT * 1.1
    assert [type(each) for each in results[:10]] == [DeadlineExceededError] * 5 + [OutcomeUnknownError] * 5
    # The rest waited for a connection, which the first gave up at the very end.
    assert {type(each) for each in results[10:]} <= {PoolExhaustedError, DeadlineExceededError}
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="nothing was changed"):
        await brief.incr("n")  # had to connect first, and so was not sent
    assert time.monotonic() - start < TIMEOUT * 1.1
    server.signal(signal.SIGCONT)
    start = time.monotonic()
    assert await brief.get("other") is None
    assert time.monotonic() - start < 1


async def test_a_server_that_is_silent_at_the_start(server: RedisServer) -> None:
    manager = manager_of(server, timeout=TIMEOUT)
    server.signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(StoreUnavailableError) as caught:
        await manager.connect()
    assert time.monotonic() - start < TIMEOUT * 1.1
    assert isinstance(caught.value, ConnectionError)
    assert not (await manager.health()).healthy
    server.signal(signal.SIGCONT)
    assert await manager.is_healthy()
    await manager.close()


async def test_a_server_that_is_down_and_comes_back(server: RedisServer) -> None:
    manager = manager_of(server, timeout=TIMEOUT)
    server.kill()
    start = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=str(server.socket)):
        await manager.connect()
    health = await manager.health()
    assert not health.healthy
    assert str(server.socket) in health.detail
    assert time.monotonic() - start < TIMEOUT
    server.start()
    assert await manager.get("key") is None
    server.kill()
    for call in (manager.get("key"), manager.incr("n")):
        with pytest.raises((StoreUnavailableError, OutcomeUnknownError)) as caught:
            await call
        assert isinstance(caught.value, AppError)
    server.start()
    start = time.monotonic()
    assert await manager.incr("n") == 1
    assert time.monotonic() - start < 1
    await manager.close()


async def test_over_tcp(server: RedisServer) -> None:
    server.kill()
    server.port = free_port()
    server.start()
    url = f"redis://127.0.0.1:{server.port}/3"
    manager = RedisConnectionManager(RedisSettings(url=SecretStr(url), timeout=TIMEOUT))
    await manager.set("key", "value")
    assert await manager.get("key") == "value"
    assert manager.get_connection_info() == {
        "type": "redis",
        "mode": "single",
        "host": "127.0.0.1",
        "port": server.port,
        "db": 3,
        "tls": False,
        "pool_max_size": 10,
    }
    server.kill()
    server.start()
    assert await asyncio.gather(*(manager.get("key") for _ in range(40))) == [None] * 40
    server.kill()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
        await manager.get("key")
    await manager.close()


async def test_tls_is_verified(server: RedisServer) -> None:
    manager = RedisConnectionManager(RedisSettings(url=SecretStr("rediss://redis.example:6380/0")))
    client: Any = manager._client(manager._parsed("rediss://redis.example:6380/0"))
    options = client.connection_pool.connection_kwargs
    assert (options["ssl_cert_reqs"], options["ssl_check_hostname"]) == ("required", True)
    server.kill()
    server.port = free_port()
    server.start()  # speaks no TLS
    plain = RedisConnectionManager(RedisSettings(url=SecretStr(f"rediss://127.0.0.1:{server.port}"), timeout=TIMEOUT))
    with pytest.raises(StoreUnavailableError):
        await plain.connect()


async def test_nothing_at_all() -> None:
    with pytest.raises(ConfigurationError, match="redis"):
        await RedisConnectionManager(RedisSettings(url=None)).connect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
