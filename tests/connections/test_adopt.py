"""Clients that an application made itself: used as they are, and never closed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from app.config.settings import MongoDBSettings
from app.connections.adopt import adopted
from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import ConfigurationError
from app.db.repositories.user_repository import UserRepository
from app.testing.models import Product, Products

from ..records.mongodb_wire import Wire, found


@pytest.fixture
async def client(wire: Wire) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(f"mongodb://127.0.0.1:{wire.port}/shop?timeoutMS=2000")
    yield client
    await client.close()


async def test_a_repository_takes_a_client_or_a_database(wire: Wire, client: AsyncMongoClient[dict[str, Any]]) -> None:
    for db, name in ((client, "shop"), (client["other"], "other")):
        products = Products(db)
        await products.create(Product(id="1", name="a"))
        assert [each["$db"] for each in wire.commands] == [name, name]
        assert products.db.name == name
        assert products.collection.full_name == f"{name}.products"
        assert products.native.database.client is client
        wire.take()


async def test_it_is_not_closed(client: AsyncMongoClient[dict[str, Any]]) -> None:
    manager = Products(client).manager
    async with manager:
        assert await manager.connect() is client
    await manager.disconnect()
    await manager.close()
    assert await manager.is_healthy()
    assert (await client["shop"].command("buildInfo"))["ok"] == 1


async def test_its_options_hold(client: AsyncMongoClient[dict[str, Any]], wire: Wire) -> None:
    manager = adopted(client)
    assert manager is not None
    assert manager.settings.timeout == 2
    assert manager.settings.database == "shop"
    await manager.connect()
    assert manager.get_connection_info()["url"] == f"127.0.0.1:{wire.port}"


async def test_a_transaction_of_an_adopted_client(wire: Wire, client: AsyncMongoClient[dict[str, Any]]) -> None:
    products = Products(client)
    async with products.transaction() as tx:
        await tx.create(Product(id="1", name="a"))
        await tx.repository(UserRepository).count()
    assert "commitTransaction" in wire.commands[-1]


async def test_a_client_without_a_database_says_what_to_pass() -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient("mongodb://127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match=r"client\['name'\]"):
        Products(client)
    await client.close()


def test_what_would_hold_up_the_loop_is_refused() -> None:
    with pymongo.MongoClient[dict[str, Any]]("mongodb://127.0.0.1:1/", connect=False) as client:
        for wrong in (client, client["app"], client["app"]["things"]):
            with pytest.raises(TypeError, match="AsyncMongoClient"):
                Products(wrong)


def test_motor_is_refused() -> None:
    database = type("AsyncIOMotorDatabase", (), {"__module__": "motor.motor_asyncio"})()
    with pytest.raises(TypeError, match="AsyncMongoClient"):
        Products(database)


def test_what_belongs_to_no_driver_is_nobodys() -> None:
    for other in (5, "mongodb", object(), asyncio):
        assert adopted(other) is None


async def test_the_template_of_the_specification(wire: Wire) -> None:
    class ProductRepository(Products):
        async def find_by_sku(self, sku: str) -> Any:
            return await self.db[self.COLLECTION_NAME].find_one({"sku": sku})

    settings = MongoDBSettings(url=SecretStr(f"mongodb://127.0.0.1:{wire.port}/"), database="shop")
    async with MongoDBConnectionManager(settings) as manager:
        wire.answer = lambda command: found({"_id": "1", "sku": "x"}) if "find" in command else None
        assert (await ProductRepository(manager).find_by_sku("x"))["_id"] == "1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://hunter2swordfish", "a server"),
        ("mongodb://hunter2swordfish/app", "a server"),
        ("mongodb://hunter2swordfish,localhost/", "a server"),
        ("mongodb://localhost/app", "localhost"),
        ("mongodb://mongo:27017/app", "mongo:27017"),
        ("mongodb://db.example.com,[::1]:27017/", "db.example.com,[::1]:27017"),
        ("mongodb://user:secret@mongo/app", "mongo"),
        ("mongodb+srv://user:secret@cluster0.example.net/?w=majority", "cluster0.example.net"),
    ],
)
def test_a_word_that_may_be_a_password_is_not_shown(url: str, shown: str) -> None:
    manager = MongoDBConnectionManager(MongoDBSettings(url=SecretStr(url)))
    assert manager.get_connection_info()["url"] == shown
    assert manager.server == f"mongodb at {shown}"
