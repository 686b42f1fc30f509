"""Updates, increments and conditional writes: validated first, atomic, and nothing half-written."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from ...core.errors import DuplicateRecordError, InvalidChangeError, InvalidFilterError
from ..models import Address, Part, Parts, Product, Products, fill
from .base import Contract, Place


class Partial(BaseModel):
    name: str | None = None
    stock: int | None = None
    price: float | None = None


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


EMPTY: list[Any] = [None, {}, {"$and": [{}]}, {"$or": [{}, {"name": "a"}]}, {"$nor": [{"$nor": [{}]}]}]


class ChangeContract(Contract):
    async def test_update_takes_a_dict_or_a_partial_model(self, products: Products) -> None:
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

    @pytest.mark.parametrize("changes", WRONG_CHANGES, ids=repr)
    async def test_a_wrong_change_writes_nothing(self, products: Products, changes: Any) -> None:
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

    async def test_an_unknown_name_gets_a_suggestion(self, products: Products) -> None:
        with pytest.raises(InvalidChangeError, match="did you mean 'stock'"):
            await products.update("x", {"stok": 1})
        with pytest.raises(InvalidFilterError, match="did you mean 'stock'"):
            await products.find({"stok": 1})
        with pytest.raises(InvalidFilterError, match="did you mean 'stock'"):
            await products.find(order_by="stok")

    @pytest.mark.parametrize("empty", EMPTY, ids=repr)
    async def test_an_empty_filter_has_to_be_meant(self, products: Products, empty: Any) -> None:
        await fill(products, "a", "b")
        with pytest.raises(InvalidFilterError, match="everything=True"):
            await products.update_many(empty, {"stock": 1})
        with pytest.raises(InvalidFilterError, match="everything=True"):
            await products.delete_many(empty)
        assert await products.count({"stock": 0}) == 2
        assert await products.update_many(empty, {"stock": 1}, everything=True) == 2
        assert await products.delete_many(empty, everything=True) == 2
        assert await products.count() == 0

    async def test_increment_is_atomic_and_keeps_the_model(self, products: Products) -> None:
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

    async def test_a_sum_is_of_the_fields_type(self, place: Place) -> None:
        parts = place(Parts)
        await parts.create(Part(id="1"))
        for by, expected in ((-1, -1.0), (0.5, -0.5), (1, 0.5)):
            found = await parts.increment("1", "weight", by)
            assert (type(found), found) == (float, expected)

    async def test_put_if_absent(self, products: Products) -> None:
        assert await products.put_if_absent(Product(id="1", name="a", sku="a")) is True
        assert await products.put_if_absent(Product(id="1", name="b", sku="b")) is False
        with pytest.raises(DuplicateRecordError):
            await products.put_if_absent(Product(id="2", name="c", sku="a"))
        assert [product.name for product in await products.all()] == ["a"]
        results = await asyncio.gather(*(products.put_if_absent(Product(id="x", name=f"n{i}")) for i in range(50)))
        assert sum(results) == 1

    async def test_compare_and_set(self, products: Products) -> None:
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
