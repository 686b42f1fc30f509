"""Transactions: all or nothing, seen from inside and from outside, on the stores that have them."""

import asyncio
from typing import Any

import pytest

from ...core.errors import DuplicateRecordError, InvalidChangeError, TransactionError, UnsupportedOperationError
from ...db.backends.base import Capability
from ...db.query import F
from ..models import Note, Notes, Product, Products, fill
from .base import Contract, Place


class InterruptedWorkError(Exception):
    """Raised to leave a block."""


async def transactional(products: Products) -> Products:
    """Skip where the store has no transactions, once it was seen to refuse one before any write."""
    await fill(products, "a", "b")
    if Capability.TRANSACTIONS not in products.capabilities:
        with pytest.raises(UnsupportedOperationError):
            async with products.transaction() as tx:
                await tx.create(Product(name="c"))
        assert await products.count() == 2
        pytest.skip("the store has no transactions, and says so")
    return products


class TransactionContract(Contract):
    @pytest.fixture
    async def products(self, place: Place) -> Products:
        return await transactional(place(Products))

    async def test_leaving_commits(self, products: Products) -> None:
        async with products.transaction() as tx:
            created = await tx.create(Product(id="1", name="c", sku="c"))
            assert created.name == "c"
            assert await tx.update("id-a", {"stock": 5}) is not None
            assert await tx.delete("id-b") is True
            assert await tx.get("1") == created
            assert [each.name for each in await tx.find(order_by="name")] == ["a", "c"]
            assert await tx.count() == 2
        assert [(each.name, each.stock) for each in await products.find(order_by="name")] == [("a", 5), ("c", 0)]

    async def test_an_exception_rolls_back(self, products: Products) -> None:
        before = await products.all()
        with pytest.raises(InterruptedWorkError):
            async with products.transaction() as tx:
                await tx.create_many([Product(name="c"), Product(name="d")])
                await tx.update_many({}, {"stock": 5}, everything=True)
                await tx.increment("id-a", "sold", 3)
                await tx.upsert(Product(name="x", sku="b"), on="sku")
                assert await tx.delete_many({"name": "a"}) == 1
                assert await tx.count() == 3
                raise InterruptedWorkError
        assert await products.all() == before

    async def test_what_is_open_is_not_seen_outside(self, products: Products) -> None:
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="c"))
            assert await products.get("1") is None
            assert await products.count() == 2
            assert await tx.get("1") is not None
        assert await products.get("1") is not None

    async def test_commit_ends_it(self, products: Products) -> None:
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="c"))
            view = tx.repository(type(products))
            await tx.commit()
            assert await products.get("1") is not None
            for call in (lambda: tx.get("1"), tx.commit, tx.rollback):
                with pytest.raises(TransactionError):
                    await call()
            for method in (view.get("1"), view.create(Product(name="d")), view.delete("1"), view.count()):
                with pytest.raises(TransactionError):
                    await method
        assert await products.count() == 3

    async def test_rollback_ends_it(self, products: Products) -> None:
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="c"))
            await tx.rollback()
            with pytest.raises(TransactionError):
                await tx.create(Product(id="2", name="d"))
        assert await products.count() == 2

    async def test_it_begins_with_the_block(self, products: Products) -> None:
        unit = products.transaction()
        with pytest.raises(TransactionError):
            await unit.commit()
        with pytest.raises(TransactionError):
            await unit.get("id-a")
        async with unit:
            pass
        with pytest.raises(TransactionError):
            async with unit:
                pass

    async def test_another_repository_of_the_connection_takes_part(self, place: Place, products: Products) -> None:
        notes: Notes = place(Notes)
        with pytest.raises(InterruptedWorkError):
            async with products.transaction() as tx:
                await tx.repository(type(notes)).create(Note(text="n"))
                await tx.create(Product(name="c"))
                raise InterruptedWorkError
        assert await notes.count() == 0
        async with products.transaction() as tx:
            note = await tx.repository(type(notes)).create(Note(text="n"))
            await tx.create(Product(name="c"))
        assert await notes.get(note.id) == note
        async with products.transaction() as tx:
            assert await tx.repository(type(notes)).delete(note.id) is True
            assert await tx.repository(type(notes)).get(note.id) is None
            assert await tx.repository(type(notes)).with_deleted().count() == 1
        assert await notes.count() == 0
        assert await products.count() == 3

    async def test_the_queries_of_a_transaction(self, products: Products) -> None:
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="c", stock=7))
            assert [each.id for each in await tx.query().where(F.stock > 5).execute()] == ["1"]
            assert {each.name async for each in tx.stream(batch_size=1)} == {"a", "b", "c"}
            page = await tx.page(size=2)
            assert [each.name for each in (await tx.page(size=2, after=page.next)).items] == ["b"]
            assert await tx.query().where("stock", ">", 5).update({"stock": 1}) == 1
            assert await tx.exists({"stock": 7}) is False
            assert [each.name for each in await tx.get_many(["id-b", "1"])] == ["b", "c"]
            assert await tx.put_if_absent(Product(id="1", name="d")) is False
            assert await tx.put_if_absent(Product(id="2", name="d")) is True
            assert await tx.compare_and_set("2", {"name": "d"}, {"name": "e"}) is not None
            assert await tx.upsert_many([Product(id="2", name="f"), Product(id="3", name="g")]) == 2
        assert [each.name for each in await products.all()] == ["c", "f", "g", "a", "b"]

    async def test_a_duplicate_leaves_nothing_behind(self, products: Products) -> None:
        with pytest.raises(DuplicateRecordError) as caught:
            async with products.transaction() as tx:
                await tx.update("id-b", {"stock": 5})
                await tx.create(Product(name="x", sku="a"))
        assert caught.value.fields == ("sku",)
        assert await products.count({"stock": 5}) == 0
        with pytest.raises(InvalidChangeError):
            async with products.transaction() as tx:
                await tx.update("id-b", {"stock": 5})
                await tx.update("id-b", {"stock": -5})
        assert await products.count({"stock": 5}) == 0

    async def test_savepoints(self, products: Products) -> None:
        if Capability.SAVEPOINTS not in products.capabilities:
            with pytest.raises(UnsupportedOperationError):
                async with products.transaction() as tx, tx.savepoint():
                    pass
            return
        async with products.transaction() as tx:
            await tx.create(Product(id="1", name="c"))
            with pytest.raises(DuplicateRecordError):
                async with tx.savepoint():
                    await tx.create(Product(id="2", name="d"))
                    await tx.create(Product(id="3", name="x", sku="a"))
            async with tx.savepoint():
                await tx.create(Product(id="4", name="e"))
                with pytest.raises(InterruptedWorkError):
                    async with tx.savepoint():
                        await tx.delete("4")
                        raise InterruptedWorkError
        assert [each.id for each in await products.all()] == ["1", "4", "id-a", "id-b"]

    async def test_a_transaction_within_one_is_a_savepoint(self, products: Products) -> None:
        async with products.transaction() as tx:
            with pytest.raises(TransactionError, match="savepoint"):
                tx.repository(type(products)).transaction()

    async def test_a_cancelled_task_leaves_nothing_behind(self, products: Products) -> None:
        for wait in (0.0, 0.001, 0.003, 0.01):
            started = asyncio.Event()

            async def work(started: asyncio.Event = started) -> None:
                async with products.transaction() as tx:
                    started.set()
                    for i in range(1000):
                        await tx.create(Product(id=f"x{i}", name=f"x{i}"))

            task = asyncio.create_task(work())
            await started.wait()
            await asyncio.sleep(wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await products.count() == 2
            async with products.transaction() as tx:
                await tx.update("id-a", {"stock": 1})

    async def test_concurrent_transactions_lose_no_update(self, products: Products) -> None:
        async def add() -> None:
            for _ in range(200):
                try:
                    async with products.transaction() as tx:
                        product = await tx.get("id-a")
                        assert product is not None
                        stock = product.stock
                        assert await tx.compare_and_set("id-a", {"stock": stock}, {"stock": stock + 1}), "overtaken"
                except (TransactionError, AssertionError):
                    await asyncio.sleep(0.001)
                else:
                    return
            pytest.fail("no transaction came through")

        await asyncio.gather(*(add() for _ in range(20)))
        product = await products.get("id-a")
        assert product is not None
        assert product.stock == 20

    async def test_what_was_read_is_still_so_when_it_commits(self, products: Products) -> None:
        """Read, decide, write: ten sales of one, of which five are in stock."""
        await products.update("id-a", {"stock": 5})

        async def sell() -> bool:
            for _ in range(200):
                try:
                    async with products.transaction() as tx:
                        product = await tx.get_or_raise("id-a")
                        if product.stock == 0:
                            return False
                        await asyncio.sleep(0.001)
                        await tx.update("id-a", {"stock": product.stock - 1})
                except TransactionError:
                    await asyncio.sleep(0.002)
                else:
                    return True
            pytest.fail("no transaction came through")

        sold = await asyncio.gather(*(sell() for _ in range(10)))
        assert sum(sold) == 5
        assert (await products.get_or_raise("id-a")).stock == 0

    async def test_first_use_within_a_transaction(self, place: Place, products: Products) -> None:
        notes = place(Notes)
        async with products.transaction() as tx:
            await tx.repository(type(notes)).create(Note(id="1", text="n"))
        assert await notes.get("1") is not None

    async def test_a_private_name_is_no_method_of_a_transaction(self, products: Products) -> None:
        async with products.transaction() as tx:
            unit: Any = tx
            with pytest.raises(AttributeError):
                _ = unit._binding
            with pytest.raises(AttributeError):
                _ = unit.no_such_method
