"""Where a repository lives: as the settings say, never by accident."""

from pathlib import Path
from typing import Any, cast

import pytest

from app.core.errors import ConfigurationError, StoreUnavailableError
from app.db import DataLayer, Entity, Repository
from app.db.repositories.user_repository import UserRepository


class Product(Entity):
    name: str
    price: float


class Note(Entity):
    text: str


class NoteRepository(Repository[Note]):
    connections = ("sqlite",)


async def test_the_settings_place_a_repository(tmp_path: Path) -> None:
    settings = {
        "data_dir": str(tmp_path),
        "connections": {"main": {"type": "sqlite", "path": "main.db"}, "other": {"type": "sqlite", "path": "other.db"}},
        "repositories": {"user": {"connection": "other", "collection": "people"}},
    }
    async with DataLayer.from_config(settings) as data:
        users = data.repository(UserRepository)
        await users.create_user("a@example.com", "user_a", "Ann", "Other", "hash")
        assert users.db is data.connection("other")
        assert await data.connection("other").execute_query("SELECT count(*) FROM people") == [(1,)]
    assert [path.name for path in tmp_path.glob("*.db")] == ["other.db"]


async def test_a_class_finds_the_best_of_its_types(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path), "connections": {"records": {"type": "sqlite"}}}
    async with DataLayer.from_config(settings) as data:
        assert data.repository(UserRepository).db is data.connection("records")
        assert data.repository(NoteRepository).db is data.connection("records")


async def test_placed_on_nothing_is_refused_and_never_a_silent_sqlite(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path), "connections": {"qdrant": {"url": "embedded"}}}
    async with DataLayer.from_config(settings) as data:
        with pytest.raises(ConfigurationError, match=r"'user' is placed on no connection.*under `repositories`"):
            data.repository("user")
    assert not list(tmp_path.glob("*.db"))


async def test_the_best_of_its_types_decides_even_where_it_cannot_be_reached(tmp_path: Path) -> None:
    """Else the records would be on SQLite today, and on MongoDB tomorrow."""
    connections = {"mongodb": {"url": "mongodb://127.0.0.1:9", "timeout": 0.2}, "sqlite": {}}
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": connections}) as data:
        users = data.repository("user")
        assert users.manager is data.connection("mongodb")
        with pytest.raises(StoreUnavailableError):
            await users.count()
    assert not list(tmp_path.glob("*.db"))


async def test_a_misspelt_entry_is_told(tmp_path: Path) -> None:
    settings = {
        "data_dir": str(tmp_path),
        "connections": {"one": {"type": "sqlite"}},
        "repositories": {"usr": {"connection": "one"}},
    }
    async with DataLayer.from_config(settings) as data:
        with pytest.raises(ConfigurationError, match=r"'user' has no entry.*did you mean 'usr'"):
            data.repository("user")


async def test_what_is_no_repository_is_told(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        for wrong in cast("tuple[Any, ...]", (int, 5, None)):
            with pytest.raises(TypeError, match="a registered name, a Repository class or a pydantic model"):
                data.repository(wrong)


async def test_several_of_a_type_have_to_be_named(tmp_path: Path) -> None:
    connections = {"one": {"type": "sqlite", "path": "1.db"}, "two": {"type": "sqlite", "path": "2.db"}}
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": connections}) as data:
        with pytest.raises(ConfigurationError, match="name one of one, two"):
            data.repository("user")


async def test_a_model_is_enough(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        products = data.repository(Product)
        laptop = await products.create(Product(name="Laptop", price=1299.99))
        assert await products.get(laptop.id) == laptop
        assert data.repository(Product) is products
        assert products.COLLECTION_NAME == "products"


async def test_a_store_that_holds_no_records_says_so(tmp_path: Path) -> None:
    settings = {
        "data_dir": str(tmp_path),
        "connections": {"chromadb": {}},
        "repositories": {"user": {"connection": "chromadb"}},
    }
    async with DataLayer.from_config(settings) as data:
        with pytest.raises(ValueError, match=r"no storage backend named 'chromadb'.*there is: mongodb, postgres"):
            data.repository("user")
