"""SQLite on its own thread: who is told what, when a statement, a commit or the file fails."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.config.settings import SQLiteSettings
from app.connections.sqlite import SQLiteConnectionManager, SQLiteEngine
from app.core.errors import DeadlineExceededError, StoreUnavailableError

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def at(path: Path, timeout: float = 5) -> SQLiteConnectionManager:
    return SQLiteConnectionManager(SQLiteSettings(path=path, timeout=timeout))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SQLiteEngine]:
    manager = at(tmp_path / "app.db", timeout=0.5)
    engine = await manager.connect()
    await engine.write("CREATE TABLE t (x INTEGER UNIQUE)")
    yield engine
    await manager.close()


async def values(engine: SQLiteEngine) -> list[int]:
    return [x for (x,) in await engine.read("SELECT x FROM t ORDER BY x")]


@contextmanager
def lock_of_another(path: str) -> Iterator[sqlite3.Connection]:
    """The write lock of the file, held by a connection that is not the engine's."""
    other = sqlite3.connect(path, isolation_level=None, timeout=5)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        if other.in_transaction:
            other.execute("ROLLBACK")
        other.close()


async def test_writes_return_rows_and_are_read_back(engine: SQLiteEngine) -> None:
    assert await engine.write("INSERT INTO t VALUES (?) RETURNING x + 1", (1,)) == [(2,)]
    assert await engine.read("SELECT x FROM t WHERE x = ?", (1,)) == [(1,)]


async def test_the_file_is_set_up_for_safety(engine: SQLiteEngine) -> None:
    for pragma, expected in {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}.items():
        assert await engine.read(f"PRAGMA {pragma}") == [(expected,)]


async def test_synchronous_is_the_settings_choice(tmp_path: Path) -> None:
    manager = SQLiteConnectionManager(SQLiteSettings(path=tmp_path / "n.db", synchronous="normal"))
    assert await manager.execute_query("PRAGMA synchronous") == [(1,)]
    await manager.close()


# ---------------------------------------------------------------- groups


async def test_a_failing_statement_fails_its_own_job_only(engine: SQLiteEngine) -> None:
    writes = [engine.write("INSERT INTO t VALUES (?)", (x,)) for x in [1, 2, 2, 3, 1, 4]]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(each) for each in outcomes] == [list, list, sqlite3.IntegrityError, list, sqlite3.IntegrityError, list]
    assert await values(engine) == [1, 2, 3, 4]


async def test_a_job_of_several_statements_is_all_or_nothing(engine: SQLiteEngine) -> None:
    def both(connection: sqlite3.Connection, second: int) -> str:
        connection.execute("INSERT INTO t VALUES (10)")
        connection.execute("INSERT INTO t VALUES (?)", (second,))
        return "done"

    outcomes = await asyncio.gather(
        engine.write("INSERT INTO t VALUES (1)"),
        engine.transact(lambda connection: both(connection, 1)),
        engine.write("INSERT INTO t VALUES (2)"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], sqlite3.IntegrityError)
    assert await values(engine) == [1, 2]
    assert await engine.transact(lambda connection: both(connection, 11)) == "done"
    assert await values(engine) == [1, 2, 10, 11]


async def test_a_failing_commit_fails_every_write_of_its_group(engine: SQLiteEngine) -> None:
    """A deferred foreign key is checked by COMMIT, so the group goes down with it; the next group is its own."""
    await engine.write("CREATE TABLE child (x INTEGER REFERENCES t(x) DEFERRABLE INITIALLY DEFERRED)")
    hold = threading.Event()
    blocker = engine.submit(lambda _: hold.wait(5))
    group = [
        engine.write("INSERT INTO t VALUES (1)"),
        engine.write("INSERT INTO child VALUES (99)"),
        engine.write("INSERT INTO t VALUES (1)"),
        engine.write("INSERT INTO t VALUES (2)"),
    ]
    hold.set()
    await blocker
    outcomes = await asyncio.gather(*group, return_exceptions=True)
    assert [type(each) for each in outcomes] == [sqlite3.IntegrityError] * 4
    assert "UNIQUE" in str(outcomes[2]), "it had a reason of its own"
    assert "FOREIGN KEY" in str(outcomes[3])
    assert await values(engine) == []
    await engine.write("INSERT INTO t VALUES (3)")
    assert await values(engine) == [3]


async def test_a_full_disk_fails_the_write_and_not_the_engine(engine: SQLiteEngine) -> None:
    [[pages]] = await engine.read("PRAGMA page_count")
    await engine.write("CREATE TABLE big (x)")
    await engine.read(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnavailableError, match="full"):
        await engine.write("INSERT INTO big VALUES (zeroblob(1000000))")
    await engine.write("INSERT INTO t VALUES (1)")
    assert await values(engine) == [1]


@pytest.mark.parametrize("raised", [ValueError("mine"), StopIteration(), SystemExit(3), KeyboardInterrupt()])
async def test_whatever_a_job_raises_reaches_its_caller_and_the_thread_lives_on(
    engine: SQLiteEngine, raised: BaseException
) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (7)")
        raise raised

    future = engine.transact(work)
    await asyncio.wait([future], timeout=5)
    assert future.done()
    error = future.exception()
    assert error is raised or (error is not None and error.__cause__ is raised)
    assert await values(engine) == []
    await engine.write("INSERT INTO t VALUES (8)")
    assert await values(engine) == [8]


async def test_a_cancelled_write_that_has_not_begun_is_not_done(engine: SQLiteEngine) -> None:
    hold = threading.Event()
    blocker = engine.submit(lambda _: hold.wait(5))
    await asyncio.sleep(0.05)
    cancelled = engine.write("INSERT INTO t VALUES (1)")
    kept = engine.write("INSERT INTO t VALUES (2)")
    cancelled.cancel()
    hold.set()
    await blocker
    await kept
    assert await values(engine) == [2]


# ---------------------------------------------------------------- another process has the lock


async def test_reads_go_on_and_writes_wait_for_the_lock(engine: SQLiteEngine) -> None:
    with lock_of_another(engine.path) as other:
        writes = [engine.write("INSERT INTO t VALUES (?)", (x,)) for x in (1, 2)]
        for _ in range(20):
            assert await values(engine) == []
            await asyncio.sleep(0.005)
        assert not any(write.done() for write in writes)
        other.execute("INSERT INTO t VALUES (3)")
        other.execute("COMMIT")
        await asyncio.gather(*writes)
    assert await values(engine) == [1, 2, 3]


async def test_a_write_that_waits_too_long_raises_and_was_not_applied(engine: SQLiteEngine) -> None:
    with lock_of_another(engine.path):
        outcomes = await asyncio.gather(
            *(engine.write("INSERT INTO t VALUES (?)", (x,)) for x in range(1000)), return_exceptions=True
        )
        assert {type(each) for each in outcomes} == {DeadlineExceededError}
        assert "locked by another process for more than 0.5 s" in str(outcomes[0])
        assert await values(engine) == []
    await engine.write("INSERT INTO t VALUES (1)")
    assert await values(engine) == [1]


async def test_work_that_waits_for_the_lock_runs_once(engine: SQLiteEngine) -> None:
    runs = []

    def work(connection: sqlite3.Connection) -> None:
        runs.append(connection.execute("SELECT count(*) FROM t").fetchone())
        connection.execute("INSERT INTO t VALUES (1)")

    with lock_of_another(engine.path) as other:
        future = engine.transact(work)
        await asyncio.sleep(0.05)
        other.execute("INSERT INTO t VALUES (5)")
        other.execute("COMMIT")
        await future
    assert runs == [(1,)]


async def test_a_cancelled_waiting_write_is_given_up(engine: SQLiteEngine) -> None:
    with lock_of_another(engine.path):
        write = engine.write("INSERT INTO t VALUES (1)")
        await asyncio.sleep(0.05)
        write.cancel()
    await engine.write("INSERT INTO t VALUES (2)")
    assert await values(engine) == [2]


async def test_close_waits_for_what_waits_for_the_lock(tmp_path: Path) -> None:
    manager = at(tmp_path / "app.db")
    engine = await manager.connect()
    await engine.write("CREATE TABLE t (x)")
    with lock_of_another(engine.path) as other:
        write = engine.write("INSERT INTO t VALUES (1)")
        closing = asyncio.create_task(manager.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        other.execute("COMMIT")
        await closing
    assert await write == []
    with sqlite3.connect(engine.path) as check:
        assert check.execute("SELECT x FROM t").fetchall() == [(1,)]
    check.close()


async def test_a_read_of_a_wholly_locked_file_waits_and_then_raises(tmp_path: Path) -> None:
    manager = at(tmp_path / "app.db", timeout=0.3)
    await manager.execute_command("CREATE TABLE t (x)")
    await manager.close()
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")
    waiting = at(tmp_path / "app.db", timeout=0.3)
    with pytest.raises(StoreUnavailableError, match="locked"):
        await waiting.connect()
    other.close()
    assert await waiting.execute_query("SELECT * FROM t") == []
    await waiting.close()


# ---------------------------------------------------------------- the file


async def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    manager = at(tmp_path / "a" / "b" / "app.db")
    assert await manager.is_healthy()
    assert manager.get_connection_info() == {"type": "sqlite", "path": str(tmp_path / "a/b/app.db")}
    await manager.close()


async def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database, and long enough to be asked for its header " * 50)
    before = text.read_bytes()
    for path in (text, tmp_path, text / "below.db", Path("/dev/null/app.db")):
        manager = at(path)
        with pytest.raises(StoreUnavailableError, match="cannot open the SQLite database") as caught:
            await manager.connect()
        assert str(path) in str(caught.value)
        assert not manager.connected
    assert text.read_bytes() == before


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere, so it steps down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked_directory(tmp_path: Path) -> Iterator[Path]:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    path = tmp_path / "locked"
    path.mkdir()
    path.chmod(0o555)
    yield path
    path.chmod(0o755)


def test_an_unwritable_directory_is_named(locked_directory: Path) -> None:
    for path in (locked_directory / "app.db", locked_directory / "below" / "app.db"):
        with ordinary_user(), pytest.raises(StoreUnavailableError, match="cannot open the SQLite database"):
            asyncio.run(at(path).connect())
    assert list(locked_directory.iterdir()) == []


def test_a_read_only_file_is_read_and_not_written(tmp_path: Path) -> None:
    async def write() -> None:
        manager = at(tmp_path / "app.db")
        await manager.execute_command("CREATE TABLE t (x)")
        await (await manager.connect()).submit(
            lambda connection: connection.execute("PRAGMA query_only = ON").fetchall()
        )
        try:
            assert await manager.execute_query("SELECT * FROM t") == []
            with pytest.raises(StoreUnavailableError, match="readonly"):
                await manager.execute_command("INSERT INTO t VALUES (1)")
        finally:
            await manager.close()

    asyncio.run(write())


async def test_two_spellings_of_a_path_are_one_engine(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    managers = [at(tmp_path / "app.db"), at(tmp_path / "x" / ".." / "app.db"), at(tmp_path / "link" / "app.db")]
    engines = {id(await manager.connect()) for manager in managers}
    assert len(engines) == 1
    for manager in managers[:2]:
        await manager.close()
    assert await managers[2].execute_query("SELECT 1") == [(1,)]
    await managers[2].close()


async def test_databases_in_memory_are_separate() -> None:
    managers = [at(Path(":memory:")) for _ in range(2)]
    for number, manager in enumerate(managers):
        await manager.execute_command("CREATE TABLE t (x)")
        await manager.execute_command("INSERT INTO t VALUES (?)", (number,))
    assert [await manager.execute_query("SELECT x FROM t") for manager in managers] == [[(0,)], [(1,)]]
    for manager in managers:
        await manager.close()


# ---------------------------------------------------------------- closing


async def test_close_finishes_what_was_submitted_and_refuses_more(tmp_path: Path) -> None:
    manager = at(tmp_path / "app.db")
    engine = await manager.connect()
    await engine.write("CREATE TABLE t (x)")
    writes = [engine.write("INSERT INTO t VALUES (?)", (x,)) for x in range(500)]
    await manager.close()
    assert engine.label not in [thread.name for thread in threading.enumerate()]
    assert list(tmp_path.iterdir()) == [tmp_path / "app.db"], "no journal is left either"
    await asyncio.gather(*writes)
    with pytest.raises(StoreUnavailableError, match="is closed"):
        engine.write("INSERT INTO t VALUES (-1)")
    check = sqlite3.connect(engine.path)
    assert check.execute("SELECT count(*) FROM t").fetchone() == (500,)
    check.close()


async def test_closed_and_opened_again_at_once(tmp_path: Path) -> None:
    for number in range(20):
        manager = at(tmp_path / "app.db")
        await manager.execute_command("CREATE TABLE IF NOT EXISTS t (x)")
        await manager.execute_command("INSERT INTO t VALUES (?)", (number,))
        manager.abandon()
    last = at(tmp_path / "app.db")
    await last.connect()  # which waits for the engine before it
    assert await last.execute_query("SELECT count(*) FROM t") == [(20,)]
    await last.close()


def test_a_loop_that_ends_with_work_in_flight_harms_nobody(tmp_path: Path) -> None:
    manager = at(tmp_path / "app.db")

    async def leave() -> None:
        engine = await manager.connect()
        await engine.write("CREATE TABLE IF NOT EXISTS t (x)")
        for _ in range(100):
            engine.write("INSERT INTO t VALUES (1)")

    async def close() -> None:
        assert await manager.execute_query("SELECT count(*) >= 0 FROM t") == [(1,)]
        await manager.close()

    asyncio.run(leave())
    asyncio.run(close())
