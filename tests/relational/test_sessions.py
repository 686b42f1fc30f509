"""Sessions: what commits, what rolls back, and what comes back to the pool."""

import asyncio
import gc
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import sessionmaker

from app.core.errors import ConfigurationError, DuplicateRecordError, PoolExhaustedError
from app.db import DataLayer
from app.db.relational import (
    AsyncSession,
    Session,
    async_engine,
    create_all,
    drop_all,
    engine,
    get_db,
    transaction,
)
from app.db.relational.schema_lock import lock_schema

from .models import Author, Counter, Model


async def emails() -> set[str]:
    async with get_db() as db:
        return set(await db.scalars(sa.select(Author.email)))


@pytest.mark.usefixtures("data")
async def test_nothing_commits_by_itself() -> None:
    async with get_db() as db:
        db.add(Author(email="lost"))
        await db.flush()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - all of the block
        async with get_db() as db:
            db.add(Author(email="broken"))
            await db.flush()
            raise ZeroDivisionError
    async with get_db() as db:
        assert isinstance(db, AsyncSession)
        db.add(Author(email="kept"))
        await db.commit()
    assert await emails() == {"kept"}


@pytest.mark.usefixtures("data")
async def test_a_transaction_commits_at_its_end() -> None:
    async with transaction() as db:
        db.add(author := Author(email="kept"))
    assert author.email == "kept"  # readable without a session
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - all of the block
        async with transaction() as db:
            db.add(Author(email="broken"))
            await db.flush()
            raise ZeroDivisionError
    assert await emails() == {"kept"}


async def test_a_cancelled_transaction_is_rolled_back(data: DataLayer) -> None:
    waiting = asyncio.Event()

    async def write() -> None:
        async with transaction() as db:
            db.add(Author(email="cancelled"))
            await db.flush()
            waiting.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(write())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with transaction() as db:  # the lock is free, and so is the value
        db.add(Author(email="cancelled"))
    assert await emails() == {"cancelled"}
    assert data.relational.async_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_cancelled_statements_leave_the_pool_whole(data: DataLayer) -> None:
    async def write(number: int) -> None:
        async with transaction() as db:
            db.add(Author(email=f"{number}"))

    tasks = [asyncio.create_task(write(number)) for number in range(30)]
    for count, task in enumerate(tasks):
        await asyncio.sleep(0.001 * (count % 3))
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in ended} <= {asyncio.CancelledError, type(None)}
    async with transaction() as db:
        db.add(Author(email="after"))
    assert "after" in await emails()
    assert data.relational.async_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_the_same_without_a_loop(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)
    try:
        Model.metadata.create_all(bind=engine)
        with transaction() as db:
            assert isinstance(db, Session)
            db.add(Author(email="kept"))
        with pytest.raises(ZeroDivisionError), transaction() as db:  # noqa: PT012 - all of the block
            db.add(Author(email="broken"))
            db.flush()
            raise ZeroDivisionError
        with get_db() as db:
            db.add(Author(email="lost"))
            db.flush()
        with get_db() as db:
            author = db.scalars(sa.select(Author)).one()
            db.commit()
        assert author.email == "kept"  # readable without a session
    finally:
        asyncio.run(data.close())


def test_a_session_of_next_is_usable_and_its_connection_comes_back(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)
    try:
        Model.metadata.create_all(bind=engine)
        db = next(get_db())
        db.add(Author(email="kept"))
        db.commit()
        gc.collect()
        assert [each.email for each in db.query(Author).all()] == ["kept"]
        pool: Any = data.relational.engine.pool
        assert pool.checkedout() == 1
        db.close()
        assert pool.checkedout() == 0
        for _ in range(pool.size()):
            next(get_db()).query(Author).all()
        gc.collect()
        assert pool.checkedout() == 0
    finally:
        asyncio.run(data.close())


async def test_a_loop_over_it_gives_one_session_and_closes_it(data: DataLayer) -> None:
    async for db in get_db():
        assert await db.scalar(sa.select(sa.func.count()).select_from(Author)) == 0
    for session in get_db():
        assert session.query(Author).count() == 0
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - all of the block
        async for db in get_db():
            db.add(Author(email="broken"))
            await db.flush()
            raise ZeroDivisionError
    gc.collect()
    await asyncio.sleep(0.05)  # the loop closes what was left
    pools: list[Any] = [data.relational.engine.pool, data.relational.async_engine.pool]
    assert [each.checkedout() for each in pools] == [0, 0]
    assert await emails() == set()


def test_forgotten_sessions_do_not_exhaust_the_pool(config: dict[str, Any]) -> None:
    [section] = config["connections"].values()
    section |= {"timeout": 0.2} if "url" not in section else {"pool": {"max_size": 3, "timeout": 0.2}}
    data = DataLayer.from_config(config)
    gc.disable()
    try:
        Model.metadata.create_all(bind=engine)
        for _ in range(data.relational.engine.pool.size() + 1):  # type: ignore[attr-defined]
            next(get_db()).query(Author).all()
        held = [next(get_db()) for _ in range(data.relational.engine.pool.size())]  # type: ignore[attr-defined]
        for each in held:
            each.query(Author).all()
        with pytest.raises(PoolExhaustedError, match="max_size"), get_db() as db:
            db.query(Author).all()
        for each in held:
            each.close()
    finally:
        gc.enable()
        asyncio.run(data.close())


@pytest.mark.usefixtures("data")
async def test_a_scope_is_entered_once_at_a_time() -> None:
    scope = transaction()
    async with scope as db:
        db.add(Author(email="a@x.io"))
        with pytest.raises(ConfigurationError, match="anew for each"):
            async with scope:
                pass
    async with scope as db:
        db.add(Author(email="b@x.io"))
    assert await emails() == {"a@x.io", "b@x.io"}


@pytest.mark.usefixtures("data")
async def test_a_taken_value_is_named_and_is_sqlalchemys_error_too() -> None:
    async with transaction() as db:
        db.add(Author(email="secret@x.io"))
    for expected in (DuplicateRecordError, IntegrityError):
        with pytest.raises(expected) as caught:
            async with transaction() as db:
                db.add(Author(email="secret@x.io"))
        error: Any = caught.value
        assert (error.collection, error.fields) == ("authors", ("email",))
        assert "secret" not in f"{error} {error!r} {error.__cause__} {error.__cause__!r}"


async def test_what_stays_sqlalchemys_shows_no_value(data: DataLayer) -> None:
    with pytest.raises(IntegrityError) as caught:
        async with transaction() as db:
            await db.execute(sa.insert(Author).values(email=None, password_hash="secret"))
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    with pytest.raises(OperationalError if "sqlite" in str(data.relational.engine.url) else sa.exc.ProgrammingError):
        async with get_db() as db:
            await db.execute(sa.text("SELECT * FROM nowhere"))


async def test_names_lead_to_the_engines_of_the_current_layer(data: DataLayer) -> None:
    assert isinstance(engine, sa.Engine)
    assert isinstance(async_engine, sa.ext.asyncio.AsyncEngine)
    assert engine.pool is data.relational.engine.pool
    assert data.relational.engine is data.relational.engine
    assert async_engine.sync_engine is data.relational.async_engine.sync_engine
    assert "authors" in sa.inspect(engine).get_table_names()
    with sessionmaker(engine)() as db:
        assert db.query(Author).count() == 0
    seen = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def see(*arguments: Any) -> None:
        seen.append(arguments[2])

    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert seen == ["SELECT 1"]
    async with async_engine.connect() as connection_:
        assert await connection_.scalar(sa.text("SELECT 2")) == 2


@pytest.mark.usefixtures("data")
async def test_tables_are_made_and_dropped() -> None:
    await create_all(Model.metadata)  # again
    await drop_all(Model.metadata)
    assert sa.inspect(engine).get_table_names() == []


async def test_tables_that_many_make_at_once_are_made_once(config: dict[str, Any]) -> None:
    async with DataLayer.from_config(config) as data:
        counters = data.repository(Counter)
        await asyncio.gather(*(create_all(Model.metadata) for _ in range(4)), counters.count())


@pytest.mark.usefixtures("leaves_nothing")
def test_each_loop_has_an_engine_of_its_own(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)

    async def write(email: str) -> sa.ext.asyncio.AsyncEngine:
        await create_all(Model.metadata)
        async with transaction() as db:
            db.add(Author(email=email))
        return data.relational.async_engine

    first, second = asyncio.run(write("one")), asyncio.run(write("two"))
    assert first is not second
    assert (first.pool.checkedin(), second.pool.checkedin()) == (0, 0)  # type: ignore[attr-defined]

    async def read() -> set[str]:
        async with data:
            return await emails()

    assert asyncio.run(read()) == {"one", "two"}


async def test_loops_at_the_same_time_have_an_engine_each(data: DataLayer) -> None:
    async def write() -> sa.ext.asyncio.AsyncEngine:
        async with transaction() as db:
            db.add(Author(email="there"))
        return data.relational.async_engine

    here = data.relational.async_engine
    there = await asyncio.to_thread(asyncio.run, write())
    assert here is not there
    assert await emails() == {"there"}


@pytest.mark.usefixtures("leaves_nothing")
async def test_closing_the_layer_closes_the_engines(config: dict[str, Any]) -> None:
    async with DataLayer.from_config(config) as data:
        await create_all(Model.metadata)
        Model.metadata.create_all(engine)
        sync, asynchronous = data.relational.engine, data.relational.async_engine
        assert (sync.pool.checkedin(), asynchronous.pool.checkedin()) == (1, 1)  # type: ignore[attr-defined]
    assert (sync.pool.checkedin(), asynchronous.pool.checkedin()) == (0, 0)  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="closed"):
        _ = data.relational.engine
    with pytest.raises(ConfigurationError, match="closed"):
        _ = data.relational.async_engine


@pytest.mark.usefixtures("data")
async def test_counters_of_many_tasks_lose_nothing() -> None:
    async with transaction() as db:
        db.add(counter := Counter())

    async def add() -> None:
        async with transaction() as db:
            change = sa.update(Counter).where(Counter.id == counter.id)
            await db.execute(change.values(number=Counter.number + 1))

    await asyncio.gather(*(add() for _ in range(20)))
    async with get_db() as db:
        found = await db.get_one(Counter, counter.id)
        assert (found.number, found.version) == (20, 21)


def test_an_asynchronous_engine_wants_a_loop(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)
    with pytest.raises(ConfigurationError, match="async def"):
        _ = async_engine.pool
    asyncio.run(data.close())


@pytest.mark.parametrize("way", ["async", "sync"])
async def test_slow_statements_are_logged_without_their_values(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture, way: str
) -> None:
    [(name, section)] = config["connections"].items()
    section["slow_query"] = 0.05
    slowly = "SELECT pg_sleep(:seconds)"
    if name == "sqlite":
        slowly = (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < :seconds * 20000000) "
            "SELECT sum(x) FROM n"
        )
    async with DataLayer.from_config(config):
        for statement, seconds in (("SELECT :seconds", 0.0625), (slowly, 0.0625)):
            if way == "async":
                async with get_db() as db:
                    await db.execute(sa.text(statement), {"seconds": seconds})
            else:
                with get_db() as db_:
                    db_.execute(sa.text(statement), {"seconds": seconds})
    logged = [each.getMessage() for each in caplog.records if "slow query" in each.getMessage()]
    assert len(logged) == 1
    assert name in logged[0]
    assert "pg_sleep" in logged[0] or "RECURSIVE" in logged[0]
    assert "0.0625" not in logged[0]


async def test_making_tables_waits_for_others_who_do(config: dict[str, Any]) -> None:
    async with DataLayer.from_config(config) as data:
        with data.relational.engine.connect() as first:
            lock_schema(first)
            Model.metadata.create_all(first)
            second = asyncio.create_task(asyncio.to_thread(Model.metadata.create_all, engine))
            await asyncio.sleep(0.2)
            assert not second.done()
            first.commit()
        await second
