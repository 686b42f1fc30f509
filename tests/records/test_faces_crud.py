"""The storage layer of spec/000: its example runs, on the default store and on each other."""

import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Optional

import pytest
from pydantic import BaseModel

from app.core import current
from app.core.errors import DuplicateRecordError, InvalidChangeError, InvalidFilterError, StoreUnavailableError
from app.db import DataLayer, Index
from app.db.repositories.crud import (
    CRUDBase,
    MongoModel,
    PyObjectId,
    close_mongo_connection,
    get_database,
    init_db,
)

# The models of that text, spelled as it spells them.


class UserBase(BaseModel):
    name: str
    email: str
    company: Optional[str] = None  # noqa: UP045


class UserCreate(UserBase):
    password: str = ""


class UserUpdate(BaseModel):
    name: Optional[str] = None  # noqa: UP045
    company: Optional[str] = None  # noqa: UP045


class User(MongoModel, UserBase):
    expiry_date: Optional[datetime] = None  # noqa: UP045
    created_at: Optional[datetime] = None  # type: ignore[assignment]  # noqa: UP045
    updated_at: Optional[datetime] = None  # type: ignore[assignment]  # noqa: UP045


class UserCRUD(CRUDBase[User]):
    def __init__(self) -> None:
        super().__init__(User, "users")


async def example() -> None:
    """What `db_example.py` of that text does: create, get, update, list, find, delete."""
    user_crud = UserCRUD()
    user = await user_crud.create(UserCreate(name="Ada", email="ada@example.org", company="Example Corp"))
    assert isinstance(user, User)
    assert user.created_at is not None
    assert await user_crud.get(user.id) == user

    updated_user = await user_crud.update(user.id, UserUpdate(name="Ada L."))
    assert updated_user is not None
    assert (updated_user.name, updated_user.company) == ("Ada L.", "Example Corp")
    assert updated_user.updated_at is not None
    assert updated_user.updated_at >= user.created_at == updated_user.created_at

    await user_crud.create(UserCreate(name="Bob", email="bob@example.org"))
    assert [each.name for each in await user_crud.get_multi(skip=0, limit=10)] == ["Ada L.", "Bob"]
    assert [each.name for each in await user_crud.get_multi(skip=1, limit=1)] == ["Bob"]
    assert await user_crud.find_many({"company": "Example Corp"}) == [updated_user]

    success = await user_crud.delete(user.id)
    assert success is True
    assert await user_crud.delete(user.id) is False
    assert await user_crud.get(user.id) is None
    assert await user_crud.update(user.id, UserUpdate(name="x")) is None


async def test_the_example_on_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(current, "_open", weakref.WeakSet())  # one that another test forgot would be meant
    await init_db()
    assert get_database().connections.get_connection_status()["sqlite"] == "connected"
    await example()
    await close_mongo_connection()
    assert get_database().connections.get_connection_status()["sqlite"] == "not connected"
    assert await UserCRUD().count() == 1
    await close_mongo_connection()
    await get_database().close()
    assert (tmp_path / ".manystore" / "app.db").exists()


@pytest.fixture
async def users(config: dict[str, Any]) -> AsyncIterator[UserCRUD]:
    async with DataLayer.from_config({**config, "repositories": {}}):
        yield UserCRUD()


@pytest.mark.usefixtures("users")
async def test_the_example_on_every_store() -> None:
    assert get_database() is not None
    await init_db()
    await example()


async def test_documents_as_they_are(users: UserCRUD) -> None:
    created = await users.create({"name": "Ada", "email": "a", "expiry_date": datetime(2030, 1, 1)})  # noqa: DTZ001
    assert created.expiry_date == datetime(2030, 1, 1, tzinfo=UTC), "naive datetimes were always UTC"
    assert created.id == created._id == str(created.id)
    assert created.model_dump(by_alias=True)["_id"] == created.id
    assert User(_id=created.id, name="x", email="y").id == created.id
    given = User(name="Bob", email="b")
    assert (await users.create(given)).id == given.id
    assert await users.find_one({"name": "Bob"}) == await users.get(given.id)
    assert await users.count({"name": {"$in": ["Bob", "Ada"]}}) == 2
    assert await users.find_many(skip=1, limit=1) == [await users.get(given.id)]
    assert await users.get("no id") is None


async def test_what_is_refused(users: UserCRUD) -> None:
    created = await users.create(UserCreate(name="Ada", email="a"))
    with pytest.raises(InvalidChangeError):
        await users.update(created.id, {"nmae": "x"})
    with pytest.raises(InvalidChangeError):
        await users.update(created.id, {"created_at": datetime.now(UTC)})
    with pytest.raises(InvalidFilterError):
        await users.find_many({"$where": "1"})
    with pytest.raises(ValueError, match="ObjectId"):
        User(id="5", name="x", email="y")
    assert PyObjectId is not str


async def test_its_own_place_and_indexes(config: dict[str, Any], store: str, tmp_path: Path) -> None:
    class Unique(CRUDBase[User]):
        indexes = (Index("email", unique=True),)

    there = DataLayer.from_config(config)
    async with DataLayer.from_config({"data_dir": str(tmp_path / "here")}) as here:
        users = Unique(User, "members", there.connection(store))
        await users.create({"name": "a", "email": "a"})
        assert users.repository.COLLECTION_NAME == "members"
        with pytest.raises(DuplicateRecordError):
            await users.create({"name": "b", "email": "a"})
        assert await users.repository.query().where("email", "=", "a").count() == 1
        assert await Unique(User, "members").count() == await Unique(User, "members", here).count() == 0
        assert await Unique(User, "members", there).count() == 1
    await there.close()


async def test_a_store_that_is_down_is_known_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "app.db").mkdir()
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {}}}):
        with pytest.raises(StoreUnavailableError):
            await init_db()
