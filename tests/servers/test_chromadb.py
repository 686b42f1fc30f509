"""Chroma: a directory for one process, and a server of the package itself over HTTP."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.api.async_fastapi import AsyncFastAPI
from pydantic import SecretStr

from app.config import load
from app.config.settings import ChromaDBSettings, PoolSettings
from app.connections import ConnectionFactory, ConnectionType
from app.connections._chroma_embedded import ChromaEngine
from app.connections.chromadb import ChromaDBConnectionManager
from app.core.errors import (
    DeadlineExceededError,
    MissingDependencyError,
    OutcomeUnknownError,
    StoreUnavailableError,
)

from .faults import SECRET, Gate, Process, forward

TIMEOUT = 0.8
LATEST = TIMEOUT * 1.1


async def ids(client: Any) -> list[str]:
    collection = await client.get_or_create_collection("documents", embedding_function=None)
    return list((await collection.get())["ids"])


async def save(client: Any) -> None:
    collection = await client.get_or_create_collection("documents", embedding_function=None)
    await collection.upsert(ids=["1"], embeddings=[[1.0, 2.0]], documents=["tea"])


async def count(client: Any) -> int:
    return int(await client.count_collections())


# ---------------------------------------------------------------- a directory


async def test_the_factory_gives_a_directory_without_a_url(tmp_path: Path) -> None:
    factory = ConnectionFactory(load({"data_dir": str(tmp_path), "connections": {"chromadb": {}}}))
    assert factory.list_available_connections() == ["chromadb"]
    manager = factory.get_connection_manager(ConnectionType.CHROMADB)
    assert manager.get_connection_info() == {"type": "chromadb", "url": "embedded", "path": str(tmp_path / "chroma")}
    health = await manager.health()
    assert health.healthy
    assert health.server_version
    await factory.close_all()


def embedded(tmp_path: Path) -> ChromaDBConnectionManager:
    return ChromaDBConnectionManager(data_dir=tmp_path)


async def engine_of(manager: ChromaDBConnectionManager) -> ChromaEngine:
    engine = await manager.connect()
    assert isinstance(engine, ChromaEngine)
    return engine


async def test_a_thousand_first_users_get_one_engine_that_keeps_what_it_is_given(tmp_path: Path) -> None:
    manager = embedded(tmp_path)
    engines = await asyncio.gather(*(engine_of(manager) for _ in range(1000)))
    assert len({id(engine) for engine in engines}) == 1
    engine = engines[0]
    await engine.write(
        lambda client: client.create_collection("documents", embedding_function=None).upsert(
            ids=["1"], embeddings=[np.array([1.0, 2.0], "float32")], documents=["tea"]
        )
    )
    await manager.disconnect()
    engine = await engine_of(manager)
    collection = await engine.read(lambda client: client.get_collection("documents", embedding_function=None))
    assert collection.configuration["embedding_function"] is None
    assert await engine.read(lambda _: collection.get()["ids"]) == ["1"]
    await manager.close()


def test_three_runs_in_one_process(tmp_path: Path) -> None:
    manager = embedded(tmp_path)

    async def run() -> int:
        engine = await engine_of(manager)
        return await engine.read(lambda client: client.count_collections())

    assert [asyncio.run(run()) for _ in range(3)] == [0, 0, 0]
    manager.abandon()


def insert(number: int) -> Any:
    return lambda client: client.get_or_create_collection("documents", embedding_function=None).upsert(
        ids=[str(number)], embeddings=[[float(number), 1.0]]
    )


def stored(client: Any) -> int:
    return int(client.get_or_create_collection("documents", embedding_function=None).count())


def test_two_threads_with_a_loop_each_write_to_one_directory(tmp_path: Path) -> None:
    manager = embedded(tmp_path)
    both = threading.Barrier(2)

    async def run(first: int) -> int:
        both.wait(10)
        engine = await engine_of(manager)
        await asyncio.gather(*(engine.write(insert(number)) for number in range(first, first + 20)))
        await asyncio.to_thread(both.wait, 10)
        return id(engine)

    assert len(set(in_two_threads(run))) == 1, "one engine serves both"
    assert asyncio.run(count_of(manager)) == 40
    manager.abandon()


async def count_of(manager: ChromaDBConnectionManager) -> int:
    return await (await engine_of(manager)).read(stored)


async def test_a_thousand_calls_at_once_of_a_directory(tmp_path: Path) -> None:
    async with embedded(tmp_path) as manager:
        engine = await engine_of(manager)
        work = [engine.write(insert(n)) if n % 10 == 0 else engine.read(stored) for n in range(1000)]
        await asyncio.gather(*work)
        assert await engine.read(stored) == 100


OPEN = """
import asyncio, sys
from pathlib import Path
from app.connections.chromadb import ChromaDBConnectionManager
asyncio.run(ChromaDBConnectionManager(data_dir=Path(sys.argv[1])).connect())
"""


async def test_a_second_process_is_refused_with_the_path(tmp_path: Path) -> None:
    async with embedded(tmp_path):
        command = [sys.executable, "-c", OPEN, str(tmp_path)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode != 0
        assert "StoreUnavailableError: another process has the Chroma directory" in done.stderr
        assert str(tmp_path / "chroma") in done.stderr


async def test_a_directory_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "chroma").write_text("")
    manager = embedded(tmp_path)
    with pytest.raises(StoreUnavailableError, match=str(tmp_path / "chroma")):
        await manager.connect()
    (tmp_path / "chroma").unlink()
    assert (await manager.health()).healthy, "a failed connect is not remembered"
    await manager.close()


async def test_a_damaged_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").write_text("not a database " * 100)
    with pytest.raises(StoreUnavailableError, match=str(tmp_path / "chroma")):
        await embedded(tmp_path).connect()


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9"])
async def test_a_missing_package_names_the_extra(
    tmp_path: Path, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chromadb", "chromadb.api"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "app.connections._chroma_http", raising=False)
    settings = ChromaDBSettings(url=None if url is None else SecretStr(url))
    manager = ChromaDBConnectionManager(settings, data_dir=tmp_path)
    with pytest.raises(MissingDependencyError, match=r"manystore\[chromadb\]"):
        await manager.connect()


# ---------------------------------------------------------------- a server


@pytest.fixture
async def gate(chroma_process: Process) -> AsyncIterator[Gate]:
    async with Gate(forward(chroma_process.port)) as gate:
        yield gate


@pytest.fixture
async def manager(gate: Gate) -> AsyncIterator[ChromaDBConnectionManager]:
    manager = at(gate.port)
    yield manager
    await manager.close()


def at(port: int, *, timeout: float = TIMEOUT) -> ChromaDBConnectionManager:
    url = SecretStr(f"http://user:{SECRET}@127.0.0.1:{port}")
    return ChromaDBConnectionManager(ChromaDBSettings(url=url, timeout=timeout, pool=PoolSettings(timeout=timeout)))


async def test_it_writes_reads_and_is_healthy(manager: ChromaDBConnectionManager) -> None:
    await manager.write(save)
    assert await manager.read(ids) == ["1"]
    health = await manager.health()
    assert health.healthy
    assert health.server_version
    assert SECRET not in f"{health}{manager!r}{manager.get_connection_info()}"


async def test_a_thousand_first_users_get_one_client(manager: ChromaDBConnectionManager, gate: Gate) -> None:
    clients = await asyncio.gather(*(manager.connect() for _ in range(1000)))
    assert len({id(client) for client in clients}) == 1
    assert gate.connections == 1


async def test_the_clients_of_two_servers_share_nothing(chroma_process: Process) -> None:
    async with at(chroma_process.port) as one, at(chroma_process.port) as other:
        clients: Any = [await one.connect(), await other.connect()]
        assert clients[0].http is not clients[1].http
        await one.disconnect()
        assert await other.read(count) >= 0
        assert AsyncFastAPI._clients == {}, "nothing is left in the table that the package keeps for all"


def test_three_runs_against_a_server(chroma_process: Process) -> None:
    manager = at(chroma_process.port)
    for _ in range(3):
        assert asyncio.run(manager.read(count)) >= 0
    assert not manager.connected, "each client was closed with its loop"


def test_two_threads_with_a_loop_each_against_a_server(chroma_process: Process) -> None:
    manager = at(chroma_process.port, timeout=10)

    async def run(_: int) -> int:
        await asyncio.gather(*(manager.read(count) for _ in range(50)))
        return id(await manager.connect())

    assert len(set(in_two_threads(run))) == 2, "each loop has its own client"
    assert not manager.connected


async def test_a_thousand_calls_share_a_bounded_pool(gate: Gate) -> None:
    async with at(gate.port, timeout=30) as manager:
        await asyncio.gather(*(manager.read(count) for _ in range(1000)))
        health = await manager.health()
    assert gate.connections <= 10
    assert health.pool == {
        "max_size": 10,
        "size": gate.connections,
        "idle": gate.connections,
        "in_use": 0,
        "waiting": 0,
    }


def in_two_threads(run: Callable[[int], Coroutine[Any, Any, int]]) -> list[int]:
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda first: asyncio.run(run(first)), (0, 100)))


async def took(work: Awaitable[Any], error: type[Exception]) -> str:
    start = time.monotonic()
    with pytest.raises(error) as caught:
        await work
    assert time.monotonic() - start <= LATEST
    return str(caught.value)


async def test_away_silent_and_back(gate: Gate, manager: ChromaDBConnectionManager) -> None:
    await gate.shut()
    assert f"chromadb at http://127.0.0.1:{gate.port}" in await took(manager.connect(), StoreUnavailableError)
    await gate.open()
    await manager.read(count)
    await gate.break_connections()
    await manager.read(count)
    gate.mode = "silent"
    await took(manager.read(count), DeadlineExceededError)
    await took(manager.write(count), OutcomeUnknownError)
    await gate.open()
    await manager.read(count)


async def test_a_server_killed_and_started_again(chroma_process: Process) -> None:
    manager = at(chroma_process.port, timeout=5)
    await asyncio.gather(*(manager.read(count) for _ in range(100)))
    pool = (await manager.health()).pool
    assert pool is not None
    assert pool["idle"] == 10
    chroma_process.kill()
    chroma_process.start()
    await asyncio.gather(*(manager.read(count) for _ in range(40)))
    await manager.close()
