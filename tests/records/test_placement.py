"""Where a repository lives, and what it may be made of."""

import sqlite3
from typing import Any

import pytest

from app.connections.base import ConnectionManager
from app.core.errors import ConfigurationError
from app.db import DataLayer, Entity, Repository
from app.testing.models import Address, Product, Products, fill


async def test_a_repository_without_a_class(data: DataLayer) -> None:
    numbers = data.repository(Entity)
    entity = await numbers.create(Entity())
    assert await numbers.get(entity.id) == entity
    assert data.repository(Entity) is numbers


async def test_db_is_a_layer_or_a_manager(data: DataLayer, manager: ConnectionManager[Any]) -> None:
    await fill(Products(data), "a")
    through_manager = Products(manager)
    assert await through_manager.count() == 1
    assert through_manager.manager is manager
    assert Products(data).manager is manager
    assert through_manager.collection.name == "products"


class EveryAttribute:
    """A synchronous pymongo database has a collection for every attribute that is asked for."""

    def __getattr__(self, name: str) -> object:
        return EveryAttribute()


def test_a_synchronous_driver_is_refused() -> None:
    connection = sqlite3.connect(":memory:")
    for wrong in (connection, EveryAttribute(), "sqlite", 5):
        with pytest.raises(TypeError, match=r"data\.connection"):
            Products(wrong)
    connection.close()


def test_a_repository_names_a_model() -> None:
    with pytest.raises(ConfigurationError, match="pydantic model class"):

        class Forward(Repository["Product"]):
            pass

    with pytest.raises(ConfigurationError, match="names no model"):
        Repository()
    with pytest.raises(ConfigurationError, match="Entity"):

        class NoKey(Repository[Address]):
            pass


async def test_a_repository_that_is_placed_on_nothing_says_so(store: str, config: dict[str, Any]) -> None:
    class Elsewhere(Repository[Product]):
        connections = ("redis",) if store != "redis" else ("sqlite",)

    async with DataLayer.from_config(config) as data:
        with pytest.raises(ConfigurationError, match="repositories"):
            data.repository(Elsewhere)
        with pytest.raises(ConfigurationError, match="repositories"):
            await Elsewhere().count()


async def test_the_settings_name_the_collection(config: dict[str, Any], store: str) -> None:
    config["repositories"]["products"] = {"connection": store, "collection": "wares"}
    async with DataLayer.from_config(config) as data:
        products = data.repository(Products)
        await fill(products, "a")
        assert products.collection.name == "wares"
        assert await products.count() == 1


async def test_a_class_names_its_collection_in_either_way(data: DataLayer) -> None:
    class Shelf(Repository[Product]):
        collection = "shelf"

    class Case(Repository[Product]):
        COLLECTION_NAME = "shelf"

    await data.repository(Shelf).create(Product(id="1", name="a"))
    assert (await data.repository(Case).get_or_raise("1")).name == "a"
    assert data.repository(Shelf).collection is not None
    assert Shelf.COLLECTION_NAME == "shelf"
