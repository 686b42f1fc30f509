"""Transactions on PostgreSQL: cancelled anywhere, in each other's way, failed in the middle, and lost at the end."""

# ruff: noqa: PT012 - what a transaction raises, its whole block raises

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from app.connections.postgres import PostgresConnectionManager
from app.core.errors import (
    DeadlineExceededError,
    DuplicateRecordError,
    OutcomeUnknownError,
    PoolExhaustedError,
    TransactionError,
)
from app.db import DataLayer
from app.testing.models import Note, Notes, Product, Products


def layer(url: str, *, max_size: int = 3, timeout: float = 5) -> DataLayer:
    section = {"url": url, "timeout": timeout, "pool": {"max_size": max_size, "timeout": 2}}
    return DataLayer.from_config({"connections": {"postgres": section}})


@pytest.fixture
def url(postgres_schemas: Callable[[], str]) -> str:
    return postgres_schemas()


@pytest.fixture
async def data(url: str) -> AsyncIterator[DataLayer]:
    async with layer(url) as opened:
        yield opened


@pytest.fixture
def manager(data: DataLayer) -> PostgresConnectionManager:
    return data.connection("postgres")


@pytest.fixture
async def products(data: DataLayer) -> Products:
    products = data.repository(Products)
    await products.create_many([Product(id="1", name="a", sku="a"), Product(id="2", name="b", sku="b")])
    return products


async def nothing_is_left(products: Products, manager: PostgresConnectionManager) -> None:
    """Every connection is back, and none holds a lock."""
    assert manager.get_pool_stats()["in_use"] == 0
    async with asyncio.timeout(1):
        await products.update_many({}, {"tags": ["free"]}, everything=True)
    sql = "SELECT state FROM pg_stat_activity WHERE state LIKE 'idle in%' AND application_name = 'manystore'"
    async with asyncio.timeout(1):
        # The server sees the end of a connection a moment later.
        while await manager.execute_query(sql):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)


async def test_after_a_failed_statement_it_can_only_be_rolled_back(products: Products) -> None:
    with pytest.raises(TransactionError, match="savepoint"):
        async with products.transaction() as tx:
            with pytest.raises(DuplicateRecordError):
                await tx.create(Product(name="c", sku="a"))
            await tx.create(Product(id="3", name="d"))
    with pytest.raises(TransactionError, match="cannot be committed"):
        async with products.transaction() as tx:
            await tx.create(Product(id="3", name="d"))
            with pytest.raises(DuplicateRecordError):
                await tx.create(Product(name="c", sku="a"))
    assert await products.count() == 2


async def test_a_savepoint_outlives_what_failed_in_it(products: Products) -> None:
    async with products.transaction() as tx:
        await tx.create(Product(id="3", name="c"))
        with pytest.raises(DuplicateRecordError):
            async with tx.savepoint():
                await tx.create(Product(id="4", name="d"))
                await tx.create(Product(name="e", sku="a"))
        with pytest.raises(ZeroDivisionError):
            async with tx.savepoint():
                async with tx.savepoint():
                    await tx.create(Product(id="5", name="f"))
                raise ZeroDivisionError
        await tx.create(Product(id="6", name="g"))
    assert [each.id for each in await products.all()] == ["1", "2", "3", "6"]


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_ending_inside_a_savepoint_touches_no_other_transaction(
    products: Products, manager: PostgresConnectionManager, ending: str
) -> None:
    async with products.transaction() as tx, tx.savepoint():
        await tx.create(Product(id="3", name="c"))
        await getattr(tx, ending)()
    assert await products.count() == (3 if ending == "commit" else 2)
    await nothing_is_left(products, manager)


async def test_the_end_of_a_savepoint_touches_no_later_transaction(url: str) -> None:
    async with layer(url, max_size=1) as data:
        products = data.repository(Products)
        later = contextlib.AsyncExitStack()
        with pytest.raises(ZeroDivisionError):
            async with products.transaction() as tx, tx.savepoint():
                await tx.rollback()
                other = await later.enter_async_context(products.transaction())
                await later.enter_async_context(other.savepoint())
                await other.create(Product(id="3", name="c"))
                raise ZeroDivisionError
        await later.aclose()
        assert [each.id for each in await products.all()] == ["3"]


async def test_more_cancellations_do_not_stop_the_rollback(url: str) -> None:
    async with layer(url, max_size=1) as data:
        products = data.repository(Products)
        pids = []

        async def work() -> None:
            async with products.transaction() as tx:
                await tx.create(Product(name="c"))
                await asyncio.sleep(10)

        for _ in range(3):
            task = asyncio.create_task(work())
            await asyncio.sleep(0.2)
            for _ in range(5):
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
            assert task.cancelled()
            pids += await data.connection("postgres").execute_query("SELECT pg_backend_pid()")
        assert await products.count() == 0
        assert len(set(pids)) == 1, "a connection was given up"


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("after", [0, 0.0005, 0.001, 0.002, 0.004, 0.008])
async def test_cancelled_anywhere(
    products: Products, manager: PostgresConnectionManager, after: float, again: bool
) -> None:
    async def work(number: int) -> None:
        async with products.transaction() as tx:
            await tx.create(Product(name=f"c{number}"))
            async with tx.savepoint():
                await tx.increment("1", "stock")
                await tx.create(Product(name=f"d{number}"))
            await tx.update("2", {"stock": 7})

    for number in range(10):
        task = asyncio.create_task(work(number))
        await asyncio.sleep(after)
        task.cancel()
        if again:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
    await nothing_is_left(products, manager)
    done = await products.count({"name": {"$startswith": "c"}})
    assert await products.count({"name": {"$startswith": "d"}}) == done
    assert (await products.get_or_raise("1")).stock == done


async def test_two_in_each_others_way(products: Products, manager: PostgresConnectionManager) -> None:
    both = asyncio.Barrier(2)

    async def work(first: str, second: str) -> None:
        async with products.transaction() as tx:
            await tx.increment(first, "stock")
            await both.wait()
            await tx.increment(second, "stock")

    outcomes = await asyncio.gather(work("1", "2"), work("2", "1"), return_exceptions=True)
    [error] = [each for each in outcomes if each is not None]
    assert isinstance(error, TransactionError)
    assert "again" in str(error)
    assert isinstance(error.__cause__, psycopg.errors.DeadlockDetected)
    assert [each.stock for each in await products.all()] == [1, 1]
    await nothing_is_left(products, manager)


async def kill_others(manager: PostgresConnectionManager) -> None:
    await manager.execute_command(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND application_name = 'manystore'"
    )


async def test_a_connection_that_is_lost_in_the_middle(url: str, products: Products) -> None:
    async with layer(url) as other:
        with pytest.raises(TransactionError, match="nothing was changed"):
            async with products.transaction() as tx:
                await tx.create(Product(id="3", name="c"))
                await kill_others(other.connection("postgres"))
                await tx.create(Product(id="4", name="d"))
    assert await products.count() == 2


async def test_a_connection_that_is_lost_at_the_end(url: str, products: Products) -> None:
    async with layer(url) as other:
        with pytest.raises(OutcomeUnknownError, match="COMMIT"):
            async with products.transaction() as tx:
                await tx.create(Product(id="3", name="c"))
                await kill_others(other.connection("postgres"))
    assert await products.count() == 2


async def test_a_statement_that_takes_too_long(url: str, products: Products) -> None:
    async with layer(url, timeout=0.3) as other:
        slow = other.repository(Products)
        await slow.count()
        async with products.transaction() as tx:
            await tx.update("1", {"stock": 1})
            with pytest.raises(DeadlineExceededError):
                async with slow.transaction() as waiting:
                    await waiting.update("1", {"stock": 2})
        await nothing_is_left(slow, other.connection("postgres"))
        assert (await slow.get_or_raise("1")).stock == 1


async def test_closing_rolls_back_what_is_open(url: str) -> None:
    async with layer(url) as data, layer(url) as other:
        products = data.repository(Products)
        await products.create(Product(id="1", name="a"))
        begun = products.transaction()
        tx = await begun.__aenter__()
        await tx.update("1", {"stock": 1})
        await data.close()
        async with asyncio.timeout(1):
            assert await other.repository(Products).increment("1", "stock", 5) == 5
        with pytest.raises(TransactionError):
            await tx.get("1")
        await begun.rollback()


async def test_first_use_in_a_transaction_that_is_rolled_back(data: DataLayer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with data.transaction("postgres") as tx:
            await tx.repository(Notes).create(Note(text="a"))
            raise ZeroDivisionError
    notes = data.repository(Notes)
    assert await notes.count() == 0
    await notes.create(Note(text="b"))


async def test_a_pool_without_a_free_connection_says_so(url: str) -> None:
    async with layer(url, max_size=1) as data:
        products = data.repository(Products)
        async with products.transaction():
            with pytest.raises(PoolExhaustedError):
                await products.count()
        assert await products.count() == 0


async def test_what_changes_together_is_undone_together_inside_a_transaction(products: Products) -> None:
    """An update whose result the model refuses takes nothing else of the transaction with it."""
    async with products.transaction() as tx:
        await tx.create(Product(id="3", name="c"))
        with pytest.raises(ValueError, match="refused"):
            await tx.increment("1", "stock", 5000)
        await tx.create(Product(id="4", name="d"))
    assert [(each.id, each.stock) for each in await products.all()] == [("1", 0), ("2", 0), ("3", 0), ("4", 0)]


async def test_writers_outside_see_one_order(products: Products) -> None:
    async def add(_: int) -> Any:
        while True:
            try:
                async with products.transaction() as tx:
                    return await tx.increment("1", "stock")
            except TransactionError:  # another was first
                await asyncio.sleep(0.001)

    numbers = await asyncio.gather(*map(add, range(30)))
    assert sorted(numbers) == list(range(1, 31))


async def test_transactions_need_no_second_connection_for_a_table_that_is_there(url: str) -> None:
    async with layer(url) as first:
        await first.repository(Products).create(Product(id="1", name="a"))
    async with layer(url, max_size=2) as data:

        async def work() -> None:
            async with data.transaction("postgres") as tx:
                assert await tx.repository(Products).get("1") is not None

        await asyncio.gather(*(work() for _ in range(10)))
