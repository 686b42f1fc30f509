"""Where reads of MongoDB go, and what they wait for, by the options of the address."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from app.config.settings import MongoDBSettings
from app.connections.mongodb import MongoDBConnectionManager
from app.testing.models import Product, Products

from .mongodb_wire import Wire

NEW = [Product(id="1", name="a"), Product(id="2", name="b")]


@pytest.fixture
async def careful(wire: Wire) -> AsyncIterator[MongoDBConnectionManager]:
    url = f"mongodb://127.0.0.1:{wire.port}/?replicaSet=rs0&readConcernLevel=majority&readPreference=primaryPreferred"
    manager = MongoDBConnectionManager(MongoDBSettings(url=SecretStr(url)))
    yield manager
    await manager.close()


@pytest.mark.parametrize("limit", [1, 2])
async def test_reads_are_as_the_address_has_them(wire: Wire, careful: MongoDBConnectionManager, limit: int) -> None:
    products = Products(careful)
    await products.find({"price": 1}, order_by="-name", skip=3, limit=limit)
    await products.exists({"price": 1})
    read, looked = wire.commands[1:]
    assert read["readConcern"] == looked["readConcern"] == {"level": "majority"}
    assert read["$readPreference"]["mode"] == looked["$readPreference"]["mode"] == "primaryPreferred"
    assert read["maxTimeMS"] == looked["maxTimeMS"] == round(careful.settings.timeout * 1000)
    assert (read["filter"], read["skip"], read["limit"]) == ({"price": 1}, 3, limit)
    assert list(read["sort"].items()) == [("name", -1), ("_id", 1)]
    assert (looked["filter"], looked["limit"], looked["projection"]) == ({"price": 1}, 1, {"_id": 1})


async def test_several_are_inserted_whatever_the_address_says_of_reads(
    wire: Wire, careful: MongoDBConnectionManager
) -> None:
    products = Products(careful)
    await products.count()
    wire.take()
    await products.create_many(NEW)
    assert [next(iter(each)) for each in wire.commands] == ["insert", "commitTransaction"]
    assert not any("$readPreference" in each for each in wire.commands)


async def test_a_transaction_reads_in_its_own_way(wire: Wire, careful: MongoDBConnectionManager) -> None:
    products = Products(careful)
    await products.count()
    wire.take()
    async with products.transaction() as transaction:
        await transaction.find_one({"sku": "a"})
        await transaction.find_one({"sku": "b"})
        await transaction.find({"sku": "c"})
        await transaction.create_many(NEW)
    first, second, *others = wire.commands
    assert not any("$readPreference" in each for each in wire.commands)
    assert [next(iter(each)) for each in others] == ["find", "insert", "commitTransaction"]
    assert first["readConcern"] == {"level": "snapshot"}
    assert first["startTransaction"]
    assert "readConcern" not in second
    assert first["txnNumber"] == second["txnNumber"]
