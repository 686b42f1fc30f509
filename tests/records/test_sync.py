"""The sync face: the same names without await, on every store."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from app.core.errors import (
    ConfigurationError,
    DuplicateRecordError,
    InvalidFilterError,
    RecordNotFoundError,
    UnsupportedOperationError,
)
from app.core.sync import Sync, SyncLayer
from app.db import DataLayer, F
from app.db.backends import BackendRegistry, Capability
from app.db.repositories.user_repository import UserRepository
from app.testing.models import Product, Products


@pytest.fixture
def data(config: dict[str, Any]) -> Iterator[SyncLayer]:
    with DataLayer.from_config(config).sync() as data:
        yield data


class Shop(Products):
    async def cheap(self, price: float) -> list[Product]:
        return await self.find(F.price < price, order_by="price")

    async def slowly(self) -> AsyncIterator[str]:
        for name in ("a", "b"):
            await asyncio.sleep(0)
            yield name


@pytest.fixture
def products(data: SyncLayer) -> Any:
    return data.repository(Shop)


def filled(products: Any, number: int = 5) -> list[Product]:
    made = [Product(id=f"id-{n:04}", name=f"n{n}", sku=f"s{n}", price=n) for n in range(number)]
    stored: list[Product] = products.create_many(made)
    return stored


def test_the_operations(products: Any) -> None:
    made = filled(products)
    assert products.get("id-0001") == made[1]
    assert products.get("none") is None
    assert products.update("id-0001", {"stock": 3}).stock == 3
    assert products.increment("id-0001", "stock") == 4
    assert products.find(F.price > 2, order_by="-price") == [made[4], made[3]]
    assert products.count() == 5
    assert products.delete("id-0000") is True
    assert products.upsert(Product(name="n9", sku="s4", price=9), on="sku").id == "id-0004"
    assert products.aggregate([{"$group": {"_id": None, "n": {"$sum": "$price"}}}]) == [{"_id": None, "n": 15.0}]
    assert [each.name for each in products.cheap(3)] == ["n1", "n2"]


def test_errors_are_the_same(products: Any) -> None:
    filled(products)
    with pytest.raises(RecordNotFoundError):
        products.get_or_raise("none")
    with pytest.raises(DuplicateRecordError) as caught:
        products.create(Product(name="x", sku="s1"))
    assert caught.value.field == "sku"
    with pytest.raises(InvalidFilterError):
        products.query().where("nmae", "=", "x")


def test_queries_and_pages(products: Any) -> None:
    made = filled(products)
    query = products.query().where("price", ">=", 1).order_by("price", "desc")
    assert query.limit(2).execute() == [made[4], made[3]]
    assert query.first() == made[4]
    assert query.select("name").limit(1).execute() == [{"name": "n4"}]
    assert "store" in query.explain()
    page = products.page(order_by="price", size=3)
    assert page.items == made[:3]
    assert products.page(order_by="price", size=3, after=page.next).items == made[3:]


def test_streams_are_iterators(products: Any) -> None:
    made = filled(products, 1200)
    assert sorted((each.id for each in products.stream(batch_size=100)), key=str) == [each.id for each in made]
    stream = products.stream(F.price >= 1199)
    assert next(stream) == made[1199]
    with pytest.raises(StopIteration):
        next(stream)
    for each in products.stream():
        assert each in made
        break
    assert list(products.slowly()) == ["a", "b"]
    with pytest.raises(InvalidFilterError):
        list(products.stream(batch_size=0))


def refuse_without_transactions(products: Any) -> None:
    try:
        with products.transaction():
            pass
    except UnsupportedOperationError as error:
        pytest.skip(str(error))


def create_and_raise(block: Any, error: type[BaseException], products: Any = None) -> None:
    with block as tx:
        (products or tx).create(Product(name="c"))
        raise error


def test_transactions(data: SyncLayer, products: Any, store: str) -> None:
    refuse_without_transactions(products)
    with products.transaction() as tx:
        tx.create(Product(id="a", name="a"))
        assert tx.repository(Shop).get("a").name == "a"
    with data.transaction(store) as tx:
        tx.repository(Shop).create(Product(id="b", name="b"))
        tx.commit()
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error):
            create_and_raise(products.transaction(), error)
    assert sorted(each.id for each in products.all()) == ["a", "b"]


def test_savepoints(products: Any, store: str) -> None:
    refuse_without_transactions(products)
    if Capability.SAVEPOINTS not in BackendRegistry.get(store).capabilities:
        pytest.skip(f"{store} has no savepoints")
    with products.transaction() as tx:
        tx.create(Product(id="a", name="a"))
        with pytest.raises(ZeroDivisionError):
            create_and_raise(tx.savepoint(), ZeroDivisionError, tx)
    assert [each.id for each in products.all()] == ["a"]


def test_leaving_rolls_back_what_is_open(config: dict[str, Any]) -> None:
    with DataLayer.from_config(config).sync() as data:
        refuse_without_transactions(data.repository(Shop))
        data.repository(Shop).create(Product(id="a", name="a"))
        tx = data.repository(Shop).transaction().__enter__()
        tx.create(Product(id="b", name="b"))
    with DataLayer.from_config(config).sync() as data:
        assert [each.id for each in data.repository(Shop).all()] == ["a"]


def test_many_threads(products: Any) -> None:
    products.create(Product(id="a", name="a"))
    counts: list[float] = []

    def work() -> None:
        counts.extend(products.increment("a", "stock") for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == list(range(1, 81))


def test_connections(data: SyncLayer, store: str) -> None:
    assert {name: health.healthy for name, health in data.health().items()} == {store: True}
    connection = data.connection(store)
    assert connection.is_healthy()
    assert connection.health().type == store
    assert connection is not data.connection(store)
    assert connection == data.connection(store)
    assert data.connections.get_connection_status() == {store: "connected"}
    with data.connection(store) as client:
        assert client is not None
    assert data.connections.get_connection_status() == {store: "not connected"}


def test_calls_that_name_no_layer_mean_this_one(data: SyncLayer, config: dict[str, Any]) -> None:
    other = DataLayer.from_config({**config, "data_dir": config["data_dir"] + "-other"})

    class Users(UserRepository):
        async def same(self) -> bool:
            return UserRepository().manager is self.manager

    assert data.repository(Users).same()
    asyncio.run(other.close())


@pytest.mark.usefixtures("leaves_nothing")
def test_leaving_closes_everything(config: dict[str, Any]) -> None:
    layer = DataLayer.from_config(config)
    data = layer.sync()
    with data as entered:
        assert entered is data
        assert isinstance(data.repository("user"), Sync)
        assert data.settings is layer.settings
        assert "create_user" in dir(data.repository("user"))
        assert (data.closed, data.repository("user").count()) == (False, 0)
    assert (data.closed, layer.closed) == (True, True)
    with pytest.raises(ConfigurationError, match="closed"):
        data.repository("user")
    with pytest.raises(ConfigurationError, match="closed"):
        layer.sync()
    data.close()


async def test_two_threads_get_one_repository(config: dict[str, Any]) -> None:
    both = threading.Barrier(2)

    class Slow(Products):
        def __init__(self, db: Any = None) -> None:
            super().__init__(db)
            both.wait(10)

    async with DataLayer.from_config(config) as layer:
        made = await asyncio.gather(*(asyncio.to_thread(layer.repository, Slow) for _ in range(2)))
    assert made[0] is made[1]


async def test_where_a_loop_runs_it_refuses_to_block_it(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config).sync()
    with pytest.raises(ConfigurationError, match="await"):
        data.repository("user")
    with pytest.raises(ConfigurationError, match="await"):
        data.__enter__()
    assert await asyncio.to_thread(lambda: data.repository("user").count()) == 0
    await asyncio.to_thread(data.close)
