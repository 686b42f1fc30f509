"""Pages and streams: every record once, also while others are written."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ...core.errors import InvalidFilterError, UnsupportedOperationError
from ...db.backends.base import Capability
from ..models import Notes, Product, Products, fill
from .base import Contract, Place

if TYPE_CHECKING:
    from ...db.query.ordering import OrderBy


async def all_pages(products: Products, size: int, **options: Any) -> list[list[str]]:
    pages: list[list[str]] = []
    after = None
    while True:
        page = await products.page(size=size, after=after, **options)
        pages.append([each.id for each in page.items])
        after = page.next
        if after is None:
            return pages


class PageContract(Contract):
    async def test_pages_hold_every_record_once(self, products: Products) -> None:
        assert await all_pages(products, 3) == [[]]
        await fill(products, *"abcdefg")
        assert await all_pages(products, 3) == [["id-a", "id-b", "id-c"], ["id-d", "id-e", "id-f"], ["id-g"]]
        assert await all_pages(products, 7) == [[f"id-{name}" for name in "abcdefg"]]
        assert await all_pages(products, 6, order_by="-name") == [[f"id-{name}" for name in "gfedcb"], ["id-a"]]
        assert await all_pages(products, 2, filter={"name": {"$in": ["b", "d", "f"]}}) == [["id-b", "id-d"], ["id-f"]]

    @pytest.mark.parametrize("direction", ["asc", "desc"])
    @pytest.mark.parametrize("size", [1, 2, 3])
    async def test_pages_over_ties_and_nulls(self, products: Products, direction: str, size: int) -> None:
        await products.create_many(
            Product(id=f"{i}", name=f"n{i}", sold=[None, 2, 1, None, 2, 2, None, 5][i], price=float(i % 2))
            for i in range(8)
        )
        orders: list[OrderBy] = [[("sold", direction)], ["price", ("sold", direction)], [("sold", direction), "-id"]]
        for order in orders:
            expected = [each.id for each in await products.find(order_by=order)]
            found = await all_pages(products, size, order_by=order)
            assert [each for page in found for each in page] == expected
            assert all(len(page) == size for page in found[:-1])

    async def test_a_page_does_not_move_when_records_come_and_go(self, products: Products) -> None:
        await fill(products, "b", "d", "f", "h")
        first = await products.page(order_by="name", size=2)
        await fill(products, "a", "c", "g")
        await products.delete("id-b")
        second = await products.page(order_by="name", size=2, after=first.next)
        assert [each.name for each in second.items] == ["f", "g"]
        third = await products.page(order_by="name", size=2, after=second.next)
        assert [each.name for each in third.items] == ["h"]
        assert third.next is None

    async def test_pages_under_concurrent_inserts(self, products: Products) -> None:
        await fill(products, *(f"m{i:03}" for i in range(60)))

        async def insert(start: int) -> None:
            for i in range(start, 60, 4):
                await fill(products, f"a{i:03}", f"m{i:03}+", f"z{i:03}")

        writers = [asyncio.create_task(insert(i)) for i in range(4)]
        found = [each for page in await all_pages(products, 7, order_by="name") for each in page]
        await asyncio.gather(*writers)
        assert len(set(found)) == len(found)
        assert {f"id-m{i:03}" for i in range(60)} <= set(found)

    async def test_a_cursor_carries_values_of_each_kind(self, place: Place) -> None:
        notes = place(Notes)
        made = [await notes.create(notes.model(id=f"{i}", text=f"t/{i}+é'\"")) for i in range(3)]
        for order in ("created_at", "-created_at", "text", "-text"):
            expected = [each.id for each in await notes.find(order_by=order)]
            assert [each for page in await all_pages(notes, 1, order_by=order) for each in page] == expected
        assert len(made) == 3

    async def test_a_cursor_of_nothing_is_an_error(self, products: Products) -> None:
        await fill(products, "a", "b", "c")
        by_name = (await products.page(order_by="name", size=1)).next
        by_price = (await products.page(order_by="price", size=1)).next
        assert by_name is not None
        wrong: list[Any] = [
            by_price,
            "",
            "x",
            by_name[:-3],
            by_name + "AAAA",
            "é",
            5,
            b"x",
            "bnVsbA",
            "W10",
            "A" * 200_000,
        ]
        wrong += ["WyJuYW1lLGlkIixbeyIkZ3QiOiIifSwiYSJdXQ", "WyJuYW1lLGlkIixbMSwyXV0", "WyJuYW1lLGlkIixudWxsXQ"]
        for cursor in wrong:
            with pytest.raises(InvalidFilterError):
                await products.page(order_by="name", size=1, after=cursor)
        for size in (0, -1, 10_001, True, "5", None, 1.5):
            with pytest.raises(InvalidFilterError):
                await products.page(size=size)  # type: ignore[arg-type]


class StreamContract(Contract):
    async def test_a_stream_has_every_record_once(self, products: Products) -> None:
        assert [each async for each in products.stream()] == []
        await fill(products, *(f"{i:03}" for i in range(250)))
        for size in (1, 7, 250, 500):
            found = [each.id async for each in products.stream(batch_size=size)]
            assert sorted(found) == [f"id-{i:03}" for i in range(250)]
        found = [each.id async for each in products.stream({"name": {"$lt": "100"}}, batch_size=30)]
        assert sorted(found) == [f"id-{i:03}" for i in range(100)]
        assert [each.id async for each in products.stream({"sku": "007"})] == ["id-007"]

    async def test_a_stream_in_order(self, products: Products, capabilities: frozenset[Capability]) -> None:
        await fill(products, *"cabed")
        stream = products.query().order_by("name", "desc").stream(batch_size=2)
        if Capability.ORDERED_STREAM in capabilities:
            assert [each.name async for each in stream] == ["e", "d", "c", "b", "a"]
        else:
            with pytest.raises(UnsupportedOperationError):
                [each async for each in stream]

    async def test_what_is_streamed_can_be_written_meanwhile(self, products: Products) -> None:
        await fill(products, *(f"{i:03}" for i in range(60)))
        seen = []
        async for each in products.stream(batch_size=5):
            seen.append(each.id)
            await products.update(each.id, {"stock": 1})
        assert sorted(seen) == [f"id-{i:03}" for i in range(60)]
        assert await products.count({"stock": 1}) == 60

    async def test_a_stream_that_is_left_holds_nothing(self, products: Products) -> None:
        await fill(products, *(f"{i:03}" for i in range(60)))
        for _ in range(50):
            async for _each in products.stream(batch_size=5):
                break
        assert await products.count() == 60

    async def test_a_wrong_batch_size_is_an_error(self, products: Products) -> None:
        for size in (0, -1, 10_001, True, "5", None):
            with pytest.raises(InvalidFilterError):
                [each async for each in products.stream(batch_size=size)]  # type: ignore[arg-type]
