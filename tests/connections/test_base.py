"""The seam: one client per loop, opened once, shared by all who ask, closed by those who own it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.config import load
from app.config.settings import SQLiteSettings
from app.connections import ConnectionFactory, ConnectionRegistry
from app.connections.sqlite import SQLiteConnectionManager, SQLiteEngine
from app.core.errors import ConfigurationError, NotRegisteredError, StoreUnavailableError

pytestmark = pytest.mark.usefixtures("leaves_nothing")


class Counting(SQLiteConnectionManager):
    """SQLite that counts its openings and takes its time over each."""

    opened = 0
    fails = 0

    def __init__(self, settings: SQLiteSettings, *, data_dir: Path) -> None:
        super().__init__(settings, data_dir=data_dir)
        self.closed_in: list[threading.Thread] = []

    async def _open(self) -> SQLiteEngine:
        self.opened += 1
        await asyncio.sleep(0.01)
        if self.fails:
            self.fails -= 1
            raise StoreUnavailableError("not yet")
        return await super()._open()

    async def _close(self, client: SQLiteEngine) -> None:
        self.closed_in.append(threading.current_thread())
        await super()._close(client)


@pytest.fixture
def manager(tmp_path: Path) -> Counting:
    return Counting(SQLiteSettings(), data_dir=tmp_path)


def test_a_constructor_does_no_io(manager: Counting, tmp_path: Path) -> None:
    assert not manager.connected
    assert list(tmp_path.iterdir()) == []


async def test_a_thousand_first_users_get_one_client(manager: Counting) -> None:
    clients = await asyncio.gather(*(manager.connect() for _ in range(1000)))
    assert len({id(client) for client in clients}) == 1
    assert manager.opened == 1
    assert manager.live is clients[0]
    await manager.close()


async def test_a_cancelled_first_caller_harms_nobody(manager: Counting) -> None:
    callers = [asyncio.create_task(manager.connect()) for _ in range(10)]
    await asyncio.sleep(0)
    callers[0].cancel()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert len({id(client) for client in outcomes[1:]}) == 1
    assert isinstance(outcomes[1], SQLiteEngine)
    assert manager.opened == 1
    await manager.close()


async def test_when_all_callers_are_cancelled_the_client_is_still_closed(manager: Counting) -> None:
    caller = asyncio.create_task(manager.connect())
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await manager.close()
    assert not manager.connected


async def test_closing_does_not_wait_for_an_opening_that_nobody_waits_for(
    manager: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def silent(_: Counting) -> SQLiteEngine:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        raise AssertionError

    monkeypatch.setattr(Counting, "_open", silent)
    caller = asyncio.create_task(manager.connect())
    await begun.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert not ended.is_set()  # the next caller would take it
    async with asyncio.timeout(1):
        await manager.close()
    assert ended.is_set()


async def test_a_failed_connect_reaches_all_and_is_not_kept(manager: Counting) -> None:
    manager.fails = 1
    outcomes = await asyncio.gather(*(manager.connect() for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [StoreUnavailableError] * 5
    assert manager.opened == 1
    assert not (await manager.health()).healthy or manager.opened == 2
    assert await manager.is_healthy()
    await manager.close()


async def test_disconnect_is_for_this_loop_and_not_for_ever(manager: Counting) -> None:
    first = await manager.connect()
    await manager.disconnect()
    await manager.disconnect()
    assert not manager.connected
    async with manager:
        assert await manager.connect() is not first
        assert await manager.execute_query("SELECT 1") == [(1,)]
    assert manager.opened == 2


async def test_disconnect_waits_for_an_opening(manager: Counting) -> None:
    caller = asyncio.create_task(manager.connect())
    await asyncio.sleep(0)
    await manager.disconnect()
    await caller
    assert not manager.connected


async def test_after_close_it_says_so(manager: Counting) -> None:
    await manager.connect()
    await manager.close()
    await manager.close()
    with pytest.raises(ConfigurationError, match="the connection 'sqlite' was closed"):
        await manager.connect()


def test_one_manager_serves_three_loops_in_turn(manager: Counting) -> None:
    async def use() -> int:
        await manager.execute_command("CREATE TABLE IF NOT EXISTS t (x)")
        await manager.execute_command("INSERT INTO t VALUES (1)")
        return len(await manager.execute_query("SELECT * FROM t"))

    assert [asyncio.run(use()) for _ in range(3)] == [1, 2, 3]
    assert manager.opened == 3
    manager.abandon()


def test_two_threads_with_a_loop_each(manager: Counting) -> None:
    clients: list[SQLiteEngine] = []
    barrier = threading.Barrier(2)

    async def use() -> None:
        clients.append(await manager.connect())
        await asyncio.to_thread(barrier.wait)
        for _ in range(200):
            await manager.execute_query("SELECT 1")
        await asyncio.to_thread(barrier.wait)
        await manager.disconnect()

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert clients[0] is clients[1], "one engine per file, used from both loops"
    assert manager.opened == 2


@asynccontextmanager
async def connected_elsewhere(manager: Counting, *, blocked: bool) -> AsyncIterator[threading.Thread]:
    """A loop in another thread that has a client, and goes on or stands still."""
    connected, done = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await manager.connect()
        connected.set()
        if blocked:
            done.wait(20)
        else:
            await asyncio.to_thread(done.wait, 20)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.to_thread(connected.wait)
    try:
        yield thread
    finally:
        done.set()
        await asyncio.to_thread(thread.join)


async def test_close_reaches_the_client_of_a_loop_in_another_thread(manager: Counting) -> None:
    async with connected_elsewhere(manager, blocked=False) as thread:
        await manager.connect()
        await manager.close()
        assert not manager.connected
        assert manager.closed_in == [thread, threading.current_thread()], "each on the loop that opened it"


async def test_close_does_not_wait_for_ever_for_a_blocked_loop(
    manager: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.connections.base._CLOSE_TIMEOUT", 0.1)
    async with connected_elsewhere(manager, blocked=True):
        await asyncio.wait_for(manager.close(), 5)
        assert not manager.connected


def test_close_reaches_a_loop_that_stands_still(manager: Counting) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(manager.connect())
    asyncio.run(manager.close())
    assert not manager.connected
    loop.close()


async def test_health_is_an_answer_and_no_error(manager: Counting) -> None:
    manager.fails = 1
    down = await manager.health()
    assert (down.healthy, down.detail, down.latency) == (False, "not yet", None)
    up = await manager.health()
    assert up.healthy
    assert up.latency is not None
    assert 0 < up.latency < 5
    assert up.server_version is not None
    assert up.server_version.startswith("3.")
    await manager.close()


# ---------------------------------------------------------------- the factory

NAMES = ["one", "two", "three"]


@pytest.fixture
def factory(tmp_path: Path) -> ConnectionFactory:
    connections = {name: {"type": "sqlite", "path": f"{name}.db"} for name in NAMES}
    return ConnectionFactory(load({"data_dir": str(tmp_path / "data"), "connections": connections}))


async def test_the_youngest_is_closed_first_and_a_failure_stops_nobody(
    factory: ConnectionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Recording(SQLiteConnectionManager):
        async def disconnect_all(self) -> None:
            closed.append(self.name)
            await super().disconnect_all()
            if self.name != "one":
                raise StoreUnavailableError(f"{self.name} does not close")

    monkeypatch.setitem(ConnectionRegistry._targets, "sqlite", Recording)
    managers = [factory.get_connection_manager(name) for name in NAMES]
    for manager in managers:
        await manager.connect()
    with pytest.raises(StoreUnavailableError, match="three does not close"):
        await factory.close_all()
    assert closed == ["three", "two", "one"]
    assert [manager.connected for manager in managers] == [False] * 3


async def test_close_all_lets_the_next_use_open_again_and_close_does_not(factory: ConnectionFactory) -> None:
    manager = factory.get_connection_manager(NAMES[0])
    await manager.connect()
    await factory.close_all()
    assert not manager.connected
    assert factory.get_connection_manager(NAMES[0]) is manager
    assert await manager.is_healthy()
    await factory.close()
    with pytest.raises(ConfigurationError, match="closed"):
        factory.get_connection_manager(NAMES[0])
    with pytest.raises(ConfigurationError, match="closed"):
        await manager.connect()


async def test_the_same_manager_each_time(factory: ConnectionFactory) -> None:
    assert factory.get_connection_manager("one") is factory.get_connection_manager("one")
    assert factory.get_connection_manager("one") is not factory.get_connection_manager("two")
    assert list(factory.opened) == ["one", "two"]


def test_many_threads_get_the_same_manager(factory: ConnectionFactory) -> None:
    barrier = threading.Barrier(16)
    found = set()

    def ask() -> None:
        barrier.wait()
        found.add(id(factory.get_connection_manager("one")))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1


async def test_status_opens_nothing(factory: ConnectionFactory, tmp_path: Path) -> None:
    assert factory.list_available_connections() == NAMES
    assert factory.get_connection_status() == dict.fromkeys(NAMES, "not connected")
    assert list(tmp_path.iterdir()) == []
    await factory.get_connection_manager("two").connect()
    assert factory.get_connection_status()["two"] == "connected"
    await factory.close_all()


def test_a_type_means_the_connection_called_like_it_or_the_only_one(tmp_path: Path) -> None:
    def of(connections: dict[str, object]) -> ConnectionFactory:
        return ConnectionFactory(load({"data_dir": str(tmp_path), "connections": connections}))

    assert of({"main": {"type": "sqlite"}}).get_connection_manager("sqlite").name == "main"
    assert of({"main": {"type": "sqlite"}, "sqlite": None}).get_connection_manager("sqlite").name == "sqlite"
    with pytest.raises(ConfigurationError, match="several connections are of type sqlite: name one of a, b"):
        of({"a": {"type": "sqlite"}, "b": {"type": "sqlite"}}).get_connection_manager("sqlite")
    with pytest.raises(
        NotRegisteredError, match=r"no connection named 'mian' \(did you mean 'main'\?\); there is: main"
    ):
        of({"main": {"type": "sqlite"}}).get_connection_manager("mian")
