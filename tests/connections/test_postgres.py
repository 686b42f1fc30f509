"""PostgreSQL: a real server, and what it does to callers when it is slow, silent, killed or away."""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import load
from app.config.settings import PostgresPoolSettings, PostgresSettings
from app.connections import ConnectionFactory
from app.connections.postgres import PostgresConnectionManager
from app.core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)

from .embedded.engines import Engine, gone, kill_supervisor, make_engine, processes, server_of

psycopg = pytest.importorskip("psycopg")

TIMEOUT = 1.0
LATE = 1.1  # a timeout and ten per cent


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine("postgres")


@pytest.fixture(scope="module")
def home(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One server for the module; a test may stop it, and starts it again."""
    path = tmp_path_factory.mktemp("postgres")
    with asyncio.Runner() as runner:
        lease = runner.run(engine.acquire(path))
        yield path
        runner.run(lease.release())
    assert gone(path)


@pytest.fixture
async def url(engine: Engine, home: Path) -> AsyncIterator[str]:
    """The address of the running server, as if it were anybody's."""
    lease = await engine.acquire(home)
    await lease.revive()
    yield lease.url
    await lease.release()


def of(url: str, *, timeout: float = TIMEOUT, max_size: int = 10, wait: float = 5) -> PostgresConnectionManager:
    pool = PostgresPoolSettings(max_size=max_size, timeout=wait)
    return PostgresConnectionManager(PostgresSettings(url=SecretStr(url), timeout=timeout, pool=pool))


@pytest.fixture
async def manager(url: str) -> AsyncIterator[PostgresConnectionManager]:
    async with open_manager(url, timeout=10) as manager:
        yield manager


@asynccontextmanager
async def open_manager(url: str, **settings: Any) -> AsyncIterator[PostgresConnectionManager]:
    manager = of(url, **settings)
    try:
        yield manager
    finally:
        await manager.close()


async def backends(manager: PostgresConnectionManager) -> int:
    """The server's own count of the connections that are ours, with the one that asks."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'manystore'"
    [[number]] = await manager.execute_query(sql)
    return int(number)


# ---------------------------------------------------------------- what it does


async def test_queries_and_commands(manager: PostgresConnectionManager) -> None:
    await manager.execute_command("CREATE TABLE IF NOT EXISTS t (x int PRIMARY KEY, y text)")
    assert await manager.execute_command("TRUNCATE t") == []
    assert await manager.execute_command("INSERT INTO t VALUES (%s, %s) RETURNING x", (1, "%")) == [(1,)]
    assert await manager.execute_query("SELECT y FROM t WHERE x = %(x)s", {"x": 1}) == [("%",)]
    assert await manager.execute_query("SELECT '100%'") == [("100%",)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        await manager.execute_command("INSERT INTO t VALUES (1, '')")
    with pytest.raises(psycopg.errors.SyntaxError):
        await manager.execute_query("SELECT FROM WHERE")


async def test_a_transaction_on_one_connection(manager: PostgresConnectionManager) -> None:
    await manager.execute_command("CREATE TABLE IF NOT EXISTS moved (x int)")
    with pytest.raises(psycopg.errors.DivisionByZero):  # noqa: PT012 - the block is what is tested
        async with manager.connection() as connection, connection.transaction():
            await connection.execute("INSERT INTO moved VALUES (1)")
            await connection.execute("SELECT 1 / 0")
    assert await manager.execute_query("SELECT * FROM moved") == []
    assert manager.get_pool_stats()["in_use"] == 0


async def test_health_and_information(manager: PostgresConnectionManager) -> None:
    health = await manager.health()
    assert health.healthy
    assert health.server_version is not None
    assert health.server_version.startswith("18.")
    assert health.pool is not None
    assert {"max_size": 10, "size": 1, "idle": 1, "in_use": 0, "waiting": 0}.items() <= health.pool.items()
    assert manager.get_connection_info()["url"].startswith("/")
    assert await manager.execute_query("SHOW application_name") == [("manystore",)]


async def test_vectors_are_available(manager: PostgresConnectionManager) -> None:
    [[version]] = await manager.execute_query(
        "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
    )
    assert version >= "0.8"


async def test_embedded_by_its_url(engine: Engine, home: Path) -> None:
    settings = {"postgres": {"url": "embedded", "path": str(home)}}
    factory = ConnectionFactory(load({"data_dir": str(home), "connections": settings}))
    manager = factory.get_connection_manager("postgres")
    assert isinstance(manager, PostgresConnectionManager)
    assert await manager.execute_query("SELECT 1") == [(1,)]
    assert manager.get_connection_info() == {"type": "postgres", "url": "embedded", "path": str(home)}
    os.kill(server_of(home), signal.SIGKILL)
    await factory.close_all()
    assert engine.name == "postgres"


# ---------------------------------------------------------------- many callers


async def test_a_thousand_first_users_get_one_pool(url: str) -> None:
    async with open_manager(url, timeout=10) as manager:
        pools = await asyncio.gather(*(manager.connect() for _ in range(1000)))
        assert len({id(pool) for pool in pools}) == 1
        assert await backends(manager) == 1


async def test_a_thousand_commands_on_ten_connections(url: str) -> None:
    async with open_manager(url, timeout=10) as manager:
        rows = await asyncio.gather(*(manager.execute_command("SELECT %s::int", (i,)) for i in range(1000)))
        assert [row[0][0] for row in rows] == list(range(1000))
        assert 1 < await backends(manager) <= 10
        assert manager.get_pool_stats()["in_use"] == 0


async def test_nothing_becomes_free_in_time(url: str) -> None:
    async with open_manager(url, timeout=5, max_size=1, wait=0.2) as manager, manager.connection():
        start = time.monotonic()
        with pytest.raises(PoolExhaustedError, match="all 1 are in use"):
            await manager.execute_query("SELECT 1")
        assert 0.2 <= time.monotonic() - start < 2


def test_three_loops_and_two_threads(engine: Engine, home: Path) -> None:
    lease = asyncio.run(engine.acquire(home))
    manager = of(lease.url, timeout=10)

    async def use() -> int:
        rows = await asyncio.gather(*(manager.execute_query("SELECT 1") for _ in range(20)))
        return len(rows)

    assert [asyncio.run(use()) for _ in range(3)] == [20, 20, 20]
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(use()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20, 20]
    manager.abandon()
    asyncio.run(lease.release())


async def test_cancelled_callers_lose_no_connection(url: str) -> None:
    async with open_manager(url, timeout=10, max_size=2) as manager:
        callers = [asyncio.create_task(manager.execute_query("SELECT pg_sleep(0.05)")) for _ in range(40)]
        await asyncio.sleep(0.12)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        assert await asyncio.gather(*(manager.execute_query("SELECT 1") for _ in range(10))) == [[(1,)]] * 10
        stats = manager.get_pool_stats()
        assert stats["in_use"] == stats["waiting"] == 0


def _use_in_child(manager: PostgresConnectionManager) -> None:
    rows = asyncio.run(manager.execute_query("SELECT 2"))
    os._exit(0 if rows == [(2,)] else 1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_has_connections_of_its_own(manager: PostgresConnectionManager) -> None:
    await manager.execute_query("SELECT 1")
    child = multiprocessing.get_context("fork").Process(target=_use_in_child, args=(manager,))
    await asyncio.to_thread(child.start)
    await asyncio.to_thread(child.join, 20)
    assert child.exitcode == 0
    assert await manager.execute_query("SELECT 1") == [(1,)]


# ---------------------------------------------------------------- faults


async def timed(work: Awaitable[Any]) -> tuple[float, BaseException | Any]:
    start = time.monotonic()
    try:
        outcome = await work
    except AppError as error:
        outcome = error
    return time.monotonic() - start, outcome


async def fill(manager: PostgresConnectionManager, connections: int = 10) -> None:
    """Leave this many connections idle in the pool."""
    async with asyncio.timeout(10):
        while manager.get_pool_stats()["idle"] < connections:
            await asyncio.gather(*(manager.execute_query("SELECT pg_sleep(0.02)") for _ in range(2 * connections)))


async def eventually(work: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """How long it took until the work succeeded; raises its last error after the seconds."""
    start = time.monotonic()
    while True:
        try:
            await work()
        except AppError:
            if time.monotonic() - start > seconds:
                raise
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - start


async def test_a_restart_fails_no_read(manager: PostgresConnectionManager, home: Path, engine: Engine) -> None:
    for _ in range(2):
        await fill(manager)
        os.kill(server_of(home), signal.SIGKILL)
        await (await engine.acquire(home)).release()  # it has come back
        rows = await asyncio.gather(*(manager.execute_query("SELECT 1") for _ in range(40)), return_exceptions=True)
        assert rows == [[(1,)]] * 40
        await fill(manager)
        async with manager.connection() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity "
                "WHERE application_name = 'manystore' AND pid <> pg_backend_pid()"
            )
        await asyncio.sleep(0.1)  # their farewells have arrived
        for _ in range(10):
            assert await manager.execute_command("SELECT 1") == [(1,)], "a dead one is not used for a write"


async def test_a_connection_that_dies_under_a_read_is_replaced(manager: PostgresConnectionManager) -> None:
    """The read is run again; the write is not, and says that nobody knows."""
    await manager.execute_command("CREATE TABLE IF NOT EXISTS once (x int)")
    await manager.execute_command("TRUNCATE once")

    async def end_others() -> None:
        await asyncio.sleep(0.1)
        async with manager.connection() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.3%' "
                "AND pid <> pg_backend_pid()"
            )

    sleeping = "SELECT 7 FROM pg_sleep(0.3)"
    read, _ = await asyncio.gather(manager.execute_query(sleeping), end_others())
    assert read == [(7,)]
    writing = "INSERT INTO once SELECT 7 FROM pg_sleep(0.3)"
    for write in (manager.execute_command, manager.execute_query):
        outcome, _ = await asyncio.gather(write(writing), end_others(), return_exceptions=True)
        assert isinstance(outcome, OutcomeUnknownError)
    assert await manager.execute_query("SELECT * FROM once") == []


async def test_a_statement_that_takes_too_long(url: str) -> None:
    async with open_manager(url) as manager:
        await manager.execute_command("CREATE TABLE IF NOT EXISTS slow (x int)")
        for work in (manager.execute_query, manager.execute_command):
            took, outcome = await timed(work("SELECT pg_sleep(3)"))
            assert isinstance(outcome, DeadlineExceededError)
            assert took < TIMEOUT * LATE
        took, outcome = await timed(manager.execute_command("INSERT INTO slow SELECT 1 FROM pg_sleep(3)"))
        assert isinstance(outcome, DeadlineExceededError)
        assert "nothing was changed" in str(outcome)
        with pytest.raises(DeadlineExceededError):
            async with manager.connection() as connection:
                await connection.execute("SELECT pg_sleep(3)")
        assert await manager.execute_query("SELECT count(*) FROM slow") == [(0,)]


async def test_a_server_that_is_down_at_the_start(url: str) -> None:
    for address, reason in (
        ("postgresql://u:p@127.0.0.1:1/db", "127.0.0.1:1: connection refused"),
        ("postgresql:///db?host=/no/such/place", "there is no such socket"),
        (f"postgresql:///db?host=/{'long' * 30}", "longer than the system allows"),
        ("postgresql://u:p@no.such.host.invalid/db?sslmode=disable", "no.such.host.invalid"),
        (url.replace("@/postgres", "@/nowhere"), "there is no such user or database"),
    ):
        async with open_manager(address, timeout=2) as manager:
            took, outcome = await timed(manager.connect())
            assert isinstance(outcome, ConnectionError)
            assert isinstance(outcome, StoreUnavailableError)
            assert reason in str(outcome)
            assert took < 2 * LATE
            assert not (await manager.health()).healthy


async def test_a_server_that_accepts_and_says_nothing() -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=100)  # the kernel accepts
    async with open_manager(f"postgresql://u:p@127.0.0.1:{server.getsockname()[1]}/db") as manager:
        outcomes = await asyncio.gather(*(timed(manager.execute_query("SELECT 1")) for _ in range(20)))
        for took, outcome in outcomes:
            assert isinstance(outcome, StoreUnavailableError)
            assert "no answer within 1 s" in str(outcome)
            assert took < TIMEOUT * LATE
    server.close()


async def test_a_server_that_goes_away_and_comes_back(engine: Engine, tmp_path: Path) -> None:
    lease = await engine.acquire(tmp_path)
    async with open_manager(lease.url) as manager:
        await fill(manager)
        await lease.release()
        for _ in range(3):
            for work in (manager.execute_query, manager.execute_command):
                took, outcome = await timed(work("SELECT 1"))
                assert isinstance(outcome, StoreUnavailableError)
                assert took < TIMEOUT * LATE
        await asyncio.sleep(1.5)  # the driver's pool would wait longer between its attempts by now
        lease = await engine.acquire(tmp_path)
        assert await eventually(lambda: manager.execute_query("SELECT 1"), 1) < 1
        await asyncio.gather(*(manager.execute_query("SELECT 1") for _ in range(40)))
    await lease.release()


async def test_a_server_that_goes_silent_and_speaks_again(url: str, home: Path) -> None:
    async with open_manager(url) as manager:
        await fill(manager)
        frozen = [server_of(home), *(pid for pid in processes(home))]
        frozen = [pid for pid in frozen if pid not in processes(home, "supervisor.lock")]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            outcomes = await asyncio.gather(
                *(timed(manager.execute_query("SELECT 1")) for _ in range(5)),
                *(timed(manager.execute_command("SELECT 1")) for _ in range(5)),
            )
            late = await timed(manager.execute_query("SELECT 1"))  # on a new connection
            caller = asyncio.create_task(manager.execute_query("SELECT 1"))
            await asyncio.sleep(0.1)
            caller.cancel()
            cancelled, _ = await timed(asyncio.wait([caller]))
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        for took, outcome in [*outcomes, late]:
            assert isinstance(outcome, DeadlineExceededError | OutcomeUnknownError | StoreUnavailableError)
            assert took < TIMEOUT * LATE
        assert {type(outcome) for _, outcome in outcomes} == {DeadlineExceededError, OutcomeUnknownError}
        assert cancelled < TIMEOUT * LATE
        assert await eventually(lambda: manager.execute_query("SELECT 1"), 1) < 1
        await asyncio.gather(*(manager.execute_query("SELECT 1") for _ in range(40)))


async def test_an_embedded_server_whose_supervisor_was_killed(engine: Engine, tmp_path: Path) -> None:
    manager = PostgresConnectionManager(data_dir=tmp_path)
    await manager.execute_query("SELECT 1")
    kill_supervisor(manager.path)
    assert await manager.execute_query("SELECT 1") == [(1,)], "the read that finds it dead starts it again"
    await manager.close()
    assert gone(manager.path)
    assert engine.name == "postgres"


async def test_after_close_it_says_so(manager: PostgresConnectionManager) -> None:
    await manager.execute_query("SELECT 1")
    await manager.close()
    with pytest.raises(ConfigurationError, match="was closed"):
        await manager.execute_query("SELECT 1")
