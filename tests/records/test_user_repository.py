"""Users on every store, line by line as the contract has them."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError, create_model

from app.core.errors import DuplicateRecordError, InvalidChangeError, StoreUnavailableError
from app.db import DataLayer, RepositoryRegistry
from app.db.models.user import UserInDB
from app.db.repositories.user_repository import UserRepository

ABSENT = "507f1f77bcf86cd799439011"
HASH = "$2b$12$planted-secret-hash"


@pytest.fixture
def users(data: DataLayer) -> UserRepository:
    return data.repository(UserRepository)


async def add(users: UserRepository, name: str = "john", **values: str) -> UserInDB:
    fields = {"email": f"{name}@x.io", "username": name, "firstname": "John", "lastname": "Doe", "password_hash": HASH}
    user = await users.create_user(**{**fields, **values})
    assert user is not None
    return user


def test_its_place_and_indexes() -> None:
    assert UserRepository.COLLECTION_NAME == "users"
    assert {index.name: (index.fields, index.unique) for index in UserRepository.indexes} == {
        "email_unique": (("email",), True),
        "username_unique": (("username",), True),
    }
    assert RepositoryRegistry.get_class("user") is UserRepository


async def test_the_samples_of_the_specification(data: DataLayer) -> None:
    assert isinstance(RepositoryRegistry.get("user"), UserRepository)
    assert RepositoryRegistry.get("user") is data.repository("user")
    repo = UserRepository()
    user = await repo.create_user(
        email="john@example.com", username="johndoe", firstname="John", lastname="Doe", password_hash="$2b$12$..."
    )
    assert isinstance(user, UserInDB)
    assert user.is_active
    by_email = await repo.get_user_by_email("john@example.com")
    assert by_email == user
    assert await repo.get_user_by_username("johndoe") == user
    assert await repo.get_user_by_id(user.id) == user
    assert await repo.get_user_by_id(ABSENT) is None
    success = await repo.update_user(user_id=user.id, update_data={"firstname": "Jonathan"})
    assert success
    assert success.firstname == "Jonathan"
    partial = create_model("Partial", lastname=(str, ...), is_active=(bool, True))(lastname="smith")
    changed = await repo.update_user(user.id, partial)
    assert changed
    assert (changed.lastname, changed.is_active) == ("Smith", True)
    assert await repo.check_email_exists("john@example.com") is True
    assert await repo.check_username_exists("johndoe") is True
    assert await repo.check_username_exists("nobody") is False


async def test_a_taken_email_or_username_gives_none(users: UserRepository) -> None:
    await add(users)
    assert await users.create_user("JOHN@X.IO ", "other", "John", "Doe", HASH) is None
    assert await users.create_user("other@x.io", "JOHN", "John", "Doe", HASH) is None
    assert await users.count() == 1


@pytest.mark.parametrize(("field", "values"), [("email", {"username": "other"}), ("username", {"email": "other@x.io"})])
async def test_create_names_the_field_that_is_taken(users: UserRepository, field: str, values: dict[str, str]) -> None:
    user = await add(users)
    again = UserInDB.model_validate({**user.model_dump(exclude={"id"}), **values})
    with pytest.raises(DuplicateRecordError) as caught:
        await users.create(again)
    assert caught.value.field == field
    assert caught.value.fields == (field,)
    assert "john" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "john" not in str(caught.value.__cause__)


async def test_a_thousand_creations_of_one_email_leave_one_user(users: UserRepository) -> None:
    results = await asyncio.gather(
        *(users.create_user("one@x.io", f"user{i}", "John", "Doe", HASH) for i in range(1000))
    )
    assert sum(result is not None for result in results) == 1
    assert await users.count() == 1


async def test_wrong_values_are_refused_before_the_write(users: UserRepository) -> None:
    with pytest.raises(ValidationError) as caught:
        await users.create_user("john@x.io", "j", "John", "Doe", HASH)
    assert HASH not in repr(caught.value.errors())
    assert await users.count() == 0


async def test_lookups_normalise_their_argument(users: UserRepository) -> None:
    user = await add(users, "quack")
    for email in ("QUACK@x.io", " quack@x.io ", "quac\N{KELVIN SIGN}@x.io"):
        assert await users.get_user_by_email(email) == user
        assert await users.check_email_exists(email)
    assert await users.get_user_by_username("QuAcK") == user
    assert await users.check_username_exists("QUACK")
    assert await users.get_user_by_id(user.id.upper()) == user


async def test_user_exists_answers_both(users: UserRepository) -> None:
    await add(users)
    assert await users.user_exists(email="john@x.io", username="jane") == {
        "email_exists": True,
        "username_exists": False,
    }
    assert await users.user_exists(username="john") == {"email_exists": False, "username_exists": True}
    assert await users.user_exists() == {"email_exists": False, "username_exists": False}


@pytest.mark.parametrize(
    "malformed", [None, "", "1", 5, "507f1f77bcf86cd79943901g", ABSENT + "\n", b"507f1f77bcf86cd799439011"]
)
async def test_a_malformed_id_is_an_error(users: UserRepository, malformed: Any) -> None:
    for call in (users.get_user_by_id, users.deactivate_user, users.delete_user):
        with pytest.raises(ValueError, match="Invalid ObjectId"):
            await call(malformed)
    with pytest.raises(ValueError, match="Invalid ObjectId"):
        await users.update_user(malformed, {"firstname": "Jane"})


async def test_an_update_validates_normalises_and_stamps(users: UserRepository) -> None:
    user = await add(users)
    await asyncio.sleep(0.002)
    changes = {"firstname": "  jane "}
    updated = await users.update_user(user.id, changes)
    assert updated is not None
    assert changes == {"firstname": "  jane "}
    assert (updated.firstname, updated.lastname, updated.email) == ("Jane", "Doe", "john@x.io")
    assert updated.updated_at > user.updated_at
    assert updated.created_at == user.created_at
    assert await users.get_user_by_id(user.id) == updated
    assert await users.update_user(user.id, update_fields={"lastname": "roe"}) is not None
    assert await users.update_user(ABSENT, {"firstname": "Jane"}) is None


@pytest.mark.parametrize("name", ["email", "username", "password_hash", "_id", "id", "created_at"])
async def test_forbidden_fields_stay(users: UserRepository, name: str) -> None:
    user = await add(users)
    with pytest.raises(ValueError, match="Cannot update forbidden fields"):
        await users.update_user(user.id, {"firstname": "Jane", name: "new-value"})
    assert await users.get_user_by_id(user.id) == user


@pytest.mark.parametrize(
    "changes",
    [
        {"firstname": "x"},
        {"firstname": "Jane", "lastname": "3"},
        {"updated_at": "2020-01-01T00:00:00Z"},
        {"nickname": "J"},
        {"is_active": "perhaps"},
        {"firstname": None},
        {"deleted_at": "2020-01-01T00:00:00Z"},
        {"$set": {"is_active": False}},
    ],
)
async def test_a_wrong_change_writes_nothing(users: UserRepository, changes: dict[str, Any]) -> None:
    user = await add(users)
    with pytest.raises(InvalidChangeError) as caught:
        await users.update_user(user.id, changes)
    assert isinstance(caught.value, ValueError)
    assert "perhaps" not in str(caught.value)
    assert await users.get_user_by_id(user.id) == user


async def test_the_changes_are_given_once(users: UserRepository) -> None:
    with pytest.raises(TypeError):
        await users.update_user(ABSENT)
    with pytest.raises(TypeError):
        await users.update_user(ABSENT, {"firstname": "Jane"}, update_fields={"firstname": "Jane"})


async def test_deactivating_keeps_the_user(users: UserRepository) -> None:
    user = await add(users)
    assert await users.deactivate_user(user.id) is True
    stored = await users.get_user_by_id(user.id)
    assert stored is not None
    assert not stored.is_active
    assert await users.deactivate_user(ABSENT) is False


@pytest.mark.parametrize("soft", [True, False])
async def test_a_deleted_user_is_absent_and_its_values_are_free(users: UserRepository, soft: bool) -> None:
    user = await add(users)
    assert await users.delete_user(user.id, soft=soft) is True
    assert await users.delete_user(user.id, soft=soft) is False
    assert await users.get_user_by_id(user.id) is None
    assert await users.get_user_by_email(user.email) is None
    assert await users.get_user_by_username(user.username) is None
    assert await users.user_exists(user.email, user.username) == {"email_exists": False, "username_exists": False}
    assert await users.update_user(user.id, {"firstname": "Jane"}) is None
    assert await users.deactivate_user(user.id) is False
    assert await users.with_deleted().count() == (1 if soft else 0)
    again = await add(users)
    assert again.id != user.id
    assert await users.get_user_by_email(user.email) == again


async def test_a_store_that_is_down_never_looks_like_not_found(store: str, tmp_path: Path) -> None:
    if store != "sqlite":
        pytest.skip("how a store is taken down differs")
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    async with DataLayer.from_config(
        {"data_dir": str(tmp_path), "connections": {"sqlite": {"path": "broken.db"}}}
    ) as data:
        users = data.repository(UserRepository)
        calls = [
            lambda: users.get_user_by_email("john@x.io"),
            lambda: users.get_user_by_username("john"),
            lambda: users.get_user_by_id(ABSENT),
            lambda: users.check_email_exists("john@x.io"),
            lambda: users.user_exists("john@x.io", "john"),
            lambda: users.create_user("john@x.io", "john", "John", "Doe", HASH),
            lambda: users.update_user(ABSENT, {"firstname": "Jane"}),
            lambda: users.delete_user(ABSENT),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError) as caught:
                await call()  # type: ignore[no-untyped-call]
            assert isinstance(caught.value, ConnectionError)
            assert "john@x.io" not in str(caught.value)


async def test_logs_have_ids_and_no_personal_values(users: UserRepository, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    user = await add(users, "planted")
    await users.create_user("planted@x.io", "other", "John", "Doe", HASH)
    await users.update_user(user.id, {"lastname": "Secretname"})
    await users.delete_user(user.id)
    assert caplog.text.count(user.id) >= 3
    for planted in ("planted", "Secretname", HASH):
        assert planted not in caplog.text
