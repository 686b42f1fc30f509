"""The operations of a repository, the same on every store."""

from typing import Any

import pytest
from pydantic import BaseModel

from ...core.errors import (
    DuplicateRecordError,
    InvalidChangeError,
    InvalidFilterError,
    RecordNotFoundError,
    UnsupportedOperationError,
)
from ...db.query import Compare, Not, Op
from ...db.repositories.base import Repository
from ..models import Address, Part, Parts, Product, Products, fill
from .base import Contract, Place


async def names_of(products: Products, **options: Any) -> list[str]:
    return [product.name for product in await products.find(**options)]


class Numbered(BaseModel):
    number: int
    text: str = ""


class NumberedRepository(Repository[Numbered]):
    key = "number"


MALFORMED: list[Any] = ["none", "", "\0", "\ud800", "'; --", None, 5, 2**70, b"x", 1.5, ["a"], {"$ne": None}]


class RecordContract(Contract):
    async def test_another_key_than_id(self, place: Place) -> None:
        numbered = place(NumberedRepository)
        await numbered.create_many([Numbered(number=2, text="b"), Numbered(number=1, text="a")])
        assert [each.text for each in await numbered.all()] == ["a", "b"]
        assert await numbered.get(2) == Numbered(number=2, text="b")
        assert await numbered.get(2**63) is None
        assert await numbered.get("no number") is None
        with pytest.raises(DuplicateRecordError) as caught:
            await numbered.create(Numbered(number=2))
        assert caught.value.field == "number"

    async def test_create_and_get(self, products: Products) -> None:
        product = Product(name="pen", sku="p", price=1.5, tags=["a"], address=Address(city="Rome", zipCode="001"))
        before = product.model_copy(deep=True)
        created = await products.create(product)
        assert created == product == before
        assert created is not product
        assert await products.get(product.id) == product
        assert await products.get_or_raise(product.id) == product
        assert len(product.id) == 24

    @pytest.mark.parametrize("malformed", MALFORMED, ids=repr)
    async def test_an_id_that_no_record_has_gives_none(self, products: Products, malformed: Any) -> None:
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

    async def test_create_many_stores_all_or_none(self, products: Products) -> None:
        stored = await fill(products, "a", "b")
        assert [product.name for product in stored] == ["a", "b"]
        with pytest.raises(DuplicateRecordError) as caught:
            await products.create_many([Product(name="c"), Product(name="d", sku="a"), Product(name="e")])
        assert caught.value.fields == ("sku",)
        with pytest.raises(InvalidChangeError):
            await products.create_many([Product(name="c"), Product(name="nul\0")])
        assert await products.count() == 2
        assert await products.create_many([]) == []

    async def test_a_duplicate_names_the_fields_of_its_index(self, products: Products) -> None:
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

    async def test_a_condition_of_bytes_limits_a_unique_index(self, place: Place) -> None:
        parts = place(Parts)
        await parts.create(Part(name="a", code=b"a"))
        await parts.create(Part(name="a", code=b"a"))
        await parts.create(Part(name="a", code=b"\\x61"))
        with pytest.raises(DuplicateRecordError) as caught:
            await parts.create(Part(name="a", code=b"\\x61"))
        assert caught.value.fields == ("name",)
        assert await parts.count() == 3

    async def test_none_is_no_duplicate(self, products: Products) -> None:
        await products.create_many([Product(name="a"), Product(name="b")])
        assert await products.count({"sku": None}) == 2

    async def test_get_many_keeps_the_order(self, products: Products) -> None:
        await fill(products, "a", "b", "c")
        found = await products.get_many(["id-c", "none", "id-a", "id-c"])
        assert [product.name for product in found] == ["c", "a", "c"]
        assert await products.get_many([]) == []
        assert await products.get_many(["none"]) == []

    async def test_find_filters_orders_and_pages(self, products: Products) -> None:
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

    async def test_nulls_stand_first_and_ties_by_id(self, products: Products) -> None:
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
    async def test_a_wrong_order_or_page_is_an_error(self, products: Products, options: dict[str, Any]) -> None:
        await fill(products, "a")
        with pytest.raises(InvalidFilterError):
            await products.find(**options)

    async def test_sorting_by_what_is_nested_is_not_done(self, products: Products) -> None:
        with pytest.raises(UnsupportedOperationError):
            await products.find(order_by="tags")

    async def test_delete(self, products: Products) -> None:
        await fill(products, "a", "b", "c")
        assert await products.delete("id-a") is True
        assert await products.delete("id-a") is False
        assert await products.get("id-a") is None
        assert await products.delete_many({"name": {"$in": ["b", "c", "d"]}}) == 2
        assert await products.count() == 0

    async def test_only_the_models_own_entities_are_stored(self, products: Products) -> None:
        for wrong in ({"name": "a"}, Numbered(number=1), None):
            with pytest.raises(TypeError, match="Product"):
                await products.create(wrong)  # type: ignore[arg-type]

    async def test_an_entity_that_nothing_validated_is_refused_and_not_half_stored(self, products: Products) -> None:
        broken = Product.model_construct(id="1", name="a")
        broken.__dict__["stock"] = "many"
        incomplete = Product.model_construct(id="1", name="a")
        del incomplete.__dict__["stock"]
        for each in (broken, incomplete):
            with pytest.raises(InvalidChangeError):
                await products.create(each)
        assert await products.count() == 0
