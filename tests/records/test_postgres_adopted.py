"""A pool that the caller opened: used, and never closed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from app.connections.postgres import PostgresConnectionManager
from app.core.errors import DuplicateRecordError, PoolExhaustedError, StoreUnavailableError
from app.testing.models import Product, Products

Pool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]


@pytest.fixture
def url(postgres_schemas: Callable[[], str]) -> str:
    return postgres_schemas()


@pytest.fixture(params=[{"autocommit": True}, {}, {"row_factory": dict_row}], ids=["autocommit", "default", "dicts"])
async def pool(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    async with AsyncConnectionPool(url, min_size=1, max_size=2, timeout=2, kwargs=request.param, open=False) as pool:
        yield pool


@pytest.fixture
def products(pool: Pool) -> Products:
    return Products(pool)


def test_a_synchronous_pool_is_refused(url: str) -> None:
    with pytest.raises(TypeError, match="AsyncConnectionPool"):
        Products(ConnectionPool(url, open=False))


async def test_records(products: Products, pool: Pool) -> None:
    product = await products.create(Product(name="a", sku="a", tags=["x"]))
    assert await products.get(product.id) == product
    assert await products.update(product.id, {"stock": 5}) is not None
    assert await products.increment(product.id, "stock") == 6
    with pytest.raises(DuplicateRecordError) as caught:
        await products.create(Product(name="b", sku="a"))
    assert caught.value.fields == ("sku",)
    await products.create_many([Product(name=f"n{i}", sku=f"s{i}") for i in range(50)])
    await products.upsert_many([Product(name=f"n{i}", sku=f"s{i}", price=2) for i in range(50)], on="sku")
    assert await products.count({"price": 2}) == 50
    assert len([each async for each in products.stream(batch_size=7)]) == 51
    async with products.transaction() as tx:
        await tx.delete_many({"price": 2})
        assert await products.count() == 51
    assert await products.count() == 1
    # What was written is there for everybody, and the connections are as the caller had them.
    async with pool.connection() as connection:
        assert connection.autocommit is (isinstance(pool.kwargs, dict) and "autocommit" in pool.kwargs)
        cursor = await connection.execute("SELECT count(*) AS n FROM products")
        [row] = await cursor.fetchall()
        assert (row["n"] if isinstance(row, dict) else row[0]) == 1


async def test_it_is_never_closed(products: Products, pool: Pool) -> None:
    await products.count()
    await products.manager.close()
    assert not pool.closed
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")


async def test_every_connection_goes_back(products: Products, pool: Pool) -> None:
    await asyncio.gather(*(products.create(Product(name=f"{i}")) for i in range(100)))
    tasks = [asyncio.create_task(products.count()) for _ in range(20)]
    await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert await products.count() == 100
    async with pool.connection(), pool.connection():
        with pytest.raises(PoolExhaustedError):
            await products.count()
    assert await products.count() == 100


async def test_a_read_whose_connection_was_lost_is_run_again(products: Products, url: str) -> None:
    await products.create(Product(name="a"))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND query NOT LIKE 'autovacuum%' AND backend_type = 'client backend'"
            " AND query LIKE '%products%'"
        )
    assert await products.count() == 1


async def test_a_pool_that_is_not_open_says_so(url: str) -> None:
    pool: Pool = AsyncConnectionPool(url, open=False)
    with pytest.raises(StoreUnavailableError, match="open"):
        await Products(PostgresConnectionManager.around(pool)).count()


async def test_nothing_of_the_address_is_shown(url: str) -> None:
    pool: Pool = AsyncConnectionPool(f"{url}&password=planted&user=planted", open=False)
    manager = PostgresConnectionManager.around(pool)
    assert "planted" not in f"{manager!r} {manager.get_connection_info()}"
    assert "host" not in str(manager.get_connection_info()["url"])


async def test_a_url_makes_a_manager_of_its_own(url: str) -> None:
    async with PostgresConnectionManager.around(url) as manager:
        assert await Products(manager).count() == 0
