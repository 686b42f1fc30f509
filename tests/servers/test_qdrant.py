"""Qdrant by URL: the real client, against a server of ours that goes away, is silent, hangs up and refuses."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from app.config import load
from app.config.settings import QdrantSettings
from app.connections import ConnectionFactory
from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import ConfigurationError, DeadlineExceededError, OutcomeUnknownError, StoreUnavailableError

from .faults import SECRET, Gate
from .http import FakeQdrant, serving

TIMEOUT = 0.8
LATEST = TIMEOUT * 1.1


@pytest.fixture
def server() -> FakeQdrant:
    return FakeQdrant()


@pytest.fixture
async def gate(server: FakeQdrant) -> AsyncIterator[Gate]:
    async with Gate(serving(server)) as gate:
        yield gate


@pytest.fixture
async def manager(gate: Gate) -> AsyncIterator[QdrantConnectionManager]:
    manager = at(f"http://127.0.0.1:{gate.port}")
    yield manager
    await manager.close()


def at(url: str, **settings: Any) -> QdrantConnectionManager:
    return QdrantConnectionManager(QdrantSettings(url=SecretStr(url), **{"timeout": TIMEOUT, **settings}))


async def collections(client: Any) -> Any:
    return await client.get_collections()


async def test_it_connects_asks_and_is_healthy(manager: QdrantConnectionManager, server: FakeQdrant) -> None:
    assert isinstance(await manager.connect(), AsyncQdrantClient)
    assert (await manager.read(collections)).collections == []
    health = await manager.health()
    assert health.healthy
    assert health.server_version == "1.16.0"
    assert [path for path, _ in server.requests] == ["/collections", "/collections", "/"]


async def test_a_thousand_first_users_get_one_client(manager: QdrantConnectionManager, server: FakeQdrant) -> None:
    clients = await asyncio.gather(*(manager.connect() for _ in range(1000)))
    assert len({id(client) for client in clients}) == 1
    assert len(server.requests) == 1


async def test_a_thousand_calls_share_a_bounded_pool(gate: Gate) -> None:
    async with at(f"http://127.0.0.1:{gate.port}", timeout=10) as manager:
        await asyncio.gather(*(manager.read(collections) for _ in range(1000)))
    assert gate.connections <= 10


async def test_an_answer_that_makes_no_sense_is_unhealthy_and_no_error(gate: Gate, server: FakeQdrant) -> None:
    manager = at(f"http://127.0.0.1:{gate.port}")
    await manager.connect()
    server.answer = lambda *_: (500, {"status": {"error": "broken"}})  # type: ignore[method-assign]
    health = await manager.health()
    assert not health.healthy
    assert "did not answer as one should" in health.detail
    await manager.close()


async def test_the_key_is_sent_and_a_wrong_one_refused(gate: Gate, server: FakeQdrant) -> None:
    server.api_key = SECRET
    url = f"http://127.0.0.1:{gate.port}"
    async with at(url, api_key=SecretStr(SECRET)) as manager:
        assert (await manager.health()).healthy
    for key in (None, SecretStr("wrong-key")):
        manager = at(url, api_key=key)
        with pytest.raises(StoreUnavailableError, match="refused the credentials") as caught:
            await manager.connect()
        assert "wrong-key" not in f"{caught.value}{manager!r}{manager.get_connection_info()}"
        assert not manager.connected


async def test_a_user_and_password_of_the_url_are_sent_and_not_shown(gate: Gate, server: FakeQdrant) -> None:
    manager = at(f"http://user:{SECRET}@127.0.0.1:{gate.port}/below/")
    with pytest.raises(StoreUnavailableError, match="did not answer as one should") as caught:
        await manager.connect()
    assert SECRET not in f"{caught.value}{manager.get_connection_info()}"
    path, headers = server.requests[0]
    assert path == "/below/collections"
    assert headers["authorization"].startswith("Basic ")


@contextmanager
def elsewhere() -> Iterator[int]:
    """The port of a server on a loop of its own, which outlives those of the test."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        gate = Gate(serving(FakeQdrant()))
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(gate.open(), loop).result(10)
            yield gate.port
            asyncio.run_coroutine_threadsafe(gate.shut(), loop).result(10)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)


def test_one_manager_serves_three_loops_in_turn() -> None:
    async def run() -> str | None:
        await asyncio.gather(*(shared.read(collections) for _ in range(50)))
        return (await shared.health()).server_version

    with elsewhere() as port:
        shared = at(f"http://127.0.0.1:{port}", timeout=10)
        assert [asyncio.run(run()) for _ in range(3)] == ["1.16.0"] * 3
        assert not shared.connected, "each client was closed with its loop"


def test_two_threads_with_a_loop_each() -> None:
    both = threading.Barrier(2)

    async def run(_: int) -> int:
        await asyncio.to_thread(both.wait, 10)
        await asyncio.gather(*(shared.read(collections) for _ in range(50)))
        return id(await shared.connect())

    with elsewhere() as port, ThreadPoolExecutor(2) as threads:
        shared = at(f"http://127.0.0.1:{port}", timeout=10)
        clients = list(threads.map(lambda number: asyncio.run(run(number)), range(2)))
        assert len(set(clients)) == 2, "each loop has a client of its own"
        assert not shared.connected


# ---------------------------------------------------------------- failing


async def took(work: Awaitable[Any], error: type[Exception]) -> str:
    start = time.monotonic()
    with pytest.raises(error) as caught:
        await work
    assert time.monotonic() - start <= LATEST
    return str(caught.value)


async def test_down_at_start_up_and_there_later(gate: Gate, manager: QdrantConnectionManager) -> None:
    await gate.shut()
    assert f"qdrant at http://127.0.0.1:{gate.port}" in await took(manager.connect(), StoreUnavailableError)
    await gate.open()
    assert (await manager.health()).healthy


async def test_silent_at_start_up(gate: Gate, manager: QdrantConnectionManager) -> None:
    gate.mode = "silent"
    await took(manager.connect(), StoreUnavailableError)
    await gate.open()
    assert (await manager.health()).healthy


async def test_it_goes_away_and_comes_back(gate: Gate, manager: QdrantConnectionManager) -> None:
    await manager.connect()
    await gate.shut()
    await took(manager.read(collections), StoreUnavailableError)
    await took(manager.write(collections), StoreUnavailableError)
    await gate.open()
    await manager.read(collections)


async def test_it_goes_silent_and_comes_back(gate: Gate, manager: QdrantConnectionManager) -> None:
    await manager.connect()
    gate.mode = "silent"
    await took(manager.read(collections), DeadlineExceededError)
    await took(manager.write(collections), OutcomeUnknownError)
    await gate.open()
    await manager.read(collections)


async def test_the_client_alone_keeps_the_exact_limit(gate: Gate, manager: QdrantConnectionManager) -> None:
    client: Any = await manager.connect()
    gate.mode = "silent"
    start = time.monotonic()
    with pytest.raises(ResponseHandlingException):
        await client.get_collections()
    assert time.monotonic() - start <= LATEST, "and not the whole second that the client makes of it"


async def test_a_connection_that_breaks_is_tried_again_for_reads_only(
    gate: Gate, manager: QdrantConnectionManager
) -> None:
    await manager.connect()
    gate.mode = "hang up"
    await gate.break_connections()
    before = gate.connections
    await took(manager.read(collections), StoreUnavailableError)
    assert gate.connections - before == 2
    await took(manager.write(collections), OutcomeUnknownError)
    assert gate.connections - before == 3


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6333",
        "ftp://host",
        "http://",
        f"http://user:{SECRET}/x@host",
        f"http://user:1/{SECRET}@host",
        f"http://h/?k={SECRET}",
        "http://h:x",
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    factory = ConnectionFactory(load({"connections": {"qdrant": {"url": url}}}))
    with pytest.raises(ConfigurationError, match="'qdrant': its url is not the address of a server") as caught:
        factory.get_connection_manager("qdrant")
    assert SECRET not in repr(caught.value)


def test_what_it_requires_follows_the_url() -> None:
    assert at("http://host").requires == ("qdrant_client",)
    assert at("embedded").requires == ("qdrant_edge",)


async def test_no_log_has_the_key(gate: Gate, server: FakeQdrant, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.api_key = SECRET
    async with at(f"http://user:{SECRET}@127.0.0.1:{gate.port}", api_key=SecretStr(SECRET)) as manager:
        assert SECRET not in f"{await manager.health()}{manager!r}{manager.settings!r}"
    assert SECRET not in caplog.text
