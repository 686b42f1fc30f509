"""The pool in front of networks and servers as they are: connections that fall silent, grow old, or go elsewhere."""

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from pydantic import SecretStr

from app.config.settings import PostgresPoolSettings, PostgresSettings
from app.connections.postgres import PostgresConnectionManager
from app.core.errors import DeadlineExceededError, PoolExhaustedError, StoreUnavailableError

from ..servers.faults import free_port
from .embedded.engines import make_engine

pytest.importorskip("psycopg")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def manager_of(url: str, pool: dict[str, Any] | None = None, **more: Any) -> AsyncIterator[Any]:
    settings = PostgresSettings(url=SecretStr(url), pool=PostgresPoolSettings(**(pool or {})), **more)
    manager = PostgresConnectionManager(settings)
    try:
        yield manager
    finally:
        await manager.close()


def directory(url: str) -> str:
    return parse_qs(urlsplit(url).query)["host"][0]


class Network:
    """Forgets the connections that it carries without a word, as a load balancer or NAT does, and carries new ones."""

    def __init__(self, to: Path) -> None:
        self.to = to
        self.port = free_port()
        self.generation = 0
        self.carried = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Network"]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.carried += 1
        own, other = self.generation, await asyncio.open_unix_connection(str(self.to))
        try:
            await asyncio.gather(self._pump(reader, other[1], own), self._pump(other[0], writer, own))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            other[1].close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own: int) -> None:
        while data := await reader.read(65536):
            if own == self.generation:
                writer.write(data)
        if own == self.generation:
            writer.close()


@pytest.fixture
async def network(postgres_url: str) -> AsyncIterator[Network]:
    async with Network(Path(directory(postgres_url)) / ".s.PGSQL.5432").running() as network:
        yield network


def through(network: Network) -> str:
    return f"postgresql://postgres@127.0.0.1:{network.port}/postgres?sslmode=disable"


async def fill(manager: PostgresConnectionManager, connections: int) -> None:
    async with asyncio.timeout(10):
        while manager.get_pool_stats()["idle"] < connections:
            await asyncio.gather(*(manager.execute_query("SELECT pg_sleep(0.02)") for _ in range(2 * connections)))


@pytest.mark.parametrize("asked", [True, 0.05])
async def test_connections_that_the_network_forgot_are_found_by_asking(network: Network, asked: float | bool) -> None:
    async with manager_of(through(network), {"max_size": 4, "pre_ping": asked}, timeout=2) as manager:
        await fill(manager, 4)
        network.generation += 1
        await asyncio.sleep(0.1)
        start = time.monotonic()
        assert await manager.execute_command("SELECT 1") == [(1,)]
        assert time.monotonic() - start < 1.2, "one question, however many were forgotten"
        for _ in range(8):
            assert await manager.execute_command("SELECT 1") == [(1,)]
        assert time.monotonic() - start < 1.4
        assert manager.get_pool_stats()["in_use"] == 0


@pytest.mark.parametrize("asked", [False, 60])
async def test_without_asking_they_cost_an_operation_its_time(network: Network, asked: float | bool) -> None:
    async with manager_of(through(network), {"max_size": 1, "pre_ping": asked}, timeout=0.5) as manager:
        await fill(manager, 1)
        network.generation += 1
        with pytest.raises(DeadlineExceededError):
            await manager.execute_query("SELECT 1")


async def test_asking_needs_no_connection_more(network: Network) -> None:
    async with manager_of(through(network), {"max_size": 3, "pre_ping": True}) as manager:
        await fill(manager, 3)
        callers = [asyncio.create_task(manager.execute_query("SELECT 1")) for _ in range(30)]
        await asyncio.sleep(0)
        for caller in callers[::2]:
            caller.cancel()
        await asyncio.wait(callers)
        assert manager.get_pool_stats()["in_use"] == 0
        assert await asyncio.gather(*(manager.execute_query("SELECT 1") for _ in range(10))) == [[(1,)]] * 10


async def pid(manager: PostgresConnectionManager) -> int:
    [[found]] = await manager.execute_query("SELECT pg_backend_pid()")
    return int(found)


async def test_connections_grow_old_and_idle(postgres_url: str) -> None:
    async with manager_of(postgres_url, {"max_size": 1, "max_lifetime": 0.3}) as manager:
        first = await pid(manager)
        assert await pid(manager) == first
        await asyncio.sleep(0.35)
        assert await pid(manager) == first, "it is replaced when it is given back"
        assert await pid(manager) != first
    async with manager_of(postgres_url, {"max_size": 3, "max_idle": 0.1}) as manager:
        await fill(manager, 3)
        async with asyncio.timeout(5):
            while manager.get_pool_stats()["size"]:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)


async def test_what_a_pool_counts(postgres_url: str) -> None:
    async with manager_of(postgres_url, {"max_size": 1, "timeout": 0.3}) as manager:
        assert set(manager.get_pool_stats().values()) == {0, 1}, "nothing but the size, before it is open"
        await manager.connect()
        await asyncio.gather(*(manager.execute_query("SELECT pg_sleep(0.1)") for _ in range(2)))
        async with manager.connection():
            with pytest.raises(PoolExhaustedError):
                await manager.execute_query("SELECT 1")
        with pytest.raises(StoreUnavailableError):
            await manager.execute_query("SELECT pg_terminate_backend(pg_backend_pid()) FROM pg_sleep(0)")
        stats = manager.get_pool_stats()
        assert stats["requests"] >= 4
        assert stats["requests_queued"] >= 2
        assert stats["requests_wait_ms"] >= 350
        assert stats["requests_errors"] == 1
        assert stats["connections_made"] >= 2
        assert stats["connections_lost"] >= 1
        assert (await manager.health()).pool == manager.get_pool_stats()


async def test_the_server_sees_the_name_of_the_application(postgres_url: str) -> None:
    shown = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    async with manager_of(postgres_url, application_name="shop") as manager:
        assert await manager.execute_query(shown) == [("shop",)]
    async with manager_of(f"{postgres_url}&application_name=till") as manager:
        assert await manager.execute_query(shown) == [("till",)]
    async with manager_of(postgres_url, options={"options": "-c statement_timeout=7s"}) as manager:
        assert await manager.execute_query("SHOW statement_timeout") == [("7s",)]


async def test_as_many_prepared_statements_as_the_address_says(postgres_url: str) -> None:
    for option, expected in (("", 3), ("&statement_cache_size=2", 2), ("&statement_cache_size=0", 0)):
        async with manager_of(f"{postgres_url}{option}", {"max_size": 1}) as manager, manager.connection() as one:
            for number in (0, 1, 2, 3, 4):
                for _ in range(7 if number < 3 else 1):  # the driver drops one when it meets another
                    await one.execute(f"SELECT {number}")
            rows = await (await one.execute("SELECT count(*) FROM pg_prepared_statements")).fetchall()
            assert rows == [(expected,)]


# ---------------------------------------------------------------- several hosts


@pytest.fixture(scope="module")
def read_only_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second server, which takes no writes."""
    engine = make_engine("postgres")

    async def forbid(url: str) -> None:
        async with manager_of(url) as manager:
            await manager.execute_command("ALTER DATABASE postgres SET default_transaction_read_only = on")

    with asyncio.Runner() as runner:
        lease = runner.run(engine.acquire(tmp_path_factory.mktemp("read-only")))
        runner.run(forbid(lease.url))
        yield lease.url
        runner.run(lease.release())


def both(*urls: str, wanted: str) -> str:
    hosts = "&".join(f"host={quote(directory(url), safe='')}" for url in urls)
    return f"postgresql://postgres@/postgres?{hosts}&target_session_attrs={wanted}"


async def test_of_several_servers_the_one_that_takes_writes(postgres_url: str, read_only_url: str) -> None:
    for urls in ((postgres_url, read_only_url), (read_only_url, postgres_url)):
        async with manager_of(both(*urls, wanted="read-write")) as manager:
            await manager.execute_command("CREATE TABLE IF NOT EXISTS several (x int)")
            assert await asyncio.gather(*(manager.execute_command("SELECT 1") for _ in range(9))) == [[(1,)]] * 9
        async with manager_of(both(*urls, wanted="read-only")) as manager:
            assert await manager.execute_query("SHOW transaction_read_only") == [("on",)]
    async with manager_of(both(read_only_url, read_only_url, wanted="read-write")) as manager:
        with pytest.raises(StoreUnavailableError, match="none of its hosts takes writes"):
            await manager.connect()


async def test_a_host_that_is_dead_or_silent_is_passed_over(network: Network) -> None:
    url = "postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable&target_session_attrs=read-write"
    async with manager_of(url.format(free_port(), network.port)) as manager:
        assert await manager.execute_query("SELECT 1") == [(1,)]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts
        start = time.monotonic()
        async with manager_of(url.format(silent.getsockname()[1], network.port)) as manager:
            assert await manager.execute_query("SELECT 1") == [(1,)]
            assert time.monotonic() - start < 2.5
            assert f"127.0.0.1:{network.port}" in manager.get_connection_info()["url"]


def test_closing_while_it_connects_leaves_no_message(caplog: pytest.LogCaptureFixture) -> None:
    async def interrupted(port: int) -> None:
        async with manager_of(f"postgresql://postgres@127.0.0.1:{port}/postgres", timeout=30) as manager:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await manager.connect()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(interrupted(silent.getsockname()[1]))
    gc.collect()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []
