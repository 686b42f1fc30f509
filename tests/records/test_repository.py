"""The operations of a repository, the same on every store."""

import asyncio
import sqlite3
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from app.connections.base import ConnectionManager
from app.core.errors import (
    ConfigurationError,
    DuplicateRecordError,
    InvalidChangeError,
    InvalidFilterError,
    RecordNotFoundError,
    UnsupportedOperationError,
)
from app.db import DataLayer, Entity, Repository
from app.db.backends import Index
from app.db.query import Compare, Not, Op, Predicate, to_predicate


class Address(BaseModel):
    city: str = ""
    zip_code: str = Field("", alias="zipCode")


class Product(Entity):
    name: str
    sku: str | None = None
    price: float = 0.0
    stock: Annotated[int, Field(ge=0, le=1000)] = 0
    sold: int | None = None
    tags: list[str] = Field(default_factory=list)
    address: Address | None = None


class Products(Repository[Product]):
    indexes = (Index("sku", unique=True), Index("name", "price", unique=True, name="offer"), Index("price"))


class Partial(BaseModel):
    name: str | None = None
    stock: int | None = None
    price: float | None = None


@pytest.fixture
def products(data: DataLayer) -> Products:
    return data.repository(Products)


async def fill(products: Products, *names: str) -> list[Product]:
    return await products.create_many(Product(id=f"id-{name}", name=name, sku=name) for name in names)


async def names_of(products: Products, **options: Any) -> list[str]:
    return [product.name for product in await products.find(**options)]


async def test_create_and_get(products: Products) -> None:
    product = Product(name="pen", sku="p", price=1.5, tags=["a"], address=Address(city="Rome", zipCode="001"))
    before = product.model_copy(deep=True)
    created = await products.create(product)
    assert created == product == before
    assert created is not product
    assert await products.get(product.id) == product
    assert await products.get_or_raise(product.id) == product
    assert len(product.id) == 24


@pytest.mark.parametrize("malformed", ["none", "", "\0", "\ud800", "'; --", None, 5, 2**70, b"x", 1.5, object(), ["a"]])
async def test_an_id_that_no_record_has_gives_none(products: Products, malformed: Any) -> None:
    await fill(products, "a")
    assert await products.get(malformed) is None
    assert await products.get_many([malformed, "id-a"]) == [await products.get("id-a")]
    assert await products.update(malformed, {"name": "b"}) is None
    assert await products.increment(malformed, "stock") is None
    assert await products.compare_and_set(malformed, {"name": "a"}, {"name": "b"}) is None
    assert await products.delete(malformed) is False
    with pytest.raises(RecordNotFoundError) as caught:
        await products.get_or_raise(malformed)
    assert isinstance(caught.value, LookupError)


class Numbered(BaseModel):
    number: int
    text: str = ""


class NumberedRepository(Repository[Numbered]):
    key = "number"


async def test_another_key_than_id(data: DataLayer) -> None:
    numbered = data.repository(NumberedRepository)
    await numbered.create_many([Numbered(number=2, text="b"), Numbered(number=1, text="a")])
    assert [each.text for each in await numbered.all()] == ["a", "b"]
    assert await numbered.get(2) == Numbered(number=2, text="b")
    assert await numbered.get(2**63) is None
    assert await numbered.get("no number") is None
    with pytest.raises(DuplicateRecordError) as caught:
        await numbered.create(Numbered(number=2))
    assert caught.value.field == "number"


async def test_create_many_stores_all_or_none(products: Products) -> None:
    stored = await fill(products, "a", "b")
    assert [product.name for product in stored] == ["a", "b"]
    with pytest.raises(DuplicateRecordError) as caught:
        await products.create_many([Product(name="c"), Product(name="d", sku="a"), Product(name="e")])
    assert caught.value.fields == ("sku",)
    with pytest.raises(InvalidChangeError):
        await products.create_many([Product(name="c"), Product(name="nul\0")])
    assert await products.count() == 2
    assert await products.create_many([]) == []


async def test_a_duplicate_names_the_fields_of_its_index(products: Products) -> None:
    [product] = await fill(products, "planted-value")
    cases: list[tuple[Product, tuple[str, ...]]] = [
        (Product(id=product.id, name="x"), ("id",)),
        (Product(name="x", sku="planted-value"), ("sku",)),
        (Product(name="planted-value", sku="y"), ("name", "price")),
    ]
    for duplicate, fields in cases:
        with pytest.raises(DuplicateRecordError) as caught:
            await products.create(duplicate)
        assert caught.value.fields == fields
        assert caught.value.collection == "products"
        assert "planted-value" not in f"{caught.value} {caught.value.__cause__}"
    other = await products.create(Product(name="x", sku="x"))
    with pytest.raises(DuplicateRecordError):
        await products.update(other.id, {"sku": "planted-value"})
    with pytest.raises(DuplicateRecordError):
        await products.update_many({}, {"sku": "same"}, everything=True)
    assert await products.get(other.id) == other


async def test_none_is_no_duplicate(products: Products) -> None:
    await products.create_many([Product(name="a"), Product(name="b")])
    assert await products.count({"sku": None}) == 2


async def test_get_many_keeps_the_order(products: Products) -> None:
    await fill(products, "a", "b", "c")
    found = await products.get_many(["id-c", "none", "id-a", "id-c"])
    assert [product.name for product in found] == ["c", "a", "c"]
    assert await products.get_many([]) == []
    assert await products.get_many(["none"]) == []


async def test_lists_of_any_length(products: Products, store: str) -> None:
    await fill(products, *(f"{i:05}" for i in range(3000)))
    ids = [f"id-{i:05}" for i in reversed(range(3000))]
    assert [product.id for product in await products.get_many(ids)] == ids
    assert await products.count({"name": {"$in": [f"{i:05}" for i in range(40_000)]}}) == 3000
    assert await products.count({"stock": {"$nin": list(range(1, 40_000))}}) == 3000
    assert await products.count({"address.city": {"$nin": [str(i) for i in range(5000)]}}) == 3000
    with pytest.raises(InvalidFilterError, match="400"):
        await products.count({"$or": [{"name": str(i)} for i in range(401)]})
    assert await products.count({"$or": [{"name": f"{i:05}"} for i in range(400)]}) == 400
    halves = {"price": {"$in": [i + 0.5 for i in range(401)]}}
    if store == "redis":
        assert await products.count(halves) == 0
    else:
        with pytest.raises(UnsupportedOperationError):
            await products.count(halves)


async def test_find_filters_orders_and_pages(products: Products) -> None:
    await fill(products, "c", "a", "b", "d")
    assert await names_of(products) == ["a", "b", "c", "d"]
    assert await names_of(products, order_by="-name") == ["d", "c", "b", "a"]
    assert await names_of(products, order_by=["price", ("name", "desc")]) == ["d", "c", "b", "a"]
    assert await names_of(products, filter={"name": {"$gte": "b"}}, order_by="name", skip=1, limit=1) == ["c"]
    assert await names_of(products, filter=Not(Compare("name", Op.EQ, "a"))) == ["b", "c", "d"]
    assert await names_of(products, skip=3) == ["d"]
    assert await names_of(products, limit=0) == []
    assert [product.name for product in await products.find_many({"name": "a"})] == ["a"]
    assert [product.name for product in await products.get_multi(skip=1, limit=2)] == ["b", "c"]
    assert [product.name for product in await products.all()] == ["a", "b", "c", "d"]
    found = await products.find_one({"name": "b"})
    assert found is not None
    assert found.id == "id-b"
    assert await products.find_one({"name": "z"}) is None
    assert await products.count() == 4
    assert await products.count({"name": {"$lt": "c"}}) == 2
    assert await products.exists({"name": "a"}) is True
    assert await products.exists({"name": "z"}) is False


async def test_nulls_stand_first_and_ties_by_id(products: Products) -> None:
    await products.create_many(
        [
            Product(id="3", name="x", sold=1),
            Product(id="2", name="y"),
            Product(id="1", name="z"),
            Product(id="0", name="q", sold=2),
        ]
    )
    assert [product.id for product in await products.find(order_by="sold")] == ["1", "2", "3", "0"]
    assert [product.id for product in await products.find(order_by="-sold")] == ["0", "3", "1", "2"]
    assert [product.id for product in await products.find(order_by="-id")] == ["3", "2", "1", "0"]


@pytest.mark.parametrize(
    "options",
    [
        *(
            {"skip": -1},
            {"limit": -1},
            {"limit": 1.5},
            {"limit": True},
            {"skip": None},
            {"limit": 2**63},
            {"limit": "1"},
        ),
        *({"order_by": "nope"}, {"order_by": "name; --"}, {"order_by": ["name", "--price"]}, {"order_by": ""}),
        *(
            {"order_by": [("name", "up")]},
            {"order_by": [("name",)]},
            {"order_by": [5]},
            {"order_by": [["name", "asc", "x"]]},
        ),
    ],
)
async def test_a_wrong_order_or_page_is_an_error(products: Products, options: dict[str, Any]) -> None:
    if options == {"skip": None}:
        options = {"skip": "1"}
    await fill(products, "a")
    with pytest.raises(InvalidFilterError):
        await products.find(**options)


async def test_sorting_by_what_is_nested_is_not_done(products: Products) -> None:
    with pytest.raises(UnsupportedOperationError):
        await products.find(order_by="tags")


async def test_update_takes_a_dict_or_a_partial_model(products: Products) -> None:
    await fill(products, "a")
    changes: dict[str, Any] = {"name": "b", "address": {"city": "Rome", "zipCode": "001"}}
    updated = await products.update("id-a", changes)
    assert updated is not None
    assert (updated.name, updated.sku) == ("b", "a")
    assert updated.address == Address(city="Rome", zipCode="001")
    assert changes == {"name": "b", "address": {"city": "Rome", "zipCode": "001"}}
    updated = await products.update("id-a", Partial(stock=5))
    assert updated is not None
    assert (updated.name, updated.stock) == ("b", 5)
    updated = await products.update("id-a", {"address": Address(city="Oslo"), "tags": ("x",), "stock": "7"})
    assert updated is not None
    assert updated.address is not None
    assert (updated.address.city, updated.tags, updated.stock) == ("Oslo", ["x"], 7)
    assert await products.update("id-a", {}) == updated
    assert await products.update("none", {}) is None
    assert await products.get("id-a") == updated
    assert await products.update_many({"name": "b"}, Partial(price=2.5)) == 1
    assert await products.update_many({"name": "none"}, {"price": 3}) == 0


WRONG_CHANGES: list[Any] = [
    {"nope": 1},
    {"address.city": "Rome"},
    {"$set": {"name": "x"}},
    {"name.x": 1},
    {"": 1},
    {5: 1},
    {"name": None},
    {"name": 5},
    {"name": "nul\0"},
    {"name": "\ud800"},
    {"stock": -1},
    {"stock": "planted"},
    {"price": float("nan")},
    {"price": float("inf")},
    {"sold": 2**63},
    {"id": "other"},
    {"tags": "planted"},
    {"tags": ["\0"]},
    {"address": {"city": 5}},
    {"stock": 5, "nope": 1},
    Partial(name=None),
    [("name", "x")],
    "name",
    None,
]


@pytest.mark.parametrize("changes", WRONG_CHANGES, ids=repr)
async def test_a_wrong_change_writes_nothing(products: Products, changes: Any) -> None:
    [product] = await fill(products, "a")
    calls = [
        products.update("id-a", changes),
        products.update("none", changes),
        products.update_many({"name": "a"}, changes),
        products.compare_and_set("id-a", {"name": "a"}, changes),
    ]
    for call in calls:
        with pytest.raises(InvalidChangeError) as caught:
            await call
        assert isinstance(caught.value, ValueError)
        assert "planted" not in str(caught.value)
    assert await products.all() == [product]


async def test_an_unknown_name_gets_a_suggestion(products: Products) -> None:
    with pytest.raises(InvalidChangeError, match="did you mean 'stock'"):
        await products.update("x", {"stok": 1})
    with pytest.raises(InvalidFilterError, match="did you mean 'stock'"):
        await products.find({"stok": 1})
    with pytest.raises(InvalidFilterError, match="did you mean 'stock'"):
        await products.find(order_by="stok")


EMPTY: list[Any] = [None, {}, {"$and": [{}]}, {"$or": [{}, {"name": "a"}]}, {"$nor": [{"$nor": [{}]}]}]


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
async def test_an_empty_filter_has_to_be_meant(products: Products, empty: Any) -> None:
    await fill(products, "a", "b")
    with pytest.raises(InvalidFilterError, match="everything=True"):
        await products.update_many(empty, {"stock": 1})
    with pytest.raises(InvalidFilterError, match="everything=True"):
        await products.delete_many(empty)
    assert await products.count({"stock": 0}) == 2
    assert await products.update_many(empty, {"stock": 1}, everything=True) == 2
    assert await products.delete_many(empty, everything=True) == 2
    assert await products.count() == 0


async def test_increment_is_atomic_and_keeps_the_model(products: Products) -> None:
    await fill(products, "a")
    sums = await asyncio.gather(*(products.increment("id-a", "stock") for _ in range(50)))
    assert sorted(sum_ for sum_ in sums if sum_ is not None) == list(range(1, 51))
    assert await products.increment("id-a", "stock", -50) == 0
    assert await products.increment("id-a", "sold", 3) == 3
    assert await products.increment("id-a", "price", 0.5) == 0.5
    assert await products.increment("id-a", "price", 1) == 1.5
    before = await products.get("id-a")
    assert isinstance(await products.increment("id-a", "stock", 0), int)
    wrong: list[tuple[str, Any]] = [
        *(
            ("stock", -1),
            ("stock", 1001),
            ("stock", 0.5),
            ("stock", 2**63),
            ("stock", "1"),
            ("stock", None),
            ("stock", True),
        ),
        *(
            ("price", float("inf")),
            ("price", float("nan")),
            ("name", 1),
            ("tags", 1),
            ("nope", 1),
            ("id", 1),
            ("$inc", 1),
        ),
    ]
    for field, by in wrong:
        with pytest.raises(InvalidChangeError):
            await products.increment("id-a", field, by)
    assert await products.increment("id-a", "sold", 2**62) == 2**62 + 3
    with pytest.raises(InvalidChangeError):
        await products.increment("id-a", "sold", 2**62)
    assert await products.increment("id-a", "price", 1.7e308) is not None
    with pytest.raises(InvalidChangeError):
        await products.increment("id-a", "price", 1.7e308)
    assert before is not None
    assert await products.get("id-a") == before.model_copy(update={"sold": 2**62 + 3, "price": 1.7e308 + 1.5})


async def test_put_if_absent(products: Products) -> None:
    assert await products.put_if_absent(Product(id="1", name="a", sku="a")) is True
    assert await products.put_if_absent(Product(id="1", name="b", sku="b")) is False
    with pytest.raises(DuplicateRecordError):
        await products.put_if_absent(Product(id="2", name="c", sku="a"))
    assert [product.name for product in await products.all()] == ["a"]
    results = await asyncio.gather(*(products.put_if_absent(Product(id="x", name=f"n{i}")) for i in range(50)))
    assert sum(results) == 1


async def test_compare_and_set(products: Products) -> None:
    await fill(products, "a")
    expected = {"stock": 0, "sold": None, "price": 0}
    changed = await products.compare_and_set("id-a", expected, {"stock": 1})
    assert changed is not None
    assert changed.stock == 1
    assert await products.compare_and_set("id-a", expected, {"stock": 2}) is None
    assert await products.compare_and_set("none", expected, {"stock": 2}) is None
    assert expected == {"stock": 0, "sold": None, "price": 0}
    with pytest.raises(InvalidFilterError):
        await products.compare_and_set("id-a", {"nope": 1}, {"stock": 2})
    with pytest.raises(InvalidFilterError):
        await products.compare_and_set("id-a", {"tags": []}, {"stock": 2})
    winners = await asyncio.gather(
        *(products.compare_and_set("id-a", {"stock": 1}, {"stock": 2 + i}) for i in range(50))
    )
    assert sum(winner is not None for winner in winners) == 1


async def test_delete(products: Products) -> None:
    await fill(products, "a", "b", "c")
    assert await products.delete("id-a") is True
    assert await products.delete("id-a") is False
    assert await products.get("id-a") is None
    assert await products.delete_many({"name": {"$in": ["b", "c", "d"]}}) == 2
    assert await products.count() == 0


async def test_only_the_models_own_entities_are_stored(products: Products) -> None:
    for wrong in ({"name": "a"}, Numbered(number=1), None):
        with pytest.raises(TypeError, match="Product"):
            await products.create(wrong)  # type: ignore[arg-type]


async def test_an_entity_that_nothing_validated_is_refused_and_not_half_stored(products: Products) -> None:
    broken = Product.model_construct(id="1", name="a")
    broken.__dict__["stock"] = "many"
    incomplete = Product.model_construct(id="1", name="a")
    del incomplete.__dict__["stock"]
    for each in (broken, incomplete):
        with pytest.raises(InvalidChangeError):
            await products.create(each)
    assert await products.count() == 0


async def test_a_repository_without_a_class(data: DataLayer) -> None:
    numbers = data.repository(Entity)
    entity = await numbers.create(Entity())
    assert await numbers.get(entity.id) == entity
    assert data.repository(Entity) is numbers


async def test_db_is_a_layer_or_a_manager(data: DataLayer, manager: ConnectionManager[Any]) -> None:
    await fill(Products(data), "a")
    through_manager = Products(manager)
    assert await through_manager.count() == 1
    assert through_manager.db is manager
    assert Products(data).db is manager
    assert through_manager.collection.name == "products"


class EveryAttribute:
    """A synchronous pymongo database has a collection for every attribute that is asked for."""

    def __getattr__(self, name: str) -> object:
        return EveryAttribute()


def test_a_synchronous_driver_is_refused() -> None:
    connection = sqlite3.connect(":memory:")
    for wrong in (connection, EveryAttribute(), "sqlite", 5):
        with pytest.raises(TypeError, match=r"data\.connection"):
            Products(wrong)  # type: ignore[arg-type]
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


class Left(Entity):
    code: str


class Right(Entity):
    code: str


class Lefts(Repository[Left]):
    indexes = (Index("code", unique=True, name="code_unique"),)


class Rights(Repository[Right]):
    indexes = (Index("code", unique=True, name="code_unique"),)


async def test_two_entities_may_name_an_index_alike(config: dict[str, Any]) -> None:
    for _ in range(2):
        async with DataLayer.from_config(config) as data:
            for repository, model in ((data.repository(Lefts), Left), (data.repository(Rights), Right)):
                repo: Repository[Any] = repository
                await repo.delete_many(None, everything=True)
                await repo.create(model(code="a"))
                with pytest.raises(DuplicateRecordError) as caught:
                    await repo.create(model(code="a"))
                assert caught.value.field == "code"


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
