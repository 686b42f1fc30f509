"""How Redis finds what is asked, streams it, and upserts without reading."""

import asyncio
from typing import Any

import pytest

from app.core.errors import DuplicateRecordError, UnsupportedOperationError
from app.db import DataLayer, Entity, F, Repository
from app.db.backends import Index
from app.db.backends._redis_records import Seen
from app.db.query import Upsert, to_predicate
from app.testing.models import Note, Notes, Product, Products, fill


@pytest.fixture
def store() -> str:
    return "redis"


@pytest.fixture
def redis(data: DataLayer) -> Any:
    return data.connection("redis")


@pytest.fixture
def products(data: DataLayer) -> Products:
    return data.repository(Products)


class Plain(Entity):
    name: str = ""
    rank: int = 0
    deleted: str | None = None


class Plains(Repository[Plain]):
    pass


async def test_explain_says_what_is_looked_at(products: Products) -> None:
    async def told(filter: Any, order: str | None = None) -> tuple[Any, ...]:
        query = products.query().where(filter)
        found = await (query.order_by(order) if order else query).explain()
        assert found["store"] == "redis"
        return found["index"], found["scan"], found["evaluated_here"], found["sorted_here"]

    assert await told(F.id == "1") == ("id", False, False, False)
    assert await told((F.id == "1") & (F.name == "x")) == ("id", False, True, False)
    assert await told({"sku": "x"}) == ("sku_unique", False, False, False)
    assert await told({"name": "x", "price": 1.0}, "stock") == ("offer", False, False, True)
    assert await told({"price": {"$in": [1.0, 2.0]}}) == ("price_index", False, False, False)
    assert await told({"price": 1.0, "stock": 1}) == ("price_index", False, True, False)
    assert await told((F.sku == "x") & (F.sku == "y")) == ("sku_unique", False, True, False)
    assert await told((F.sku == "x") | (F.sku == "y")) == ("sku_unique", False, True, False)
    assert await told((F.sku == "x") | (F.name == "y")) == (None, True, True, False)
    assert await told({"stock": 1}) == (None, True, True, False)
    assert await told(None, "-name") == (None, True, False, True)


async def test_alternatives_of_one_index_need_no_scan(products: Products, redis: Any) -> None:
    await fill(products, *"abcd")
    await redis.config_resetstat()
    either = (F.sku == "a") | (F.sku == "c") | (F.sku == "none")
    assert [each.name for each in await products.find(either)] == ["a", "c"]
    assert [each.name for each in await products.find(either & (F.name != "a"))] == ["c"]
    assert "cmdstat_scan" not in await redis.info("commandstats")


async def test_an_index_streams_in_order_and_a_scan_does_not(products: Products) -> None:
    await products.create_many(Product(id=f"{i:03}", name=f"n{i}", price=float(i % 2)) for i in range(120))
    query = products.query().where("price", "=", 1.0).order_by("id", "desc")
    assert [each.id async for each in query.stream(batch_size=7)] == [f"{i:03}" for i in range(119, 0, -2)]
    for where in ({"price": {"$gt": 0.5}}, None):
        with pytest.raises(UnsupportedOperationError, match="cannot sort a stream"):
            await anext(products.query().where(where).order_by("id").stream())
    found = [each.id async for each in products.stream({"price": {"$in": [0.0, 1.0]}}, batch_size=7)]
    assert sorted(found) == [f"{i:03}" for i in range(120)]
    found = [each.id async for each in products.stream({"id": {"$in": [f"{i:03}" for i in range(50)]}}, batch_size=7)]
    assert len(found) == 50


async def test_a_record_is_seen_once_though_the_server_gives_it_again(data: DataLayer, redis: Any) -> None:
    plains = data.repository(Plains)
    await plains.create_many(Plain(id=f"old{i}") for i in range(3000))
    fillers = [f"filler{i}" for i in range(30_000)]
    given = 0
    client = await redis.connect()
    scan_iter = client.scan_iter

    async def counted(**options: Any) -> Any:
        """The table of keys grows and shrinks under the scan."""
        nonlocal given
        async for name in scan_iter(**{**options, "count": 10}):
            given += 1
            yield name
            if given % 200 == 0:
                await redis.mset(dict.fromkeys(fillers, ""))
            elif given % 200 == 100:
                await redis.unlink(*fillers)
                await asyncio.sleep(0.12)  # the server shrinks it when it comes to it

    client.scan_iter = counted
    for attempt in range(1, 9):
        seen = [each.id async for each in plains.stream(batch_size=50)]
        assert sorted(seen) == sorted(f"old{i}" for i in range(3000))
        if given > attempt * len(seen):
            return
    pytest.fail("the server gave nothing again, so this shows nothing")


def test_names_are_known_by_eight_bytes_each() -> None:
    seen = Seen()
    names = [f"products:{i}" for i in range(50_000)]
    assert all(map(seen.add, names))
    assert not any(map(seen.add, names))
    size = sum(len(bucket) for bucket in seen._buckets if bucket is not None)
    assert size == 8 * len(names)


# ---------------------------------------------------------------- upserts


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("returning", [False, True])
async def test_an_upsert_keeps_what_it_is_told_and_what_it_does_not_know(
    data: DataLayer, redis: Any, indexed: bool, returning: bool
) -> None:
    class Some(Repository[Plain]):
        COLLECTION_NAME = "some"
        indexes = (Index("rank"),) if indexed else ()

    some = data.repository(Some)
    await redis.set(
        "some:a", '{"id":"a","name":"old \\\\\\"}, é","rank":1,"deleted":null,"later":{"x":[1,{}]}}', px=50_000
    )
    await redis.set("some:gone", '{"id":"gone","name":"","rank":1,"deleted":"yes"}')
    operation = Upsert(
        ({"id": "a", "name": "new", "rank": 2, "deleted": None}, {"id": "b", "name": "b", "rank": 3, "deleted": None}),
        on=("id",),
        keep=("name",),
        guard=to_predicate({"deleted": None}),
        returning=returning,
    )
    result = await some._run(operation)
    expected = [
        {"id": "a", "name": 'old \\"}, é', "rank": 2, "deleted": None},
        {"id": "b", "name": "b", "rank": 3, "deleted": None},
    ]
    assert result == (expected if returning else 2)
    assert [each.model_dump() for each in await some.get_many("ab")] == expected
    assert '"later":{"x":[1,{}]}' in await redis.get("some:a")
    assert 0 < await redis.pttl("some:a") <= 50_000
    assert await redis.pttl("some:b") == -1
    blocked = Upsert(
        (operation.documents[1] | {"rank": 9}, {"id": "gone", "name": "", "rank": 9, "deleted": None}), ("id",)
    )
    with pytest.raises(DuplicateRecordError) as caught:
        await some._run(Upsert(blocked.documents, ("id",), guard=operation.guard))
    assert caught.value.fields == ("id",)
    assert await some.count({"rank": 9}) == 0, "all or none"
    await some._run(Upsert(operation.documents[:1], ("id",), ttl=10))
    assert 9_000 < await redis.pttl("some:a") <= 10_000


async def test_a_hundred_upserts_of_one_value_make_one_record(data: DataLayer) -> None:
    notes, products = data.repository(Notes), data.repository(Products)
    made = await asyncio.gather(*(notes.upsert(Note(text="t", body=str(i)), on="text") for i in range(100)))
    assert len({each.id for each in made}) == 1
    assert len({each.created_at for each in made}) == 1
    assert await notes.count() == 1
    both = await asyncio.gather(
        *(
            products.upsert_many([Product(name="n", sku="s", stock=i), Product(name="m", sku="t")], on="sku")
            for i in range(20)
        )
    )
    assert both == [2] * 20
    assert await products.count() == 2


async def test_an_upsert_by_several_fields_needs_no_scan(products: Products, redis: Any) -> None:
    await fill(products, "a", "b")
    await redis.config_resetstat()
    several = [Product(name=name, price=0.0, sku=f"new {name}") for name in ("a", "b", "c")]
    assert await products.upsert_many(several, on=("price", "name")) == 3
    assert "cmdstat_scan" not in await redis.info("commandstats")
    assert [(each.id, each.sku) for each in await products.find({"name": {"$in": ["a", "b"]}})] == [
        ("id-a", "new a"),
        ("id-b", "new b"),
    ]
    with pytest.raises(DuplicateRecordError) as caught:  # the id of another
        await products.upsert(Product(id="id-a", name="x", sku="y"), on="sku")
    assert caught.value.fields == ("id",)
