"""MongoDB over the wire: what is sent, how often, and what an application hears when it fails."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import monitoring
from pymongo.topology_description import TopologyDescription

from app.config import load
from app.config.settings import MongoDBSettings, PoolSettings
from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import (
    ConfigurationError,
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)

from .conftest import mongodb_on
from .faults import SECRET, Gate, Process, forward, free_port

# pymongo forgets to close the socket of an attempt to connect that is cancelled, such as by closing the client.
pytestmark = pytest.mark.filterwarnings(r"ignore:[\s\S]*<socket\.socket:pytest.PytestUnraisableExceptionWarning")

TIMEOUT = 0.8
LATEST = TIMEOUT * 1.1


class Recorder(monitoring.CommandListener, monitoring.ConnectionPoolListener):
    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self.open = 0
        self.most = 0

    def started(self, event: Any) -> None:
        self.commands.append(dict(event.command))

    def succeeded(self, event: Any) -> None: ...
    def failed(self, event: Any) -> None: ...
    def pool_created(self, event: Any) -> None: ...
    def pool_ready(self, event: Any) -> None: ...
    def pool_cleared(self, event: Any) -> None: ...
    def pool_closed(self, event: Any) -> None: ...
    def connection_ready(self, event: Any) -> None: ...
    def connection_check_out_started(self, event: Any) -> None: ...
    def connection_check_out_failed(self, event: Any) -> None: ...
    def connection_checked_out(self, event: Any) -> None: ...
    def connection_checked_in(self, event: Any) -> None: ...
    def connection_created(self, event: Any) -> None:  # noqa: ARG002 - the driver's signature
        self.open += 1
        self.most = max(self.most, self.open)

    def connection_closed(self, event: Any) -> None:  # noqa: ARG002
        self.open -= 1

    def names(self) -> list[str]:
        return [next(iter(command)) for command in self.commands]


class Recorded(MongoDBConnectionManager):
    clients = 0

    def __init__(self, settings: MongoDBSettings) -> None:
        super().__init__(settings)
        self.recorder = Recorder()

    def _listeners(self) -> list[Any]:
        self.clients += 1
        return [self.recorder]


def at(url: str, timeout: float = 5, pool: PoolSettings | None = None) -> Recorded:
    return Recorded(MongoDBSettings(url=SecretStr(url), timeout=timeout, pool=pool or PoolSettings()))


async def find(client: Any) -> Any:
    return await client.app.things.find_one({})


async def insert(client: Any) -> Any:
    return await client.app.things.insert_one({"n": 1})


@pytest.fixture
async def manager(mongodb_url: str) -> AsyncIterator[Recorded]:
    manager = at(mongodb_url)
    yield manager
    await manager.close()


@pytest.fixture
async def gate(mongodb_process: Process) -> AsyncIterator[Gate]:
    async with Gate(forward(mongodb_process.port)) as gate:
        yield gate


@pytest.fixture
async def gated(gate: Gate) -> AsyncIterator[Recorded]:
    manager = at(f"mongodb://127.0.0.1:{gate.port}/", timeout=TIMEOUT)
    yield manager
    await manager.close()


async def test_it_writes_reads_and_is_healthy(manager: Recorded) -> None:
    await manager.write(insert)
    assert (await manager.read(find))["n"] == 1
    database = manager.get_database()
    assert database.name == "app"
    assert database.codec_options.tz_aware
    health = await manager.health()
    assert health.healthy
    assert health.latency is not None
    assert health.pool is not None
    assert health.pool["max_size"] == 10
    assert health.pool["in_use"] == 0
    assert health.pool["idle"] >= 1


async def test_the_database_needs_an_open_connection(manager: Recorded) -> None:
    with pytest.raises(ConfigurationError, match=r"await connect\(\) first"):
        manager.get_database()


async def test_a_thousand_first_users_get_one_client_and_a_bounded_pool(manager: Recorded) -> None:
    clients = await asyncio.gather(*(manager.connect() for _ in range(1000)))
    assert len({id(client) for client in clients}) == manager.clients == 1
    assert manager.recorder.names() == ["ping"]
    await asyncio.gather(*(manager.read(find) for _ in range(1000)))
    assert manager.recorder.most <= 10


async def test_the_commands_are_exactly_those_asked_for(manager: Recorded) -> None:
    await manager.connect()
    await manager.write(insert)
    await manager.read(find)
    ping, written, _ = manager.recorder.commands
    assert manager.recorder.names() == ["ping", "insert", "find"]
    assert ping["$db"] == "admin"
    assert "txnNumber" not in written, "the driver's own retry of writes is off"


async def test_the_server_is_told_the_name_of_the_application(mongodb_process: Process) -> None:
    seen = bytearray()
    async with Gate(forward(mongodb_process.port, seen)) as gate:
        manager = at(f"mongodb://127.0.0.1:{gate.port}/")
        await manager.connect()
        await manager.close()
    assert b"application" in seen
    assert b"manystore" in seen


async def test_the_settings_hold_whatever_the_url_says() -> None:
    url = "mongodb://127.0.0.1/?retryWrites=true&retryReads=true&appName=mine&tls=true"
    client = await at(url, timeout=3, pool=PoolSettings(max_size=7, timeout=2))._client()
    options = client.options
    assert (options.retry_reads, options.retry_writes, options.timeout) == (False, False, None)
    pool = options.pool_options
    assert (pool.max_pool_size, pool.wait_queue_timeout, pool.connect_timeout) == (7, None, 3)
    assert pool.appname == "mine"
    assert pool._ssl_context
    assert pool._ssl_context.verify_mode.name == "CERT_REQUIRED"
    assert pool.tls_allow_invalid_hostnames is False
    assert (await at("mongodb://127.0.0.1/")._client()).options.pool_options.appname == "manystore"


def test_three_runs_in_one_process(mongodb_url: str) -> None:
    manager = at(mongodb_url)
    for _ in range(3):
        asyncio.run(manager.read(find))
    assert manager.clients == 3
    assert not manager.connected, "each client was closed with its loop"


def test_two_threads_with_a_loop_each(mongodb_url: str) -> None:
    manager = at(mongodb_url)
    barrier = threading.Barrier(2)
    answers: list[int] = []

    async def work() -> None:
        barrier.wait()
        answers.append(len(await asyncio.gather(*(manager.read(find) for _ in range(100)))))

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [100, 100]
    assert manager.clients == 2


# ---------------------------------------------------------------- failing


async def took(work: Any, error: type[Exception], at_most: float) -> Exception:
    start = time.monotonic()
    with pytest.raises(error) as caught:
        await work
    assert time.monotonic() - start <= at_most
    return caught.value


async def recovers(manager: MongoDBConnectionManager) -> None:
    """A read succeeds within a second, whatever those before it met."""
    start = time.monotonic()
    while True:
        try:
            await manager.read(find)
        except (StoreUnavailableError, DeadlineExceededError):
            assert time.monotonic() - start < 1
        else:
            break
    assert time.monotonic() - start < 1


async def test_down_at_start_up_and_there_later(gate: Gate, gated: Recorded) -> None:
    await gate.shut()
    error = await took(gated.connect(), StoreUnavailableError, LATEST)
    assert f"mongodb at 127.0.0.1:{gate.port}" in str(error)
    assert not gated.connected
    health = await gated.health()
    assert not health.healthy
    assert "cannot be reached" in health.detail
    await gate.open()
    await recovers(gated)


async def test_it_goes_away_and_comes_back(gate: Gate, gated: Recorded) -> None:
    await gated.read(find)
    await gate.shut()
    await took(gated.read(find), StoreUnavailableError, LATEST)
    await took(gated.write(insert), StoreUnavailableError, LATEST)
    await gate.open()
    await recovers(gated)


async def test_a_server_is_known_until_it_is_gone(gate: Gate, gated: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    ask = TopologyDescription.has_readable_server

    def counted(description: TopologyDescription) -> bool:
        nonlocal asked
        asked += 1
        return ask(description)

    await gated.read(find)
    client = await gated.connect()
    monkeypatch.setattr(TopologyDescription, "has_readable_server", counted)
    assert [gated._is_known(client) for _ in range(3)] == [True] * 3
    assert asked <= 1, "one description is asked once"
    await gate.shut()
    await took(gated.read(find), StoreUnavailableError, LATEST)
    assert not gated._is_known(client)
    await gate.open()
    await recovers(gated)
    assert gated._is_known(client)


async def test_it_goes_silent_and_comes_back(gate: Gate, gated: Recorded) -> None:
    await gated.read(find)
    gate.mode = "silent"
    await took(gated.read(find), DeadlineExceededError, LATEST)
    await took(gated.write(insert), OutcomeUnknownError, LATEST)
    await gate.open()
    await recovers(gated)


async def test_a_stopped_server(mongodb_process: Process) -> None:
    manager = at(f"mongodb://127.0.0.1:{mongodb_process.port}/", timeout=TIMEOUT)
    await manager.read(find)
    mongodb_process.signal(signal.SIGSTOP)
    try:
        await took(manager.read(find), DeadlineExceededError, LATEST)
        await took(at(f"mongodb://127.0.0.1:{mongodb_process.port}/", TIMEOUT).connect(), StoreUnavailableError, LATEST)
    finally:
        mongodb_process.signal(signal.SIGCONT)
    await recovers(manager)
    await manager.close()


async def test_reads_on_connections_that_died_idle_do_not_fail(gate: Gate, gated: Recorded) -> None:
    await asyncio.gather(*(gated.read(find) for _ in range(100)))
    health = await gated.health()
    assert health.pool
    assert health.pool["idle"] >= 5
    await gate.break_connections()
    await asyncio.gather(*(gated.read(find) for _ in range(40)))


async def test_a_server_killed_and_started_again(tmp_path: Any) -> None:
    process = mongodb_on(tmp_path)
    process.start()
    manager = at(f"mongodb://127.0.0.1:{process.port}/", timeout=2)
    try:
        await asyncio.gather(*(manager.read(find) for _ in range(100)))
        process.kill()
        process.start()
        await asyncio.gather(*(manager.read(find) for _ in range(40)))
    finally:
        await manager.close()
        process.kill()


async def test_a_write_is_sent_once(gate: Gate, gated: Recorded) -> None:
    await gated.read(find)
    await gate.break_connections()
    gated.recorder.commands.clear()
    with pytest.raises(OutcomeUnknownError, match="may or may not"):
        await gated.write(insert)
    assert gated.recorder.names().count("insert") <= 1


async def test_a_full_pool_says_so(gate: Gate) -> None:
    manager = at(f"mongodb://127.0.0.1:{gate.port}/", timeout=0.5, pool=PoolSettings(max_size=1, timeout=0.2))
    await manager.read(find)
    gate.mode = "silent"
    results = await asyncio.gather(*(manager.write(insert) for _ in range(3)), return_exceptions=True)
    # Which of the waiting ones gets the connection that is given up, if any, is a matter of milliseconds.
    assert {type(result).__name__ for result in results} == {"OutcomeUnknownError", "PoolExhaustedError"}
    assert any(isinstance(result, PoolExhaustedError) and "nothing was sent" in str(result) for result in results)
    await manager.close()


async def test_cancelling_the_first_user_cancels_no_other(manager: Recorded) -> None:
    first = asyncio.create_task(manager.connect())
    await asyncio.sleep(0)
    others = [asyncio.create_task(manager.connect()) for _ in range(10)]
    await asyncio.sleep(0)
    first.cancel()
    assert len({id(client) for client in await asyncio.gather(*others)}) == manager.clients == 1


# ---------------------------------------------------------------- configuration


def test_embedded_is_refused_with_the_reason_and_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match="silently wrong answers") as caught:
        load({"connections": {"mongodb": {"url": "embedded"}}})
    for word in ("config/compose.yaml", "sqlite"):
        assert word in str(caught.value)


async def test_no_log_of_a_connection_has_its_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    manager = at(f"mongodb://user:{SECRET}@127.0.0.1:{free_port()}/?authSource=admin", timeout=0.2)
    health = await manager.health()
    assert not health.healthy
    assert SECRET not in f"{caplog.text}{health}{manager!r}{manager.get_connection_info()}{manager.settings!r}"
    await manager.close()
