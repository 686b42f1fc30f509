"""PostgresRepository and RepositoryPool, the specification's names over the pool."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.errors import ConfigurationError, PoolExhaustedError, TransactionError
from app.db import DataLayer
from app.db.repositories.pool import RepositoryPool
from app.db.repositories.postgres_repository import PostgresRepository
from app.testing.models import Product, Products


class PostgresProducts(PostgresRepository[Product]):
    COLLECTION_NAME = "products"

    async def dearest(self) -> str:
        [[name]] = await self.execute_query("SELECT name FROM products WHERE price = (SELECT max(price) FROM products)")
        return str(name)


class Plain(PostgresRepository):  # type: ignore[type-arg]
    """Without a model there is SQL only."""


@pytest.fixture
async def postgres(postgres_schemas: Any) -> AsyncIterator[DataLayer]:
    section = {"url": postgres_schemas(), "pool": {"max_size": 2, "timeout": 0.3}}
    async with DataLayer.from_config({"connections": {"postgres": section}}) as data:
        yield data


async def test_a_repository_with_sql(postgres: DataLayer) -> None:
    for products in (PostgresProducts(), PostgresProducts(postgres.connection("postgres"))):
        await products.create_many([Product(name="pen", price=1), Product(name="desk", price=200)])
        assert await products.dearest() == "desk"
        assert products.connection_manager is products.manager is postgres.connection("postgres")
        [[count]] = await products.execute_command(
            "WITH gone AS (DELETE FROM products RETURNING 1) SELECT count(*) FROM gone"
        )
        assert count == 2


async def test_a_repository_of_sql_alone(postgres: DataLayer) -> None:
    made: list[PostgresRepository[Any]] = [PostgresRepository(), Plain(postgres.connection("postgres"))]
    for plain in made:
        assert await plain.execute_query("SELECT %s::int + 1", [1]) == [(2,)]


async def test_another_store_is_refused(tmp_path: Any) -> None:
    config = {
        "data_dir": str(tmp_path),
        "connections": {"sqlite": {}},
        "repositories": {"products": {"connection": "sqlite"}},
    }
    async with DataLayer.from_config(config) as data:
        with pytest.raises(ConfigurationError, match="of type sqlite"):
            PostgresProducts(data.connection("sqlite"))
        with pytest.raises(ConfigurationError, match="of type sqlite"):
            await PostgresProducts().dearest()


async def test_a_pool_holds_one_connection(postgres: DataLayer) -> None:
    manager = postgres.connection("postgres")
    await postgres.repository(Products).create(Product(id="a", name="a"))
    async with RepositoryPool() as pool:
        products = pool.repository(Products)
        assert pool.stats()["in_use"] == 1
        await pool.connection.execute("SELECT set_config('test.name', 'held', false)")
        await products.create_many(Product(name=f"n{n}") for n in range(3))
        assert await products.update("a", {"stock": 3}) is not None
        assert await products.count() == 4
        row = await (await pool.connection.execute("SELECT current_setting('test.name')")).fetchone()
        assert row == ("held",)
        assert pool.stats()["in_use"] == 1
        assert await manager.execute_query("SELECT count(*) FROM products") == [(4,)], "each statement is committed"
        with pytest.raises(ConfigurationError, match="one for each task"):
            await pool.__aenter__()
        with pytest.raises(TransactionError):
            products.transaction()
    assert manager.get_pool_stats()["in_use"] == 0
    with pytest.raises(TransactionError):
        await products.count()
    with pytest.raises(ConfigurationError, match="async with"):
        pool.repository(Products)


async def test_a_pool_is_bounded_and_gives_back(postgres: DataLayer) -> None:
    manager = postgres.connection("postgres")
    async with RepositoryPool(manager), RepositoryPool(manager) as second:
        third = RepositoryPool(manager)
        with pytest.raises(PoolExhaustedError):
            await third.__aenter__()
        await second.connection.execute("SELECT 1")
    async with third:
        assert manager.get_pool_stats()["in_use"] == 1
    with pytest.raises(ZeroDivisionError):
        await fail(manager)
    assert manager.get_pool_stats()["in_use"] == 0


async def fail(manager: Any) -> None:
    async with RepositoryPool(manager):
        raise ZeroDivisionError


async def test_the_pool_of_another_store(data: DataLayer, store: str) -> None:
    async with RepositoryPool(data.connection(store)) as pool:
        users = pool.repository("user")
        assert await users.count() == 0
        assert pool.connection is not None
        assert isinstance(pool.stats(), dict)
    await asyncio.gather(*(one_more(data, store, number) for number in range(8)))
    assert await data.repository(Products).count() == 8


async def one_more(data: DataLayer, store: str, number: int) -> None:
    async with RepositoryPool(data.connection(store)) as pool:
        await pool.repository(Products).create(Product(name=f"n{number}", sku=str(number)))
