"""Sessions on SQLite: readers lock nothing, writers wait for each other, and the repositories see the same file."""

import asyncio
import gc
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.core.errors import ConfigurationError, DeadlineExceededError, StoreUnavailableError
from app.db import DataLayer
from app.db.models.user import UserInDB
from app.db.relational import create_all, engine, get_db, transaction
from app.db.relational.sqlite_async import AsyncConnection

from ..conftest import open_files
from .models import Counter, Model

WRITERS, EACH = 4, 25


@pytest.fixture
def database() -> str:
    return "sqlite"


def other(data: DataLayer) -> sqlite3.Connection:
    """A connection of another program's, that waits for nothing."""
    return sqlite3.connect(data.connection("sqlite").path, timeout=0, isolation_level=None)


async def test_a_reading_session_locks_nothing(data: DataLayer) -> None:
    connection = other(data)
    async with get_db() as db:
        assert await db.scalar(sa.select(sa.func.count()).select_from(Counter)) == 0
        await db.scalar(sa.text("WITH one AS (SELECT 1) SELECT * FROM one"))
        await db.scalar(sa.text("/* a comment */ SELECT 1 -- and another"))
        connection.execute("BEGIN IMMEDIATE")  # would fail at once behind a writer
        # And it sees what is committed meanwhile.
        connection.execute("INSERT INTO counters (id, version, number) VALUES ('1', 1, 1)")
        connection.execute("COMMIT")
        assert await db.scalar(sa.select(sa.func.count()).select_from(Counter)) == 1
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM counters",
        "with gone as (select 1) delete from counters",
        "-- first\n  UPDATE counters SET number = 1",
        "SAVEPOINT one",
        "CREATE TABLE other (id)",
    ],
)
async def test_a_writing_one_has_the_lock_from_its_first_statement(data: DataLayer, statement: str) -> None:
    connection = other(data)
    async with get_db() as db:
        await db.execute(sa.text(statement))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("BEGIN IMMEDIATE")
    connection.execute("BEGIN IMMEDIATE")
    connection.close()


@pytest.mark.usefixtures("data")
async def test_savepoints() -> None:
    async with transaction() as db:
        db.add(Counter(number=1))
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - all of the block
            async with db.begin_nested():
                db.add(Counter(number=2))
                await db.flush()
                raise ZeroDivisionError
        async with db.begin_nested():
            db.add(Counter(number=3))
    async with get_db() as db:
        assert set(await db.scalars(sa.select(Counter.number))) == {1, 3}


@pytest.mark.usefixtures("data")
async def test_tables_are_made_in_the_transaction() -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE undone (id)"))
        connection.rollback()
        assert "undone" not in sa.inspect(connection).get_table_names()


@pytest.mark.usefixtures("data")
async def test_autocommit_is_left_alone() -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM"))
        connection.execute(sa.text("CREATE TABLE done (id)"))
    assert "done" in sa.inspect(engine).get_table_names()


@pytest.mark.usefixtures("data")
async def test_many_writers_that_read_first_lose_nothing() -> None:
    async with transaction() as db:
        db.add(counter := Counter())

    async def write() -> None:
        for _ in range(EACH):
            async with transaction() as db:
                await db.scalar(sa.select(Counter.number))
                await db.execute(sa.update(Counter).values(number=Counter.number + 1))

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    async with get_db() as db:
        assert (await db.get_one(Counter, counter.id)).number == WRITERS * EACH


def test_many_writing_threads_lose_nothing(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)
    Model.metadata.create_all(engine)
    with transaction() as db:
        db.add(Counter())
    failed: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(EACH):
                with transaction() as db:
                    db.scalar(sa.select(Counter.number))
                    db.execute(sa.update(Counter).values(number=Counter.number + 1))
        except Exception as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with get_db() as db:
        assert (failed, db.scalar(sa.select(Counter.number))) == ([], WRITERS * EACH)
    asyncio.run(data.close())


async def test_a_lock_that_lasts_is_an_error_of_ours(config: dict[str, Any]) -> None:
    config["connections"]["sqlite"]["timeout"] = 0.1
    async with DataLayer.from_config(config) as data:
        await create_all(Model.metadata)
        connection = other(data)
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(DeadlineExceededError, match="nothing was changed"):
            async with transaction() as db:
                db.add(Counter())
        connection.execute("ROLLBACK")
        connection.close()
        async with transaction() as db:
            db.add(Counter())


async def test_waiting_for_the_turn_to_write_is_not_slow(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    config["connections"]["sqlite"]["slow_query"] = 0.1
    async with DataLayer.from_config(config) as data:
        await create_all(Model.metadata)
        caplog.clear()
        connection = other(data)
        connection.execute("BEGIN IMMEDIATE")

        async def write() -> float:
            start = time.monotonic()
            async with transaction() as db:
                db.add(Counter())
            return time.monotonic() - start

        task = asyncio.create_task(write())
        await asyncio.sleep(0.3)
        connection.execute("ROLLBACK")
        connection.close()
        assert await task > 0.2
        assert [each for each in caplog.messages if "slow query" in each] == []


@pytest.mark.usefixtures("data")
async def test_a_statement_that_nobody_waits_for_any_more_ends() -> None:
    counting = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000000) SELECT max(x) FROM c"
    )
    begun = time.monotonic()
    with pytest.raises(TimeoutError):  # noqa: PT012 - all of the block
        async with asyncio.timeout(0.3), transaction() as db:
            db.add(Counter())
            await db.flush()
            await db.execute(sa.text(counting))
    assert time.monotonic() - begun < 10
    async with transaction() as db:
        assert (await db.scalars(sa.select(Counter))).all() == []
        db.add(Counter())


async def test_a_connection_whose_opening_was_cancelled_is_closed() -> None:
    opened: list[sqlite3.Connection] = []
    gate = threading.Event()

    def open_file() -> sqlite3.Connection:
        gate.wait(5)
        opened.append(sqlite3.connect(":memory:", check_same_thread=False))
        return opened[0]

    connection = AsyncConnection(open_file)

    async def connect() -> None:
        await connection

    task = asyncio.create_task(connect())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    connection._thread.join(5)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


async def test_it_is_the_file_of_the_repositories(data: DataLayer) -> None:
    user = await data.repository("user").create(
        UserInDB(email="a@x.io", username="anna", firstname="Anna", lastname="Bell", password_hash="$2b$x")
    )
    async with get_db() as db:
        found = await db.scalar(sa.text("SELECT id FROM users"))
        assert found == user.id
        pragmas = [
            await db.scalar(sa.text(f"PRAGMA {each}")) for each in ("journal_mode", "foreign_keys", "synchronous")
        ]
        assert pragmas == ["wal", 1, 1]


async def test_a_database_in_memory_is_the_repositories_own(tmp_path: Path) -> None:
    config = {"data_dir": str(tmp_path), "connections": {"sqlite": {"path": ":memory:"}}}
    async with DataLayer.from_config(config):
        with pytest.raises(ConfigurationError, match="give it a file"):
            async with get_db():
                pass


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "app.db").mkdir()
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {}}}):
        with pytest.raises(StoreUnavailableError, match=r"app\.db"):
            await create_all(Model.metadata)
        with pytest.raises(StoreUnavailableError, match=r"app\.db"):
            Model.metadata.create_all(engine)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_loop_that_ends_at_any_moment_leaves_nothing(config: dict[str, Any]) -> None:
    """Each loop ends a little later in the life of its connections, without waiting for any."""

    async def begin() -> None:
        async with transaction() as db:
            db.add(Counter())

    for step in range(40):
        data = DataLayer.from_config(config)
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(create_all(Model.metadata)), loop.create_task(begin())]
        loop.run_until_complete(asyncio.sleep(step / 4000))
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()
        asyncio.run(data.close())
        del tasks, data
    gc.collect()  # a cursor of a cancelled statement keeps its file open


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_opens_its_own(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)
    Model.metadata.create_all(engine)
    with transaction() as db:
        db.add(Counter())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            inherited = open_files(Path(config["data_dir"]))
            with transaction() as db:
                db.execute(sa.update(Counter).values(number=7))
            code = 2 if inherited else 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with get_db() as db:
        assert db.scalar(sa.select(Counter.number)) == 7
    asyncio.run(data.close())
