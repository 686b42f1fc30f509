"""The pool of the stores over HTTP: as large as the settings say, and it says what it is at."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import load
from app.config.settings import ChromaDBSettings, PoolSettings, QdrantSettings
from app.connections import ConnectionFactory
from app.connections.chromadb import ChromaDBConnectionManager
from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import AppError, PoolExhaustedError

from .faults import Gate, Process, forward
from .http import FakeQdrant, serving

Manager = QdrantConnectionManager | ChromaDBConnectionManager
Make = Callable[..., Manager]


async def ask(client: Any) -> Any:
    return await (client.get_collections() if hasattr(client, "get_collections") else client.count_collections())


@pytest.fixture(params=["qdrant", "chromadb"])
async def gate(request: pytest.FixtureRequest) -> AsyncIterator[Gate]:
    if request.param == "chromadb":
        process: Process = request.getfixturevalue("chroma_process")
        serve = forward(process.port)
    else:
        serve = serving(FakeQdrant())
    async with Gate(serve) as gate:
        yield gate


@pytest.fixture
async def make(gate: Gate, request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    made: list[Manager] = []
    settings, kind = {
        "qdrant": (QdrantSettings, QdrantConnectionManager),
        "chromadb": (ChromaDBSettings, ChromaDBConnectionManager),
    }[request.node.callspec.params["gate"]]

    def manager(max_size: int, wait: float, timeout: float = 5) -> Manager:
        url = SecretStr(f"http://127.0.0.1:{gate.port}")
        pool = PoolSettings(max_size=max_size, timeout=wait)
        made.append(kind(settings(url=url, timeout=timeout, pool=pool)))
        return made[-1]

    yield manager
    for each in made:
        await each.close()


async def state(manager: Manager) -> dict[str, int]:
    client = manager.live
    assert client is not None
    pool = manager._pool(client)  # type: ignore[arg-type]
    assert pool is not None
    return dict(pool)


async def test_it_has_the_size_of_the_settings_and_tells_its_state(gate: Gate, make: Make) -> None:
    manager = make(3, 5)
    await manager.connect()
    gate.mode = "silent"
    calls = [asyncio.create_task(manager.read(ask)) for _ in range(8)]
    await until(lambda: gate.connections >= 3)
    assert await state(manager) == {"max_size": 3, "size": 3, "idle": 0, "in_use": 3, "waiting": 5}
    gate.mode = "open"
    await asyncio.gather(*calls)
    health = await manager.health()
    assert health.pool == {"max_size": 3, "size": 3, "idle": 3, "in_use": 0, "waiting": 0}
    assert gate.connections == 3


async def test_a_full_pool_is_an_error_of_its_own_after_its_time(gate: Gate, make: Make) -> None:
    manager = make(2, 0.3)
    await manager.connect()
    gate.mode = "silent"
    holding = [asyncio.create_task(manager.read(ask)) for _ in range(2)]
    await until(lambda: gate.connections >= 2)
    loop = asyncio.get_running_loop()
    for call in (manager.read, manager.write):
        start = loop.time()
        with pytest.raises(PoolExhaustedError, match=r"none of 2 connections became free in 0\.3 s; nothing was sent"):
            await call(ask)
        assert 0.29 <= loop.time() - start < 3
    health = await manager.health()
    assert not health.healthy
    assert "none of 2 connections" in health.detail
    assert (await state(manager))["in_use"] == 2
    gate.mode = "open"
    await asyncio.gather(*holding)
    assert (await manager.health()).healthy


async def test_waiting_is_no_longer_than_the_call_may_take(gate: Gate, make: Make) -> None:
    """So a write that waited is never one whose outcome is unknown."""
    manager = make(1, 60, timeout=0.5)
    await manager.connect()
    gate.mode = "silent"
    holding = asyncio.create_task(manager.read(ask))
    await until(lambda: (manager._pool(manager.live) or {}).get("in_use") == 1)  # type: ignore[arg-type]
    calls = await asyncio.gather(*(manager.write(ask) for _ in range(3)), holding, return_exceptions=True)
    assert [type(each) for each in calls[1:3]] == [PoolExhaustedError] * 2
    gate.mode = "open"
    await manager.read(ask)


async def test_callers_that_are_cancelled_at_any_moment_keep_no_connection(make: Make) -> None:
    manager = make(4, 5)
    await manager.connect()
    draw = random.Random(20261121)

    async def impatient() -> None:
        with suppress(TimeoutError, AppError):
            async with asyncio.timeout(draw.choice([0, 0.0005, 0.002, 0.01, 0.05])):
                await manager.read(ask)

    for _ in range(5):
        await asyncio.gather(*(impatient() for _ in range(100)))
    async with asyncio.timeout(5):
        await asyncio.gather(*(manager.read(ask) for _ in range(40)))
    pool = await state(manager)
    assert pool["in_use"] == pool["waiting"] == 0
    assert pool["size"] == pool["idle"] <= 4


async def test_a_restart_fails_no_read_on_idle_connections(gate: Gate, make: Make) -> None:
    manager = make(10, 5)
    await asyncio.gather(*(manager.read(ask) for _ in range(100)))
    assert (await state(manager))["idle"] == 10
    await gate.shut()
    await gate.open()
    await asyncio.gather(*(manager.read(ask) for _ in range(40)))


@pytest.mark.parametrize("fault", ["away", "silent", "hang up"])
async def test_it_is_back_within_a_second_of_the_server(gate: Gate, make: Make, fault: str) -> None:
    manager = make(10, 5, timeout=0.4)
    await manager.connect()
    if fault == "away":
        await gate.shut()
    else:
        gate.mode = "silent" if fault == "silent" else "hang up"
        await gate.break_connections()
    calls = [(manager.read if number % 2 else manager.write)(ask) for number in range(30)]
    assert all(isinstance(each, AppError) for each in await asyncio.gather(*calls, return_exceptions=True))
    await gate.open()
    async with asyncio.timeout(1):
        await asyncio.gather(*(answered(manager) for _ in range(30)))


async def answered(manager: Any) -> None:
    """Thirty at once may be too many for ten connections, in the time that is given here."""
    while True:
        with suppress(PoolExhaustedError):
            await manager.read(ask)
            return


async def test_the_server_is_told_who_asks(gate: Gate, make: Make) -> None:
    seen = bytearray()
    async with Gate(forward(gate.port, seen)) as between:
        manager = make(10, 5)
        url = SecretStr(f"http://127.0.0.1:{between.port}")
        told = type(manager)(manager.settings.model_copy(update={"url": url}))
        await told.read(ask)
        await told.close()
    assert b"user-agent: manystore" in bytes(seen).lower()


@pytest.mark.parametrize("kind", ["qdrant", "chromadb"])
def test_the_settings_are_those_of_the_other_stores(kind: str) -> None:
    pool = {"max_size": 3, "timeout": 0.5}
    factory = ConnectionFactory(load({"connections": {kind: {"url": "http://127.0.0.1:9", "pool": pool}}}))
    assert factory.get_connection_manager(kind).settings.pool == PoolSettings(max_size=3, timeout=0.5)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)
