"""What is told of each store is what is in it, and asking changes nothing."""

import dataclasses
import gc
import importlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.core.errors import NotRegisteredError
from app.db import DataLayer
from app.db.statistics import base, postgres
from app.db.statistics.base import CollectionStatistics, StoreState, StoreStatistics
from app.testing.models import Product, Products, fill

from ..servers.faults import SECRET, free_port


def collection(store: StoreStatistics, name: str = "products") -> CollectionStatistics:
    assert store.state is StoreState.OK, store.error
    return next(each for each in store.collections if each.name == name)


async def test_rows_sizes_and_indexes_of_each_store(data: DataLayer, store: str) -> None:
    await fill(data.repository(Products), *"abcdefg")
    [(name, found)] = (await data.statistics()).items()
    assert (name, found.connection, found.type) == (store, store, store)
    assert found.version
    products = collection(found)
    assert products.rows == 7
    assert products.exact == (store != "mongodb")
    assert found.size_bytes
    assert products.size_bytes
    fields = {index.fields for index in products.indexes}
    unique = {index.unique for index in products.indexes}
    assert {("sku",), ("name", "price"), ("price",)} <= fields or store == "redis"
    assert unique == {True, False}
    if store == "redis":
        assert [index.name for index in products.indexes if index.unique] == ["offer", "sku_unique"]
    if store in ("redis", "sqlite", "postgres"):
        assert all(index.size_bytes for index in products.indexes)
    assert (found.pool is None) == (store == "sqlite")
    await data.repository(Products).delete_many({"name": {"$in": ["a", "b"]}})
    assert collection((await data.statistics(store))[store]).rows == 5
    assert json.loads(json.dumps(dataclasses.asdict(found)))["collections"]


async def test_more_collections_than_are_looked_at(
    data: DataLayer, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(data.repository(Products), "a")
    await data.repository("user").create_user("a@x.io", "anna", "Anna", "Do", "x")
    for module in (base, importlib.import_module(f"app.db.statistics.{store}")):
        monkeypatch.setattr(module, "MOST_COLLECTIONS", 1, raising=False)
    found = (await data.statistics())[store]
    assert len(found.collections) == 1
    assert any("collections are shown" in note for note in found.notes)


async def test_a_store_that_is_down_is_told_beside_the_others(tmp_path: Path) -> None:
    async with DataLayer.from_config(
        {
            "data_dir": str(tmp_path),
            "connections": {
                "memory": {"type": "sqlite", "path": ":memory:"},
                "sqlite": {"path": "/proc/nowhere/app.db"},
                "postgres": {"url": f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/x", "timeout": 1},
                "redis": {"url": f"redis://:{SECRET}@127.0.0.1:{free_port()}", "timeout": 1},
                "mongodb": {"url": f"mongodb://u:{SECRET}@127.0.0.1:{free_port()}", "timeout": 0.5},
                "qdrant": {"url": f"http://u:{SECRET}@127.0.0.1:{free_port()}", "timeout": 1},
                "chromadb": {"url": f"http://u:{SECRET}@127.0.0.1:{free_port()}", "timeout": 1},
                "later": {"type": "mongodb", "url": "${MANYSTORE_TEST_NOT_SET}"},
            },
        }
    ) as data:
        found = await data.statistics()
        with pytest.raises(NotRegisteredError, match="did you mean 'sqlite'"):
            await data.statistics("sqlit")
    states = {name: each.state for name, each in found.items()}
    assert states.pop("memory") is StoreState.OK
    assert states.pop("sqlite") is StoreState.OK  # nothing is there, and nothing was made
    assert states.pop("later") is StoreState.NOT_CONFIGURED
    assert "MANYSTORE_TEST_NOT_SET" in found["later"].error
    assert set(states.values()) == {StoreState.UNAVAILABLE}
    assert all(found[name].error for name in states)
    assert SECRET not in str(found)
    with warnings.catch_warnings():  # pymongo leaves the socket of a refused connection to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_without_await(config: dict[str, Any], store: str) -> None:
    with DataLayer.from_config(config).sync() as data:
        data.repository(Products).create(Product(name="a"))
        assert collection(data.statistics()[store]).rows == 1


@pytest.fixture
def url(postgres_schemas: Callable[[], str]) -> str:
    return postgres_schemas()


def on(url: str, **settings: Any) -> DataLayer:
    return DataLayer.from_config({"connections": {"postgres": {"url": url, **settings}}})


async def told(data: DataLayer) -> StoreStatistics:
    return (await data.statistics())["postgres"]


async def test_an_index_that_a_query_uses_is_not_unused(url: str) -> None:
    async with on(url) as data:
        manager = data.connection("postgres")
        await manager.execute_command("CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
        await manager.execute_command("INSERT INTO t SELECT n, n, n FROM generate_series(1, 100) n")
        await manager.execute_command("CREATE INDEX used ON t (a)")
        await manager.execute_command("CREATE INDEX idle ON t (b, (a + 1))")
        async with manager.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off")
            await connection.execute("SELECT * FROM t WHERE a = 7")
            await connection.execute("SELECT pg_stat_force_next_flush()")
        table = collection(await told(data), "t")
    indexes = {index.name: index for index in table.indexes}
    assert indexes["used"].uses == 1
    assert {name: index.unused for name, index in indexes.items()} == {"used": False, "idle": True, "t_pkey": False}
    assert indexes["idle"].fields == ("b", "<expression>")
    assert table.rows == 100
    assert table.exact


async def test_large_tables_are_estimated_and_say_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "COUNTED_BYTES", 0)
    async with on(url, pool={"max_size": 1}) as data:
        manager = data.connection("postgres")
        await manager.execute_command("CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n")
        await manager.execute_command("DELETE FROM t WHERE n > 4000")
        await manager.execute_query("SELECT pg_stat_force_next_flush()")
        never_analyzed = collection(await told(data), "t")
        await manager.execute_command("VACUUM ANALYZE t")
        await manager.execute_query("SELECT pg_stat_force_next_flush()")
        analyzed = collection(await told(data), "t")
    assert (never_analyzed.rows, never_analyzed.exact, never_analyzed.details["dead_rows"]) == (4000, False, 1000)
    assert (analyzed.rows, analyzed.exact, analyzed.details["dead_rows"]) == (4000, False, 0)
    assert analyzed.details["analyzed_at"]


async def test_a_locked_table_holds_up_nothing(url: str) -> None:
    async with on(url, timeout=3) as data:
        await fill(data.repository(Products), "a", "b")
        async with data.connection("postgres").connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
            found = await told(data)
    assert any("locked" in note for note in found.notes)
    assert not collection(found).exact
    assert collection(found).size_bytes


async def test_a_user_without_rights_is_told_what_everybody_may_know(url: str) -> None:
    role = f"reader_{uuid4().hex}"
    async with on(url) as data:
        await fill(data.repository(Products), "a", "b")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role}".encode())
        try:
            async with on(f"{url}%20-c%20role%3D{role}") as data:
                found = await told(data)
        finally:
            connection.execute(f"DROP ROLE {role}".encode())
    assert found.state is StoreState.OK, found.error
    # Its schema is not this user's to see.
    products = next(each for each in found.collections if each.name.endswith(".products"))
    assert not products.exact
    assert products.indexes


async def test_postgres_is_asked_in_a_transaction_that_cannot_write(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with on(url) as data:
        await fill(data.repository(Products), "a")
        monkeypatch.setattr(postgres, "_HOW_MANY", "DELETE FROM products RETURNING 1")
        assert (await told(data)).error == "postgres does not tell its statistics: ReadOnlySqlTransaction"
        assert await data.repository(Products).count() == 1


async def test_what_a_policy_hides_is_not_counted_away(url: str) -> None:
    role = f"reader_{uuid4().hex}"
    schema = url.partition("search_path%3D")[2].partition("%20")[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role};"
            "CREATE TABLE hidden AS SELECT n FROM generate_series(1, 30) n;"
            "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;"
            f"GRANT SELECT ON hidden TO {role}; SELECT pg_stat_force_next_flush()".encode()
        )
        try:
            async with on(f"{url}%20-c%20role%3D{role}") as data:
                table = collection(await told(data), "hidden")
        finally:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
    assert (table.rows, table.exact) == (30, False)
