"""Transactions on SQLite: whose turn it is to write, and that nothing stays locked."""

import asyncio
import contextlib
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.connections.sqlite import SQLiteEngine
from app.core.errors import DeadlineExceededError, DuplicateRecordError, StoreUnavailableError, TransactionError
from app.db import DataLayer
from app.testing.models import Note, Notes, Product, Products

DATABASE = "records.db"


def layer(path: Path, *, database: str = DATABASE, timeout: float = 5) -> DataLayer:
    section = {"path": database, "synchronous": "normal", "timeout": timeout}
    return DataLayer.from_config({"data_dir": str(path), "connections": {"sqlite": section}})


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[DataLayer]:
    async with layer(tmp_path, timeout=0.5) as opened:
        yield opened


@pytest.fixture
async def products(data: DataLayer) -> Products:
    products = data.repository(Products)
    await products.create(Product(id="1", name="a", sku="a"))
    return products


async def writes_at_once(products: Products) -> None:
    """Nothing holds the write lock."""
    async with asyncio.timeout(2):
        await products.update_many({}, {"tags": ["written"]}, everything=True)


@contextlib.contextmanager
def another_process(path: Path) -> Any:
    other = sqlite3.connect(path / DATABASE, isolation_level=None, timeout=5)
    other.execute("BEGIN IMMEDIATE")
    with contextlib.closing(other):
        yield other


async def test_reads_outside_go_on_and_writes_wait(products: Products) -> None:
    async with products.transaction() as tx:
        await tx.update("1", {"stock": 1})
        assert await tx.find({"tags": {"$contains": 1}}) == []  # by a function of ours
        writes = asyncio.gather(products.increment("1", "stock", 10), products.create(Product(name="b", sku="b")))
        for _ in range(20):
            [seen] = await products.all()
            assert seen.stock == 0
            await asyncio.sleep(0.002)
        assert not writes.done()
    assert (await writes)[0] == 11


async def test_a_write_outside_does_not_wait_for_ever(products: Products) -> None:
    async with products.transaction() as tx:
        await tx.update("1", {"stock": 1})
        with pytest.raises(DeadlineExceededError, match=r"tx\.repository"):
            await products.update("1", {"stock": 2})
        with pytest.raises(DeadlineExceededError, match="transaction"):
            async with products.transaction():
                pytest.fail("two transactions are open")
        await tx.update("1", {"name": "c"})
    [stored] = await products.all()
    assert (stored.name, stored.stock) == ("c", 1)
    await writes_at_once(products)


async def test_the_lock_of_another_process_is_waited_for_without_blocking(products: Products, tmp_path: Path) -> None:
    async def work() -> None:
        async with products.transaction() as tx:
            assert await tx.count() == 1
            third = sqlite3.connect(tmp_path / DATABASE, timeout=0)
            with contextlib.closing(third), pytest.raises(sqlite3.OperationalError, match="locked"):
                third.execute("BEGIN IMMEDIATE")
            await tx.increment("1", "stock")

    with another_process(tmp_path) as other:
        task = asyncio.create_task(work())
        for _ in range(20):
            assert await products.count() == 1
            await asyncio.sleep(0.002)
        other.execute("UPDATE products SET stock = 10")
        assert not task.done()
        other.execute("COMMIT")
        await task
        assert (await products.get_or_raise("1")).stock == 11
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DeadlineExceededError, match="another process"):
            await work()
    await writes_at_once(products)


async def test_a_transaction_gets_its_turn_among_writes(products: Products) -> None:
    stop = False

    async def write() -> None:
        while not stop:
            await products.increment("1", "sold")

    writing = [asyncio.create_task(write()) for _ in range(16)]
    for _ in range(20):
        async with products.transaction() as tx:
            before = (await tx.get_or_raise("1")).sold
            await asyncio.sleep(0.002)
            assert (await tx.get_or_raise("1")).sold == before
            await tx.increment("1", "stock")
    stop = True
    await asyncio.gather(*writing)
    assert (await products.get_or_raise("1")).stock == 20


async def test_in_memory_everything_outside_waits(tmp_path: Path) -> None:
    async with layer(tmp_path, database=":memory:", timeout=0.3) as data:
        products, notes = data.repository(Products), data.repository(Notes)
        await products.create(Product(id="1", name="a"))
        async with products.transaction() as tx:
            await tx.update("1", {"stock": 1})
            assert await tx.find({"tags": {"$contains": 1}}) == []
            reading = asyncio.create_task(products.get_or_raise("1"))
            await tx.repository(Notes).create(Note(text="n"))
            await asyncio.sleep(0.02)
            assert not reading.done()
        assert (await reading).stock == 1
        async with products.transaction() as tx:
            with pytest.raises(DeadlineExceededError, match="transaction"):
                await products.all()
        with contextlib.suppress(ZeroDivisionError):
            async with products.transaction() as tx:
                await tx.delete("1")
                _ = 1 / 0
        assert (await products.count(), await notes.count()) == (1, 1)


kept: list[BaseException] = []


async def cancelled_after(steps: int, work: Any, again: int) -> bool:
    """Run work, cancel it after as many turns of the loop, and once more `again` turns later; whether it had ended."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    ended = not task.cancel()
    if again and not ended:
        for _ in range(again):
            await asyncio.sleep(0)
        task.cancel()
    try:
        await task
    except (asyncio.CancelledError, ZeroDivisionError) as error:
        kept.append(error)  # and with it the frames, which would let go of the transaction otherwise
    return ended


@pytest.fixture
def prompt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is asked for, what was submitted has been run, so that a turn of the loop is a step of the work."""
    submit = SQLiteEngine.submit

    def at_once(self: SQLiteEngine, *args: Any, **kwargs: Any) -> Any:
        future = submit(self, *args, **kwargs)
        signal: Any = _Signal()
        self._put(signal)
        signal.run_already.wait(5)
        return future

    if request.param:
        monkeypatch.setattr(SQLiteEngine, "submit", at_once)


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("again", [0, 1, 2])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("prompt", [False, True], indirect=True)
async def test_a_cancellation_at_any_moment_leaves_all_or_nothing(
    products: Products, again: int, *, fails: bool
) -> None:
    async def work(number: int) -> None:
        async with products.transaction() as tx:
            await tx.create(Product(id=f"x{number}", name=f"x{number}", sku=f"x{number}"))
            with contextlib.suppress(DuplicateRecordError):
                async with tx.savepoint():
                    await tx.create(Product(id=f"y{number}", name=f"y{number}"))
                    await tx.create(Product(id=f"z{number}", name=f"z{number}", sku="a"))
            await tx.create(Product(id=f"w{number}", name=f"w{number}", sku=f"w{number}"))
            if fails:
                raise ZeroDivisionError

    outcomes = set()
    ended = False
    number = 0
    while not ended:
        number += 1
        ended = await cancelled_after(number, work(number), again)
        present = [each.id for each in await products.all() if each.id[1:] == str(number)]
        assert present in ([], [f"w{number}", f"x{number}"])
        outcomes.add(bool(present))
        await writes_at_once(products)
    kept.clear()
    assert outcomes == ({False} if fails else {False, True})


class _Signal:
    """A job that says when those before it were run."""

    write, scope, deadline, error, result = False, None, float("inf"), None, None

    def __init__(self) -> None:
        self.future = asyncio.get_running_loop().create_future()
        self.run_already = threading.Event()

    def run(self, _: Any) -> None:
        self.run_already.set()


async def test_a_transaction_that_nobody_ended_is_rolled_back(products: Products) -> None:
    unit = products.transaction()
    await unit.__aenter__()
    await unit.create(Product(name="lost"))
    del unit
    gc.collect()
    await writes_at_once(products)
    assert await products.count() == 1


async def test_a_time_limit_within_a_savepoint_undoes_that_only(products: Products) -> None:
    async with products.transaction() as tx:
        await tx.create(Product(name="kept"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02), tx.savepoint():
                await tx.create(Product(name="late"))
                await asyncio.sleep(5)
    assert {each.name for each in await products.all()} == {"a", "kept"}


async def test_a_table_made_in_a_transaction_goes_with_it(products: Products, data: DataLayer) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with products.transaction() as tx:
            await tx.repository(Notes).create(Note(text="n"))
            _ = 1 / 0
    manager: Any = products.manager
    tables = await manager.execute_query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    assert tables == [("products",)]
    async with products.transaction() as tx:
        with contextlib.suppress(ZeroDivisionError):
            async with tx.savepoint():
                await tx.repository(Notes).create(Note(text="n"))
                _ = 1 / 0
        await tx.repository(Notes).create(Note(text="m"))
    assert [each.text for each in await data.repository(Notes).all()] == ["m"]


async def test_an_operation_that_fails_in_a_transaction_does_nothing(products: Products) -> None:
    async with products.transaction() as tx:
        for call in (tx.create_many, tx.upsert_many):
            with pytest.raises(DuplicateRecordError):
                await call(
                    [Product(name="b", sku="b"), Product(id="1" if call == tx.create_many else "", name="c", sku="a")]
                )
        await tx.create(Product(name="d"))
    assert {each.name for each in await products.all()} == {"a", "d"}


async def test_a_refused_commit_changes_nothing(products: Products) -> None:
    manager: Any = products.manager
    reference = "REFERENCES products(id) DEFERRABLE INITIALLY DEFERRED"
    await manager.execute_command(f"CREATE TABLE child (id TEXT {reference})")
    await manager.execute_command("INSERT INTO child VALUES ('1')")

    async def work() -> None:
        async with products.transaction() as tx:
            await tx.create(Product(name="b"))
            await tx.delete("1")

    with pytest.raises(TransactionError, match="refused to commit"):
        await work()
    assert [each.name for each in await products.all()] == ["a"]
    await writes_at_once(products)


async def test_closing_ends_an_open_transaction(tmp_path: Path) -> None:
    async with layer(tmp_path) as data:
        products = data.repository(Products)
        async with products.transaction() as tx:
            await tx.create(Product(name="lost"))
            waiting = asyncio.create_task(products.create(Product(name="kept")))
            await asyncio.sleep(0.02)
            await products.manager.disconnect()
            await waiting
            with pytest.raises(StoreUnavailableError, match="closed"):
                await tx.create(Product(name="late"))
            await tx.rollback()
        assert [each.name for each in await products.all()] == ["kept"]


async def test_transactions_of_several_loops_take_turns(products: Products) -> None:
    async def work() -> None:
        for _ in range(10):
            async with products.transaction() as tx:
                stock = (await tx.get_or_raise("1")).stock
                await asyncio.sleep(0)
                await tx.update("1", {"stock": stock + 1})

    def loop() -> None:
        async def main() -> None:
            await asyncio.gather(*(work() for _ in range(3)))
            await products.manager.disconnect()

        asyncio.run(main())

    await asyncio.gather(work(), *(asyncio.to_thread(loop) for _ in range(3)))
    assert (await products.get_or_raise("1")).stock == 100
