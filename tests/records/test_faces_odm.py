"""The document mapper of spec/001, on each of its backends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from app.core.errors import ConfigurationError, DuplicateRecordError, InvalidFilterError, RecordNotFoundError
from app.db import F, Index
from app.db.repositories import odm
from app.db.repositories.odm import (
    DocumentNotFoundError,
    DuplicateInsertError,
    Indexed,
    LocalODMBackend,
    MindtraceDocument,
    MongoMindtraceODMBackend,
    ODMBackend,
    ODMDocument,
    RedisODMBackend,
)

Make = Callable[[type[Any]], ODMBackend[Any]]


class MyDoc(MindtraceDocument):
    name: str
    value: int

    class Settings:
        use_cache = False


class UserDoc(MindtraceDocument):
    name: str
    age: Annotated[int, Field(ge=0)]
    email: Annotated[str, Indexed(unique=True)]

    class Settings:
        name = "users"
        use_cache = False


@pytest.fixture
def make(store: str, config: dict[str, Any]) -> Make:
    """Makes the backend of a class on each store that this text has one for."""
    section = config["connections"][store]
    match store:
        case "sqlite":
            return lambda model: LocalODMBackend(model, Path(config["data_dir"]) / "documents.db")
        case "redis":
            return lambda model: RedisODMBackend(model, section["url"])
        case "mongodb":
            return lambda model: MongoMindtraceODMBackend(model, db_uri=section["url"], db_name=section["database"])
    pytest.skip(f"that text has no backend for {store}")


@pytest.fixture
async def users(make: Make) -> AsyncIterator[ODMBackend[UserDoc]]:
    async with make(UserDoc) as users:
        yield users


async def test_the_quick_start(make: Make) -> None:
    backend = make(MyDoc)
    doc = await backend.insert(MyDoc(name="example", value=42))
    assert await backend.get(doc.id) == doc
    assert await backend.all() == [doc]
    assert await backend.find({"name": "example"}) == [doc]
    assert await backend.delete(doc.id) is None  # type: ignore[func-returns-value]
    assert await backend.all() == []
    assert backend.get_raw_model() is MyDoc
    await backend.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await backend.all()


async def test_the_errors(users: ODMBackend[UserDoc]) -> None:
    doc = await users.insert(UserDoc(name="Ada", age=36, email="ada@x.io"))
    with pytest.raises(DuplicateInsertError) as caught:
        await users.insert(UserDoc(name="Eve", age=20, email="ada@x.io"))
    assert (caught.value.field, isinstance(caught.value, DuplicateRecordError)) == ("email", True)
    with pytest.raises(DuplicateInsertError):
        await users.insert(doc)
    for call in (users.get, users.delete):
        for missing in ("non_existent_id", "0" * 24):
            with pytest.raises(DocumentNotFoundError) as absent:
                await call(missing)
            assert isinstance(absent.value, RecordNotFoundError)
    with pytest.raises(ValueError, match="age"):
        UserDoc(name="x", age=-1, email="y")


class NameOnly(BaseModel):
    name: str


async def test_find(users: ODMBackend[UserDoc]) -> None:
    for name, age in (("Ada", 36), ("Bob", 20), ("Cyd", 25), ("Dan", 25)):
        await users.insert(UserDoc(name=name, age=age, email=f"{name}@x.io"))

    async def names(*args: Any, **kwargs: Any) -> str:
        return "".join(each.name[0] for each in await users.find(*args, **kwargs))

    assert await names(sort="name") == "ABCD"
    assert await names({"age": {"$gte": 25}}, {"name": {"$ne": "Ada"}}, sort="-name") == "DC"
    assert await names(F.age > 20, sort=[("age", -1), ("name", 1)]) == "ACD"
    assert await names(age=25, name="Dan") == "D"
    assert await names(sort="+age", skip=1, limit=2) in ("CD", "DC")
    found = await users.find({"age": {"$gt": 20}}, projection_model=NameOnly, sort="-name", skip=1, limit=2)
    assert found == [NameOnly(name="Cyd"), NameOnly(name="Ada")]
    for wrong in ({"$where": "1"}, {"nmae": "x"}, {"age": {"$regex": "x"}}):
        with pytest.raises(InvalidFilterError):
            await users.find(wrong)
    for sort in ("nmae", [("name", 0)], [5]):
        with pytest.raises(InvalidFilterError):
            await users.find(sort=sort)  # type: ignore[arg-type]
    with pytest.raises(InvalidFilterError):
        await users.find(nmae="x")


async def test_aggregate(users: ODMBackend[UserDoc]) -> None:
    for name, age in (("Ada", 36), ("Bob", 25), ("Cyd", 25)):
        await users.insert(UserDoc(name=name, age=age, email=f"{name}@x.io"))
    pipeline: list[dict[str, Any]] = [{"$match": {"age": {"$lt": 30}}}, {"$group": {"_id": "$age", "n": {"$sum": 1}}}]
    assert await users.aggregate(pipeline) == [{"_id": 25, "n": 2}]
    with pytest.raises(InvalidFilterError):
        await users.aggregate([{"$invalid": {}}])


class Incoming(BaseModel):
    name: str
    age: int
    email: str


async def test_another_model_is_taken_by_its_fields(users: ODMBackend[UserDoc]) -> None:
    doc = await users.insert(Incoming(name="Ada", age=36, email="a"))
    assert type(doc) is UserDoc
    assert await users.get(doc.id) == doc


async def test_several_backends_of_one_collection(make: Make) -> None:
    async with make(UserDoc) as first, make(UserDoc) as second, make(MyDoc) as other:
        doc = await first.insert(UserDoc(name="Ada", age=36, email="a"))
        assert await second.get(doc.id) == doc
        assert await other.all() == []
        assert second.repository.COLLECTION_NAME == "users"


def test_one_backend_over_several_loops(make: Make, leaves_nothing: None) -> None:  # noqa: ARG001 - closed with each
    backend = make(MyDoc)
    doc = asyncio.run(backend.insert(MyDoc(name="a", value=1)))
    assert asyncio.run(backend.get(doc.id)) == doc


def test_sync(make: Make, leaves_nothing: None) -> None:  # noqa: ARG001 - closed at the end
    with make(UserDoc).sync() as users:
        doc = users.insert(UserDoc(name="Ada", age=36, email="a"))
        assert users.get(doc.id) == doc
        assert users.find({"name": "Ada"}) == users.all() == [doc]
        with pytest.raises(DuplicateInsertError):
            users.insert(UserDoc(name="Eve", age=36, email="a"))
        assert users.repository.query().where("age", ">", 30).count() == 1
        users.delete(doc.id)
        with pytest.raises(DocumentNotFoundError):
            users.get(doc.id)
        assert users.get_raw_model() is UserDoc


class Placed(ODMDocument):
    a: int = 0
    b: str = ""
    c: str = ""

    class Settings:
        indexes = ("a", ["a", ("b", -1)], Index("c", unique=True, name="c_unique"))


def test_what_a_class_says_of_its_collection(tmp_path: Path) -> None:
    repository = LocalODMBackend(Placed, tmp_path / "a.db").repository
    assert repository.COLLECTION_NAME == "placeds"
    assert repository.indexes == (Index("a"), Index("a", "b"), Index("c", unique=True, name="c_unique"))
    assert LocalODMBackend(UserDoc).repository.indexes == (Index("email", unique=True),)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_cache": True}, "use_cache"),
        ({"nmae": "x"}, "did you mean 'name'"),
        ({"indexes": ["nmae"]}, "no field 'nmae'"),
        ({"indexes": [[("name", 5)]]}, "an index is"),
        ({"indexes": [Index("x")]}, "no field 'x'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    class Document(ODMDocument):
        name: str

    Document.Settings = type("Settings", (), settings)  # type: ignore[attr-defined]

    with pytest.raises(ConfigurationError, match=message):
        LocalODMBackend(Document)


def test_the_names_of_that_text() -> None:
    for name in ("ODMBackend", "MongoODMBackend", "RedisODMBackend", "LocalODMBackend"):
        assert getattr(odm, name.replace("ODM", "MindtraceODM")) is getattr(odm, name)
    assert MindtraceDocument is ODMDocument


def test_a_wrong_address_shows_no_password() -> None:
    backend = MongoMindtraceODMBackend(MyDoc, db_uri="mongodb://u:secret@127.0.0.1:1/?appName=x", db_name="mydb")
    assert "secret" not in repr(backend) + repr(vars(backend))
    with pytest.raises(ConfigurationError) as raised:
        MongoMindtraceODMBackend(MyDoc, db_uri="mongodb://u:secret@127.0.0.1:1/?x", db_name="mydb")
    assert "secret" not in str(raised.value)
