"""How a PostgreSQL table follows its model, and what is found there that is not as it should be."""

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import ConfigDict, Field, create_model

from app.core.errors import ConfigurationError, DuplicateRecordError, MigrationError
from app.db import DataLayer, Entity, Repository, SoftDeletable
from app.db.backends import Index
from app.db.query import Predicate, compare


class Kind(Enum):
    OLD = "it's old"
    NEW = "new"


class First(Entity):
    name: str


@pytest.fixture
def url(postgres_schemas: Callable[[], str]) -> str:
    return postgres_schemas()


def repository(model: type[Entity], *indexes: Index, **options: Any) -> type[Repository[Any]]:
    return type(
        "Versions", (Repository,), {"model": model, "COLLECTION_NAME": "versions", "indexes": indexes, **options}
    )


@contextlib.asynccontextmanager
async def opened(url: str, model: type[Entity], *indexes: Index, **options: Any) -> AsyncIterator[Repository[Any]]:
    async with DataLayer.from_config({"connections": {"postgres": {"url": url}}}) as data:
        yield data.repository(repository(model, *indexes, **options))


def execute(url: str, sql: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


async def begin(url: str, model: type[Entity] = First, **values: Any) -> None:
    async with opened(url, model) as repo:
        await repo.create(model(**(values or {"id": "1", "name": "a"})))


NEW_FIELDS: list[tuple[Any, Any]] = [
    (str, 'it\'s; "new" \\ é %s'),
    (str | None, None),
    (str | None, "text"),
    (int, 7),
    (int, -(2**63)),
    (float, 0.1),
    (float, 1e300),
    (bool, True),
    (datetime, datetime(2026, 1, 10, tzinfo=UTC)),
    (datetime, datetime(1, 1, 1, tzinfo=UTC)),
    (date, date(2026, 1, 10)),
    (Decimal, Decimal("1.50")),
    (UUID, UUID(int=5)),
    (bytes, b"\0'\xff\\"),
    (Kind, Kind.OLD),
    (list[str], ["a", "it's \\"]),
    (dict[str, int] | None, {"a": 1}),
]


@pytest.mark.parametrize(("kind", "default"), NEW_FIELDS)
async def test_a_new_field_reads_and_filters_as_its_default(url: str, kind: Any, default: Any) -> None:
    await begin(url)
    field = Field(default_factory=lambda: default) if isinstance(default, list | dict) else default
    second = create_model("Second", __base__=First, added=(kind, field))
    for _ in range(2):
        async with opened(url, second) as repo:
            [old] = await repo.find({"name": "a"})
            assert old == second(id="1", name="a")
            if not isinstance(default, list | dict):
                assert await repo.count({"added": default}) == 1
                assert await repo.count({"added": {"$ne": default}}) == 0
    # A process that still has the older model writes on.
    execute(url, "INSERT INTO versions (id, name) VALUES ('2', 'b')")
    async with opened(url, second) as repo:
        assert (await repo.get_or_raise("2")).added == default


def shape_of(url: str) -> list[Any]:
    columns = "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
    indexes = "SELECT indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = current_schema()"
    return execute(url, f"{columns} WHERE table_schema = current_schema() UNION ALL {indexes} ORDER BY 1")


async def refused(url: str, model: type[Entity], *indexes: Index, **options: Any) -> str:
    before = shape_of(url)
    async with opened(url, model, *indexes, **options) as repo:
        for call in (repo.count, lambda: repo.update("1", {}), lambda: repo.delete("1"), repo.all):
            with pytest.raises(MigrationError) as caught:
                await call()
    assert shape_of(url) == before
    return str(caught.value)


async def test_a_new_field_without_a_default_names_the_way_out(url: str) -> None:
    await begin(url)
    second = create_model("Second", __base__=First, added=(int, ...))
    message = await refused(url, second)
    assert "give the field a default" in message
    execute(url, message.partition("or run ")[2].partition("…")[0] + "5")
    async with opened(url, second) as repo:
        assert (await repo.get_or_raise("1")).added == 5


async def test_a_removed_field_names_the_way_out(url: str) -> None:
    await begin(url, create_model("Second", __base__=First, added=(int, 5)))
    message = await refused(url, First)
    assert "added" in message
    execute(url, message.partition(", run ")[2])
    async with opened(url, First) as repo:
        assert (await repo.get_or_raise("1")).name == "a"


@pytest.mark.parametrize("kind", [int, bytes, float, list[str]])
async def test_a_changed_type_is_a_migration(url: str, kind: Any) -> None:
    await begin(url)
    assert "convert" in await refused(url, create_model("Changed", __base__=Entity, name=(kind, ...)))


@pytest.mark.parametrize("turned", [False, True])
async def test_a_changed_none_names_the_way_out(url: str, turned: bool) -> None:
    nullable = create_model("Nullable", __base__=Entity, name=(str | None, None))
    before, after = (nullable, First) if turned else (First, nullable)
    await begin(url, before)
    message = await refused(url, after)
    execute(url, message.partition("run ")[2])
    async with opened(url, after) as repo:
        assert (await repo.get_or_raise("1")).name == "a"


async def test_another_key_is_a_migration(url: str) -> None:
    await begin(url)
    assert "key" in await refused(url, First, key="name")


async def test_text_in_the_order_of_a_language_names_the_way_out(url: str) -> None:
    execute(url, "CREATE COLLATION spoken (provider = libc, locale = 'POSIX')")  # a locale that is there everywhere
    execute(url, 'CREATE TABLE versions (id text COLLATE "C" PRIMARY KEY, name text COLLATE spoken NOT NULL)')
    execute(url, "INSERT INTO versions VALUES ('1', 'a')")
    message = await refused(url, First)
    execute(url, message.partition("run ")[2])
    async with opened(url, First) as repo:
        assert (await repo.get_or_raise("1")).name == "a"


async def test_a_time_to_live_and_extra_fields_may_come_later(url: str) -> None:
    await begin(url)
    second = create_model("Second", __base__=First, __config__=None)
    second.model_config = ConfigDict(extra="allow")
    second.model_rebuild(force=True)
    for options in ({}, {"ttl": 60.0}, {}):
        async with opened(url, second, **options) as repo:
            assert (await repo.get_or_raise("1")).name == "a"
            created = await repo.create(second(name="b", more=1))
            assert (await repo.get_or_raise(created.id)).more == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Index("name", name="by_name"), Index("name", name="by_name", unique=True)),
        (Index("name", name="by_name"), Index("name", "id", name="by_name")),
        (
            Index("name", name="by_name", unique=True, where=compare("name", "!=", "a")),
            Index("name", name="by_name", unique=True, where=compare("name", "!=", "b")),
        ),
    ],
)
async def test_a_changed_index_names_the_way_out(url: str, before: Index, after: Index) -> None:
    async with opened(url, First, before) as repo:
        await repo.create(First(id="1", name="a"))
    for _ in range(2):
        async with opened(url, First, before) as repo:
            assert await repo.count() == 1
    message = await refused(url, First, after)
    execute(url, message.partition("run ")[2].partition(",")[0])
    async with opened(url, First, after) as repo:
        assert await repo.count() == 1


async def test_an_index_of_a_migrations_own_is_taken_by_its_form(url: str) -> None:
    await begin(url)
    execute(url, "CREATE UNIQUE INDEX by_name ON versions (name)")
    async with opened(url, First, Index("name", unique=True, name="by_name")) as repo:
        with pytest.raises(DuplicateRecordError) as caught:
            await repo.create(First(name="a"))
    assert caught.value.fields == ("name",)
    assert "by_name" in await refused(url, First, Index("name", name="by_name"))


async def test_a_new_unique_index_over_records_that_break_it_is_refused(url: str) -> None:
    async with opened(url, First) as repo:
        await repo.create_many([First(name="planted"), First(name="planted")])
    message = await refused(url, First, Index("name", unique=True))
    assert "planted" not in message


class Soft(Entity, SoftDeletable):
    name: str
    price: Decimal = Decimal(0)


async def test_unique_indexes_of_what_is_soft_deleted_are_partial(url: str) -> None:
    for _ in range(2):
        async with opened(url, Soft, Index("name", unique=True, name="name_unique"), Index("price")) as repo:
            await repo.count()
    found = dict(execute(url, "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"))
    assert sorted(found) == ["name_unique", "versions_pkey", "versions_price_index"]
    assert found["name_unique"].endswith("WHERE (deleted_at IS NULL)")
    assert "WHERE" not in found["versions_price_index"]


@pytest.mark.parametrize(
    ("where", "inside", "outside"),
    [
        (compare("name", "startswith", 'it\'s "100%" \\'), {"name": 'it\'s "100%" \\ new'}, {"name": "other"}),
        (compare("price", ">", 2.5), {"price": Decimal(3)}, {"price": Decimal(2)}),
        (compare("size", ">=", Decimal("2.5")), {"size": 3}, {"size": 2}),
        (compare("size", "in", [1, 2, None]), {"size": 2}, {"size": 3}),
        (compare("on", ">", datetime(2026, 1, 1, tzinfo=UTC)), {"on": datetime(2027, 1, 1, tzinfo=UTC)}, {}),
    ],
)
async def test_a_unique_index_may_be_limited(
    url: str, where: Predicate, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"code": (str, "same"), "size": (int | None, 0), "name": (str, "plain")}
    model = create_model("Limited", __base__=Soft, on=(datetime | None, None), **fields)
    index = Index("code", unique=True, where=where)
    for _ in range(2):
        async with opened(url, model, index) as repo:
            await repo.delete_many(None, everything=True, hard=True)
            await repo.create_many([model.model_validate(each) for each in (inside, outside, outside)])
            with pytest.raises(DuplicateRecordError) as caught:
                await repo.create(model.model_validate(inside))
            assert caught.value.field == "code"


async def test_equal_decimals_are_one_unique_value(url: str) -> None:
    async with opened(url, Soft, Index("price", unique=True)) as repo:
        await repo.create(Soft(name="a", price=Decimal("1.5")))
        with pytest.raises(DuplicateRecordError) as caught:
            await repo.create(Soft(name="b", price=Decimal("1.50")))
        assert caught.value.field == "price"


async def test_two_tables_may_have_indexes_of_one_name(url: str) -> None:
    index = Index("name", unique=True, name="name_unique")
    other = {"COLLECTION_NAME": "v" * 63}
    for _ in range(2):
        async with opened(url, First, index) as first, opened(url, First, index, **other) as second:
            for repo in (first, second):
                await repo.delete_many(None, everything=True)
                await repo.create(First(name="a"))
                with pytest.raises(DuplicateRecordError) as caught:
                    await repo.create(First(name="a"))
                assert caught.value.fields == ("name",)


async def test_a_name_that_another_relation_has(url: str) -> None:
    execute(url, "CREATE SEQUENCE versions")
    async with opened(url, First) as repo:
        with pytest.raises(MigrationError, match="taken"):
            await repo.count()


async def test_names_that_differ_by_case_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="case"):
        await begin(url, create_model("Twice", __base__=Entity, name=(str, ""), Name=(str, "")))


async def test_the_columns_are_typed(url: str) -> None:
    fields: dict[str, Any] = {
        "whole": (int, 0),
        "real": (float, 0),
        "flag": (bool, False),
        "moment": (datetime | None, None),
        "day": (date | None, None),
        "exact": (Decimal, Decimal(0)),
        "key": (UUID | None, None),
        "data": (bytes, b""),
        "nested": (list[int], []),
    }
    await begin(url, create_model("Wide", __base__=Entity, **fields), id="1")
    sql = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'versions'::regclass"
    assert dict(execute(url, f"{sql} AND attnum > 0")) == {
        "id": "text",
        "whole": "bigint",
        "real": "double precision",
        "flag": "boolean",
        "moment": "timestamp(3) with time zone",
        "day": "date",
        "exact": "numeric",
        "key": "uuid",
        "data": "bytea",
        "nested": "json",
    }


async def test_a_reserved_word_may_name_a_field(url: str) -> None:
    fields: dict[str, Any] = {"order": (int, 0), "select": (str, ""), "group": (str | None, None), "Mixed": (int, 0)}
    model = create_model("Reserved", __base__=Entity, **fields)
    async with opened(url, model, Index("order"), Index("group", "select", unique=True)) as repo:
        await repo.create_many([model(order=i, group=f"{i}") for i in range(20)])
        assert await repo.count({"order": {"$gt": 0}, "group": "1", "Mixed": 0}) == 1
        assert len(await repo.find(order_by=["order", "-select"])) == 20
        with pytest.raises(DuplicateRecordError) as caught:
            await repo.create(model(order=1, group="1"))
        assert caught.value.fields == ("group", "select")


async def test_a_user_who_may_not_create_uses_what_is_there(url: str, postgres_server: str) -> None:
    await begin(url)
    [[schema]] = execute(url, "SELECT current_schema()")
    role = f"reader_{schema}"
    execute(postgres_server, f"CREATE ROLE {role} LOGIN")
    try:
        execute(url, f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, INSERT ON versions TO {role}")
        theirs = url.replace("postgres@", f"{role}@")
        async with opened(theirs, First) as repo:
            assert (await repo.get_or_raise("1")).name == "a"
        async with opened(theirs, First, Index("name")) as repo:
            with pytest.raises(MigrationError, match="CREATE INDEX"):
                await repo.count()
    finally:
        execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")
