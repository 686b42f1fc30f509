"""Upserts: one atomic step that stores or changes."""

import asyncio
from typing import Any

import pytest

from ...core.errors import DuplicateRecordError, InvalidChangeError, InvalidFilterError
from ..models import Address, Note, Notes, Product, Products, fill
from .base import Contract, Place


class UpsertContract(Contract):
    async def test_by_id(self, products: Products) -> None:
        product = Product(id="1", name="a", sku="a", tags=["x"])
        assert await products.upsert(product) == product
        changed = Product(id="1", name="b", sku="b", address=Address(city="Rome"))
        assert await products.upsert(changed) == changed
        assert await products.upsert(changed, on="id") == changed
        assert await products.all() == [changed]

    async def test_by_a_unique_field_keeps_the_id(self, products: Products) -> None:
        [product] = await fill(products, "a")
        stored = await products.upsert(Product(id="other", name="z", sku="a", stock=5), on="sku")
        assert (stored.id, stored.name, stored.stock) == (product.id, "z", 5)
        assert await products.get("other") is None
        assert await products.upsert(Product(id="new", name="n", sku="n"), on=["sku"]) == await products.get("new")
        stored = await products.upsert(Product(id="x", name="n", price=0.0, stock=3, sku="m"), on=("name", "price"))
        assert (stored.id, stored.sku) == ("new", "m")
        assert await products.count() == 2

    async def test_another_unique_value_in_the_way(self, products: Products) -> None:
        before = await fill(products, "a", "b")
        with pytest.raises(DuplicateRecordError) as caught:
            await products.upsert(Product(id="id-a", name="x", sku="b"))
        assert caught.value.fields == ("sku",)
        with pytest.raises(DuplicateRecordError) as caught:
            await products.upsert(Product(id="id-a", name="x", sku="new"), on="sku")
        assert caught.value.fields == ("id",)
        assert await products.all() == before

    async def test_none_is_no_duplicate(self, products: Products) -> None:
        await products.upsert(Product(id="1", name="a", sku=None), on="sku")
        await products.upsert(Product(id="2", name="b", sku=None), on="sku")
        assert await products.count() == 2

    async def test_concurrent_upserts_leave_one_record(self, products: Products) -> None:
        stored = await asyncio.gather(
            *(products.upsert(Product(id=f"{i}", name="same", sku="same", stock=i), on="sku") for i in range(50))
        )
        assert len({each.id for each in stored}) == 1
        [last] = await products.all()
        assert last in stored

    async def test_many(self, products: Products) -> None:
        await fill(products, *(f"{i:04}" for i in range(0, 600, 2)))
        given = [Product(id=f"id-{i:04}", name=f"{i:04}", sku=f"{i:04}", stock=1) for i in range(600)]
        assert await products.upsert_many(given) == 600
        assert await products.count({"stock": 1}) == 600
        by_sku = [Product(name=f"{i:04}", sku=f"{i:04}", stock=2) for i in range(600)]
        assert await products.upsert_many(by_sku, on="sku") == 600
        assert await products.count({"stock": 2}) == 600
        assert {each.id for each in await products.all()} == {each.id for each in given}
        assert await products.upsert_many([]) == 0

    async def test_many_at_once_in_any_order(self, products: Products) -> None:
        names = [f"{i:03}" for i in range(40)]

        async def write(turn: int) -> int:
            given = names[turn:] + names[:turn] if turn % 2 else names[::-1]
            return await products.upsert_many([Product(name=n, sku=n, stock=turn) for n in given], on="sku")

        assert await asyncio.gather(*map(write, range(10))) == [40] * 10
        assert len({each.stock for each in await products.all()}) == 1

    async def test_many_are_all_or_none(self, products: Products) -> None:
        before = await fill(products, "a", "b")
        with pytest.raises(DuplicateRecordError) as caught:
            await products.upsert_many(
                [
                    Product(id="new", name="new"),
                    Product(id="id-a", name="x", sku="x"),
                    Product(id="z", name="z", sku="b"),
                ]
            )
        assert caught.value.fields == ("sku",)
        assert await products.all() == before
        with pytest.raises(InvalidChangeError):
            await products.upsert_many([Product(id="1", name="a1"), Product(id="1", name="a2")])
        with pytest.raises(InvalidChangeError):
            await products.upsert_many([Product(id="1", name="c"), Product(id="2", name="nul\0")])
        assert await products.all() == before

    @pytest.mark.parametrize("on", ["name", "nope", ["sku", "name"], ["name"], "price", "tags", "$set", 5])
    async def test_what_is_not_unique_cannot_decide(self, products: Products, on: Any) -> None:
        with pytest.raises(InvalidFilterError):
            await products.upsert(Product(name="a"), on=on)
        assert await products.count() == 0

    async def test_timestamps_and_deleted_records(self, place: Place) -> None:
        notes: Notes = place(Notes)
        first = await notes.create(Note(text="a", body="1"))
        await asyncio.sleep(0.002)
        second = await notes.upsert(Note(text="a", body="2"), on="text")
        assert second.id == first.id
        assert second.created_at == first.created_at
        assert second.updated_at > first.updated_at
        assert await notes.delete(first.id)
        third = await notes.upsert(Note(text="a", body="3"), on="text")
        assert third.id != first.id
        with pytest.raises(DuplicateRecordError) as caught:
            await notes.upsert(Note(id=first.id, text="b"))
        assert caught.value.fields == ("id",)
        deleted = await notes.only_deleted().get(first.id)
        assert deleted is not None
        assert deleted.body == "2"
        assert [each.body for each in await notes.all()] == ["3"]
