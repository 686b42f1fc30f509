"""How a SQLite table follows its model: a new field with a default becomes a column, anything else is a migration."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ConfigDict, Field, create_model

from app.core.errors import ConfigurationError, DuplicateRecordError, MigrationError, StoreUnavailableError
from app.db import DataLayer, Entity, Repository, SoftDeletable
from app.db.backends import Index
from app.db.query import Predicate, compare
from app.testing.models import Product, Products

DATABASE = "records.db"


class Kind(Enum):
    OLD = "it's old"
    NEW = "new"


class First(Entity):
    name: str


def repository(model: type[Entity], *indexes: Index, **options: Any) -> type[Repository[Any]]:
    return type(
        "Versions", (Repository,), {"model": model, "COLLECTION_NAME": "versions", "indexes": indexes, **options}
    )


@contextlib.asynccontextmanager
async def opened(path: Path, model: type[Entity], *indexes: Index, **options: Any) -> AsyncIterator[Repository[Any]]:
    async with DataLayer.from_config({"data_dir": str(path), "connections": {"sqlite": {"path": DATABASE}}}) as data:
        yield data.repository(repository(model, *indexes, **options))


def execute(path: Path, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path / DATABASE)) as connection, connection:
        return connection.execute(sql).fetchall()


async def begin(path: Path, model: type[Entity] = First, **values: Any) -> None:
    async with opened(path, model) as repo:
        await repo.create(model(**(values or {"id": "1", "name": "a"})))


NEW_FIELDS: list[tuple[Any, Any]] = [
    (str, 'it\'s; "new" é'),
    (str | None, None),
    (str | None, "text"),
    (int, 7),
    (int, -(2**63)),
    (float, 0.1),
    (float, 1e300),
    (bool, True),
    (bool, False),
    (datetime, datetime(2026, 1, 10, tzinfo=UTC)),
    (date, date(2026, 1, 10)),
    (Decimal, Decimal("1.50")),
    (UUID, UUID(int=5)),
    (bytes, b"\0'\xff"),
    (Kind, Kind.OLD),
    (list[str], ["a", "it's"]),
    (list[str], []),
    (dict[str, int] | None, {"a": 1}),
]


@pytest.mark.parametrize(("kind", "default"), NEW_FIELDS)
async def test_a_new_field_reads_and_filters_as_its_default(tmp_path: Path, kind: Any, default: Any) -> None:
    await begin(tmp_path)
    field = Field(default_factory=lambda: default) if isinstance(default, list | dict) else default
    second = create_model("Second", __base__=First, added=(kind, field))
    for _ in range(2):
        async with opened(tmp_path, second) as repo:
            [old] = await repo.find({"name": "a"})
            assert old == second(id="1", name="a")
            assert old.added == default
            if not isinstance(default, list | dict):
                assert await repo.count({"added": default}) == 1
                assert await repo.count({"added": {"$ne": default}}) == 0
                assert len(await repo.find(order_by="added")) == 1
    async with opened(tmp_path, second) as repo:
        assert await repo.update_many({"id": "1"}, {"name": "b"}) == 1
        assert (await repo.get_or_raise("1")).added == default
    # A process that still has the older model writes on.
    execute(tmp_path, "INSERT INTO versions (id, name) VALUES ('2', 'b')")
    async with opened(tmp_path, second) as repo:
        assert (await repo.get_or_raise("2")).added == default


async def refused(path: Path, model: type[Entity], *indexes: Index, **options: Any) -> str:
    before = execute(path, "SELECT sql FROM sqlite_master ORDER BY name")
    async with opened(path, model, *indexes, **options) as repo:
        for call in (repo.count, lambda: repo.update("1", {}), lambda: repo.delete("1"), repo.all):
            with pytest.raises(MigrationError) as caught:
                await call()
    assert execute(path, "SELECT sql FROM sqlite_master ORDER BY name") == before
    return str(caught.value)


async def test_a_new_field_without_a_default_names_the_way_out(tmp_path: Path) -> None:
    await begin(tmp_path)
    second = create_model("Second", __base__=First, added=(int, ...))
    message = await refused(tmp_path, second)
    assert "give the field a default" in message
    command = message.partition("or run ")[2].partition("…")[0] + "5"
    execute(tmp_path, command)
    async with opened(tmp_path, second) as repo:
        assert (await repo.get_or_raise("1")).added == 5


async def test_a_removed_field_names_the_way_out(tmp_path: Path) -> None:
    second = create_model("Second", __base__=First, added=(int, 5))
    await begin(tmp_path, second)
    message = await refused(tmp_path, First)
    assert "added" in message
    execute(tmp_path, message.partition(", run ")[2])
    async with opened(tmp_path, First) as repo:
        assert (await repo.get_or_raise("1")).name == "a"


@pytest.mark.parametrize("kind", [int, bytes, float])
async def test_a_changed_type_is_a_migration(tmp_path: Path, kind: type) -> None:
    await begin(tmp_path)
    changed = create_model("Changed", __base__=Entity, name=(kind, ...))
    assert "convert" in await refused(tmp_path, changed)


async def test_a_changed_none_is_a_migration(tmp_path: Path) -> None:
    await begin(tmp_path)
    assert "None" in await refused(tmp_path, create_model("Nullable", __base__=Entity, name=(str | None, None)))


async def test_none_that_is_no_longer_allowed_is_a_migration(tmp_path: Path) -> None:
    nullable = create_model("Nullable", __base__=Entity, name=(str | None, None))
    await begin(tmp_path, nullable, id="1")
    assert "None" in await refused(tmp_path, First)


async def test_another_key_is_a_migration(tmp_path: Path) -> None:
    await begin(tmp_path)
    assert "key" in await refused(tmp_path, First, key="name")


async def test_a_time_to_live_and_extra_fields_may_come_later(tmp_path: Path) -> None:
    await begin(tmp_path)
    second = create_model("Second", __base__=First, __config__=None)
    second.model_config = ConfigDict(extra="allow")
    second.model_rebuild(force=True)
    for options in ({}, {"ttl": 60.0}, {}):
        async with opened(tmp_path, second, **options) as repo:
            assert (await repo.get_or_raise("1")).name == "a"
            created = await repo.create(second(name="b", more=1))
            assert (await repo.get_or_raise(created.id)).more == 1


async def test_a_changed_index_names_the_way_out(tmp_path: Path) -> None:
    async with opened(tmp_path, First, Index("name", name="by_name")) as repo:
        await repo.create(First(id="1", name="a"))
    message = await refused(tmp_path, First, Index("name", name="by_name", unique=True))
    execute(tmp_path, message.partition("run ")[2].partition(",")[0])
    async with opened(tmp_path, First, Index("name", name="by_name", unique=True)) as repo:
        with pytest.raises(DuplicateRecordError):
            await repo.create(First(name="a"))


async def test_a_new_unique_index_over_records_that_break_it_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, First) as repo:
        await repo.create_many([First(name="planted"), First(name="planted")])
    message = await refused(tmp_path, First, Index("name", unique=True))
    assert "planted" not in message


class Soft(Entity, SoftDeletable):
    name: str
    price: Decimal = Decimal(0)


async def test_unique_indexes_of_what_is_soft_deleted_are_partial(tmp_path: Path) -> None:
    for _ in range(2):
        async with opened(tmp_path, Soft, Index("name", unique=True, name="name_unique"), Index("price")) as repo:
            await repo.count()
    found = dict(execute(tmp_path, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))
    assert sorted(found) == ["name_unique", "versions_price_index"]
    assert found["name_unique"].endswith("WHERE deleted_at IS NULL")
    assert "WHERE" not in found["versions_price_index"]


@pytest.mark.parametrize(
    ("where", "inside", "outside"),
    [
        (compare("name", "startswith", 'it\'s "100%"'), {"name": 'it\'s "100%" new'}, {"name": "other"}),
        (compare("price", ">", 2.5), {"price": Decimal(3)}, {"price": Decimal(2)}),
        (compare("size", ">=", Decimal("2.5")), {"size": 3}, {"size": 2}),
        (compare("size", "in", [1, 2, None]), {"size": 2}, {"size": 3}),
    ],
)
async def test_a_unique_index_may_be_limited(
    tmp_path: Path, where: Predicate, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    model = create_model("Limited", __base__=Soft, code=(str, "same"), size=(int | None, 0), name=(str, "plain"))
    index = Index("code", unique=True, where=where)
    for _ in range(2):
        async with opened(tmp_path, model, index) as repo:
            await repo.delete_many(None, everything=True)
            await repo.create_many([model.model_validate(each) for each in (inside, outside, outside)])
            with pytest.raises(DuplicateRecordError) as caught:
                await repo.create(model.model_validate(inside))
            assert caught.value.field == "code"


async def test_equal_decimals_are_one_unique_value(tmp_path: Path) -> None:
    async with opened(tmp_path, Soft, Index("price", unique=True)) as repo:
        await repo.create(Soft(name="a", price=Decimal("1.5")))
        with pytest.raises(DuplicateRecordError) as caught:
            await repo.create(Soft(name="b", price=Decimal("1.50")))
        assert caught.value.field == "price"


async def test_names_that_differ_by_case_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="case"):
        await begin(tmp_path, create_model("Twice", __base__=Entity, name=(str, ""), Name=(str, "")))


async def test_the_columns_are_typed(tmp_path: Path) -> None:
    fields: dict[str, Any] = {f"field{i}": (kind, default) for i, (kind, default) in enumerate(NEW_FIELDS)}
    await begin(tmp_path, create_model("Wide", __base__=Entity, **fields), id="1")
    [[sql]] = execute(tmp_path, "SELECT sql FROM sqlite_master WHERE name = 'versions'")
    assert sql.endswith("STRICT")


async def test_a_reserved_word_may_name_a_field(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"order": (int, 0), "select": (str, ""), "group": (str | None, None)}
    model = create_model("Reserved", __base__=Entity, **fields)
    async with opened(tmp_path, model, Index("order"), Index("group", "select", unique=True)) as repo:
        await repo.create(model(order=1, group="a"))
        assert await repo.count({"order": {"$gt": 0}, "group": "a"}) == 1
        assert len(await repo.find(order_by=["order", "-select"])) == 1
        with pytest.raises(DuplicateRecordError) as caught:
            await repo.create(model(order=1, group="a"))
        assert caught.value.fields == ("group", "select")


async def test_a_table_that_was_dropped_meanwhile_is_made_again(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {"path": "a.db"}}}) as data:
        products = data.repository(Products)
        await products.create(Product(id="1", name="a"))
        with sqlite3.connect(tmp_path / "a.db") as other:
            other.execute("DROP TABLE products")
        other.close()
        with pytest.raises(StoreUnavailableError, match="no such table"):
            await products.get("1")
        assert await products.get("1") is None
