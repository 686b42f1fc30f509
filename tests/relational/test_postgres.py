"""Sessions on PostgreSQL: a server that runs for us, one that is slow, silent or gone, and what errors show."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from app.core.errors import (
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
    TransactionError,
)
from app.db import DataLayer
from app.db.relational import create_all, engine, get_db, transaction

from ..connections.embedded.engines import gone, make_engine, server_of
from ..servers.faults import SECRET, free_port
from .models import Author, Counter, Model

TIMEOUT = 0.6


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One server for the module, which ends with its last user."""
    path = tmp_path_factory.mktemp("postgres")
    with asyncio.Runner() as runner:
        lease = runner.run(make_engine("postgres").acquire(path))
        yield path
        runner.run(lease.release())
    assert gone(path)


@pytest.fixture
def config(home: Path) -> dict[str, Any]:
    section = {"url": "embedded", "path": str(home), "timeout": TIMEOUT, "pool": {"max_size": 4, "timeout": 1}}
    return {"connections": {"postgres": section}}


@pytest.fixture
async def data(config: dict[str, Any]) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config(config) as layer:
        await create_all(Model.metadata)
        yield layer


async def count() -> int:
    async with get_db() as db:
        return await db.scalar(sa.select(sa.func.count()).select_from(Author)) or 0


def count_sync() -> int:
    with get_db() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(Author)) or 0


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("way", ["async", "sync"])
async def test_a_killed_server_fails_no_new_transaction(home: Path, way: str) -> None:
    before = await count(), await asyncio.to_thread(count_sync)
    os.kill(server_of(home), signal.SIGKILL)
    await asyncio.sleep(0.5)  # its processes outlive it for a moment, and until then a connection looks alive
    if way == "async":
        assert (await count(), await asyncio.to_thread(count_sync)) == before
    else:
        assert (await asyncio.to_thread(count_sync), await count()) == before


@pytest.mark.usefixtures("data")
async def test_closed_connections_are_not_lent() -> None:
    for _ in range(2):
        await asyncio.gather(*(count() for _ in range(4)))
        count_sync()
        async with get_db() as db:
            await db.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity "
                    "WHERE application_name = 'manystore' AND pid <> pg_backend_pid()"
                )
            )
        for _ in range(4):
            await count()
        count_sync()


async def test_a_server_of_a_layer_ends_with_it(tmp_path: Path) -> None:
    connections = {"postgres": {"url": "embedded", "path": str(tmp_path)}}
    async with DataLayer.from_config({"connections": connections}):
        await create_all(Model.metadata)
        await asyncio.to_thread(count_sync)
        assert server_of(tmp_path)
    async with asyncio.timeout(10):
        while not gone(tmp_path):  # noqa: ASYNC110 - files, which nobody announces
            await asyncio.sleep(0.02)


async def timed(work: Awaitable[Any]) -> tuple[float, BaseException]:
    start = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        await work
    return time.monotonic() - start, caught.value


async def sleep() -> None:
    async with get_db() as db:
        await db.execute(sa.text("SELECT pg_sleep(5)"))


def sleep_sync() -> None:
    with get_db() as db:
        db.execute(sa.text("SELECT pg_sleep(5)"))


@pytest.mark.parametrize("way", ["async", "sync"])
@pytest.mark.usefixtures("data")
async def test_a_statement_that_takes_too_long(way: str) -> None:
    took, error = await timed(sleep() if way == "async" else asyncio.to_thread(sleep_sync))
    assert isinstance(error, DeadlineExceededError)
    assert TIMEOUT <= took < 3 * TIMEOUT
    assert await count() == await asyncio.to_thread(count_sync)


@pytest.mark.parametrize("way", ["async", "sync"])
@pytest.mark.usefixtures("data")
async def test_a_server_that_is_silent(home: Path, way: str) -> None:
    await count()
    await asyncio.to_thread(count_sync)
    children = [
        int(each) for each in Path(f"/proc/{server_of(home)}/task/{server_of(home)}/children").read_text().split()
    ]
    frozen = [server_of(home), *children]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        took, error = await timed(count() if way == "async" else asyncio.to_thread(count_sync))
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert isinstance(error, DeadlineExceededError)
    assert took < 3 * TIMEOUT
    assert await count() == await asyncio.to_thread(count_sync)


SLOW_COMMIT = """
CREATE OR REPLACE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(case new.number when 7 then 5 else 0.4 end); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER slow_commit AFTER INSERT ON counters FOR EACH ROW EXECUTE FUNCTION slowly();
DROP TRIGGER slow_commit ON counters;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON counters DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slowly();
"""


@pytest.fixture
async def slow_commits(data: DataLayer) -> AsyncIterator[None]:
    assert not data.closed
    async with transaction() as db:
        for statement in SLOW_COMMIT.strip().split(";\n"):
            await db.execute(sa.text(statement.replace(":", r"\:")))
    yield
    async with transaction() as db:
        await db.execute(sa.text("DROP TRIGGER slow_commit ON counters"))


@pytest.mark.usefixtures("slow_commits")
async def test_a_commit_that_takes_too_long_is_undone() -> None:
    with pytest.raises(DeadlineExceededError):
        async with transaction() as db:
            db.add(Counter(number=7))
    async with get_db() as db:
        assert await db.scalar(sa.select(Counter.id).where(Counter.number == 7)) is None


@pytest.mark.usefixtures("slow_commits")
@pytest.mark.parametrize("way", ["async", "sync"])
async def test_a_connection_that_is_lost_at_the_commit(way: str) -> None:
    async def write() -> None:
        async with transaction() as db:
            db.add(Counter())

    def write_sync() -> None:
        with transaction() as db:
            db.add(Counter())

    task = asyncio.ensure_future(write() if way == "async" else asyncio.to_thread(write_sync))
    async with get_db() as db:
        end = sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
        )
        while not await db.scalar(end):
            await db.rollback()  # the list is one for each transaction
            await asyncio.sleep(0.01)
    with pytest.raises(OutcomeUnknownError):
        await task


@pytest.mark.usefixtures("data")
async def test_a_connection_that_is_lost_before() -> None:
    with pytest.raises(StoreUnavailableError, match="undone"):  # noqa: PT012 - all of the block
        async with transaction() as db:
            pid = await db.scalar(sa.text("SELECT pg_backend_pid()"))
            async with get_db() as other:
                await other.execute(sa.text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": pid})
            db.add(Author(email="lost"))
    assert await count() == 0


async def test_a_deadlock_says_what_to_do(data: DataLayer) -> None:
    async with transaction() as db:
        await db.execute(sa.text("ALTER DATABASE postgres SET deadlock_timeout = '50ms'"))
        db.add_all(made := [Counter(), Counter()])
    await data.relational.async_engine.dispose()
    turn = asyncio.Barrier(2)

    async def write(first: Counter, second: Counter) -> None:
        async with transaction() as db:
            await db.execute(sa.update(Counter).where(Counter.id == first.id).values(number=1))
            await turn.wait()
            await db.execute(sa.update(Counter).where(Counter.id == second.id).values(number=2))

    outcomes = await asyncio.gather(write(*made), write(*reversed(made)), return_exceptions=True)
    assert sorted(type(each).__mro__.__contains__(TransactionError) for each in outcomes) == [False, True]


async def test_connections_have_the_options_of_the_settings(home: Path) -> None:
    lease = await make_engine("postgres").acquire(home)
    section = {"url": lease.url, "pooled": True, "application_name": "mine", "timeout": 3}
    async with DataLayer.from_config({"connections": {"postgres": section}}) as data:
        async with data.relational.async_engine.connect() as asynchronous:
            found: Any = (await asynchronous.get_raw_connection()).driver_connection
            assert (found.prepare_threshold, found.timeout, found.autocommit) == (None, 3, False)
            assert await asynchronous.scalar(sa.text("SELECT current_setting('application_name')")) == "mine"
        with data.relational.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            assert (driver.prepare_threshold, driver.timeout, driver.autocommit) == (None, 3, False)
            assert connection.scalar(sa.text("SELECT current_setting('application_name')")) == "mine"
    await lease.release()


@pytest.mark.usefixtures("data")
async def test_the_pool_has_the_size_of_the_settings() -> None:
    async with get_db() as one, get_db() as two, get_db() as three, get_db() as four:
        for each in (one, two, three, four):
            await each.execute(sa.text("SELECT 1"))
        with pytest.raises(PoolExhaustedError, match="max_size"):
            await count()


@pytest.mark.parametrize("way", ["async", "sync"])
async def test_no_secret_is_shown(way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"postgresql://{SECRET}:{SECRET}@127.0.0.1:{free_port()}/{SECRET}"
    async with DataLayer.from_config({"connections": {"postgres": {"url": url, "timeout": 1}}}) as data:
        with pytest.raises(StoreUnavailableError, match="connection refused") as caught:
            await (count() if way == "async" else asyncio.to_thread(count_sync))
        shown = [f"{caught.value} {caught.value!r}", repr(data.relational.engine), repr(engine), caplog.text]
        error: BaseException | None = caught.value
        while error is not None:
            shown.append(f"{error} {error!r}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        assert SECRET not in "\n".join(shown)
