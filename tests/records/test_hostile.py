"""Hostile names, operators, values and orders: a clear error or a value like any other, on every store."""

from typing import Any

import pytest
from pydantic import Field

from app.core.errors import AppError, ConfigurationError, InvalidChangeError, InvalidFilterError
from app.db import DataLayer, Entity, F, Repository
from app.db.backends import Index
from app.db.query import Compare, Not, Op, Predicate, to_predicate

from ..hostile import COLLECTIONS, CONDITIONS, NAMES, VALUES


class Note(Entity):
    title: str = ""
    body: dict[str, Any] = Field(default_factory=dict)
    size: int = 0


class Notes(Repository[Note]):
    pass


@pytest.fixture
async def notes(data: DataLayer) -> Notes:
    notes = data.repository(Notes)
    await notes.create_many([Note(id="1", title="one", body={"a": "x"}, size=1), Note(id="2", title="two", size=2)])
    return notes


async def unharmed(notes: Notes) -> bool:
    return [(note.id, note.title, note.size) for note in await notes.all()] == [("1", "one", 1), ("2", "two", 2)]


def nested(levels: int) -> dict[str, Any]:
    where: dict[str, Any] = {"title": "one"}
    for _ in range(levels):
        where = {"$and": [where]}
    return where


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(NAMES) + len(VALUES) + len(CONDITIONS) + len(COLLECTIONS) >= 120


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_a_hostile_name_is_an_error(notes: Notes, name: str) -> None:
    for filter_ in ({name: 1}, {name: {"$in": [1]}}, {"$or": [{name: None}]}, {name: {"$exists": False}}):
        with pytest.raises(InvalidFilterError):
            await notes.find(filter_)
    with pytest.raises(InvalidFilterError):
        await notes.find(order_by=name)
    with pytest.raises(InvalidFilterError):
        await notes.find(order_by=[(name, "asc")])
    with pytest.raises(InvalidFilterError):
        await notes.compare_and_set("1", {name: 1}, {"size": 5})
    with pytest.raises(InvalidFilterError):
        await notes.delete_many({name: {"$ne": 1}})
    with pytest.raises(InvalidChangeError):
        await notes.update("1", {"title": "changed", name: 1})
    with pytest.raises(InvalidChangeError):
        await notes.increment("1", name)
    assert await unharmed(notes)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_a_hostile_name_in_a_query_is_an_error(notes: Notes, name: str) -> None:
    for call in (
        lambda: notes.query().where(name, "=", 1),
        lambda: notes.query().where(F[name] == 1),
        lambda: notes.query().where(F.body[f'{name}"'] > 1),
        lambda: notes.query().order_by(name),
        lambda: notes.query().select(name),
        lambda: notes.query().select("title", name),
    ):
        with pytest.raises(InvalidFilterError):
            call()
    with pytest.raises(InvalidFilterError):
        await notes.upsert(Note(), on=name or " ")
    with pytest.raises(InvalidFilterError):
        await notes.upsert_many([Note()], on=["id", name])
    with pytest.raises(InvalidFilterError):
        await notes.page(order_by=name)
    with pytest.raises(InvalidFilterError):
        await notes.page(order_by=["title", f"-{name}"])
    pipelines: list[list[dict[str, Any]]] = [
        [{"$match": {name: 1}}],
        [{"$group": {"_id": f"${name}"}}],
        [{"$group": {"_id": None, "n": {"$sum": f"${name}"}}}],
        [{"$sort": {name: 1}}],
        [{"$unwind": f"${name}"}],
        [{"$project": {"x": f"${name}"}}],
        [{f"${name}": {}}],
    ]
    for stages in pipelines:
        with pytest.raises(InvalidFilterError):
            await notes.aggregate(stages)
    assert await unharmed(notes)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:30])
async def test_a_hostile_value_is_a_value_like_any_other(notes: Notes, value: str) -> None:
    for operator in ("$eq", "$contains", "$startswith"):
        assert await notes.count({"title": {operator: value}}) == 0
        assert await notes.count({"body.a": {operator: value}}) == 0
    assert await notes.query().where(F.title == value).execute() == []
    assert await notes.aggregate([{"$match": {"title": value}}, {"$count": "n"}]) == []
    for cursor in (value, value * 2):
        with pytest.raises(InvalidFilterError):
            await notes.page(after=cursor)
    assert await notes.count({"title": {"$in": [value, "one"]}}) == 1
    assert await notes.count({"title": {"$ne": value}}) == 2
    assert await notes.get(value) == (await notes.get("1") if value == "1" else None)
    stored = await notes.create(Note(title=value, body={"a": value, "b": [value], value: value}))
    for where in (
        {"title": value},
        {"body.a": value},
        {"body.b": {"$contains": value}},
        {"title": {"$startswith": value[:1]}},
    ):
        assert stored.id in [note.id for note in await notes.find(where)]
    assert await notes.get(stored.id) == stored
    assert await notes.delete_many({"title": value}) == 1
    assert await unharmed(notes)


@pytest.mark.parametrize("where", CONDITIONS, ids=lambda where: ascii(where).partition(" at 0x")[0][:40])
async def test_a_hostile_condition_is_an_error(notes: Notes, where: Any) -> None:
    for call in (notes.find, notes.find_one, notes.count, notes.exists):
        with pytest.raises(InvalidFilterError):
            await call(where)
    with pytest.raises(InvalidFilterError):
        await notes.delete_many(where)
    with pytest.raises(InvalidFilterError):
        await notes.update_many(where, {"size": 5})
    assert await unharmed(notes)


async def test_a_filter_has_a_depth(notes: Notes) -> None:
    assert await notes.count(nested(20)) == 1
    for levels in (40, 5000):
        with pytest.raises(InvalidFilterError, match="32 levels"):
            await notes.count(nested(levels))
    deep: dict[str, Any] = {"$eq": "one"}
    for _ in range(40):
        deep = {"$not": deep}
    with pytest.raises(InvalidFilterError, match="32 levels"):
        await notes.count({"title": deep})


@pytest.mark.parametrize("name", COLLECTIONS, ids=lambda name: ascii(name)[:30])
async def test_a_hostile_collection_is_an_error(notes: Notes, config: dict[str, Any], store: str, name: str) -> None:
    # An empty one is none, and then the repository's own.
    config["repositories"]["notes"] = {"connection": store, "collection": (name.strip() and name) or "x y"}
    async with DataLayer.from_config(config) as other:
        with pytest.raises(ConfigurationError):
            await other.repository(Notes).create(Note())
    assert await unharmed(notes)


@pytest.mark.parametrize("name", ["x; DROP TABLE notes", 'x"', "x'", "1x", "", "x y", "x\0"], ids=ascii)
async def test_a_hostile_index_is_an_error(data: DataLayer, notes: Notes, name: str) -> None:
    class Other(Entity):
        title: str = ""

    class Others(Repository[Other]):
        indexes = (Index(name, unique=True),)

    class Named(Repository[Other]):
        indexes = (Index("title", name=name or "a b"),)

    for repository in (Others, Named):
        with pytest.raises(AppError):
            await data.repository(repository).count()
    assert await unharmed(notes)


def test_a_predicate_that_a_caller_built_keeps_the_grammar() -> None:
    deep: Predicate = Compare("name", Op.EQ, "a")
    for _ in range(40):
        deep = Not(deep)
    wrong: list[Any] = [
        *(Compare('name"; DROP', Op.EQ, 1), Compare("name", Op.EQ, [1]), Compare("name", "nope", 1)),  # type: ignore[arg-type]
        *(
            Compare("name", Op.LT, None),
            Compare("name", Op.IN, 5),
            Compare("name", Op.EQ, float("nan")),
            deep,
            5,
            [deep],
        ),
    ]
    for each in wrong:
        with pytest.raises(InvalidFilterError):
            to_predicate(each)
