"""What the library does to every record: timestamps, soft deletes and versions, each by a mixin of the model."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest

from ...core.errors import (
    ConfigurationError,
    DuplicateRecordError,
    InvalidChangeError,
    InvalidFilterError,
    RecordNotFoundError,
    StaleRecordError,
)
from ..models import Draft, Drafts, Note, Notes, Products, fill
from .base import Contract, Place


class SoftDeleteContract(Contract):
    @pytest.fixture
    def notes(self, place: Place) -> Notes:
        notes: Notes = place(Notes)
        return notes

    async def test_restore(self, notes: Notes) -> None:
        note = await notes.create(Note(id="1", text="a"))
        assert await notes.restore("1") is None
        assert await notes.delete("1") is True
        assert await notes.get("1") is None
        restored = await notes.restore("1")
        assert restored is not None
        assert restored.deleted_at is None
        assert restored.created_at == note.created_at
        assert await notes.get("1") == restored
        for none in ("1", "2", None, "\0"):
            assert await notes.restore(none) is None

    async def test_restoring_into_a_taken_value(self, notes: Notes) -> None:
        await notes.create(Note(id="1", text="a"))
        await notes.delete("1")
        await notes.create(Note(id="2", text="a"))
        with pytest.raises(DuplicateRecordError) as caught:
            await notes.restore("1")
        assert caught.value.fields == ("text",)
        assert [each.id for each in await notes.all()] == ["2"]
        await notes.delete("2")
        assert await notes.restore("1") is not None

    async def test_purge(self, notes: Notes) -> None:
        await notes.create_many(Note(id=f"{i}", text=f"{i}") for i in range(4))
        assert await notes.purge() == 0
        for wrong in ("x", 5, date(2026, 1, 1)):
            with pytest.raises(InvalidFilterError):
                await notes.purge(older_than=wrong)  # type: ignore[arg-type]
        assert await notes.purge(older_than=timedelta(days=10**6)) == 0
        await notes.delete("1")
        await asyncio.sleep(0.005)
        between = datetime.now(UTC)
        await asyncio.sleep(0.005)
        await notes.delete("2")
        assert await notes.purge(older_than=timedelta(days=1)) == 0
        assert await notes.purge(older_than=between) == 1
        assert [each.id for each in await notes.only_deleted().all()] == ["2"]
        await asyncio.sleep(0.005)
        assert await notes.purge(older_than=timedelta(0)) == 1
        assert [each.id for each in await notes.with_deleted().all()] == ["0", "3"]

    async def test_nobody_deletes_by_writing(self, notes: Notes) -> None:
        deleted = datetime.now(UTC)
        created = await notes.create(Note(id="1", text="a", deleted_at=deleted))
        await notes.create_many([Note(id="2", text="b", deleted_at=deleted)])
        await notes.put_if_absent(Note(id="3", text="c", deleted_at=deleted))
        await notes.upsert(Note(id="4", text="d", deleted_at=deleted))
        await notes.upsert(Note(text="a", body="x", deleted_at=deleted), on="text")
        await notes.upsert_many([Note(id="2", text="b", deleted_at=deleted)])
        assert created.deleted_at is None
        assert [each.id for each in await notes.all()] == ["1", "2", "3", "4"]
        assert await notes.only_deleted().count() == 0

    async def test_deleting_is_a_change(self, notes: Notes) -> None:
        note = await notes.create(Note(id="1", text="a"))
        await asyncio.sleep(0.005)
        await notes.delete("1")
        deleted = await notes.only_deleted().get_or_raise("1")
        assert deleted.updated_at > note.updated_at
        assert deleted.created_at == note.created_at

    async def test_hard_deletes_leave_nothing(self, notes: Notes) -> None:
        await notes.create_many(Note(id=f"{i}", text=f"{i}") for i in range(4))
        await notes.delete("1")
        assert await notes.delete("0", hard=True) is True
        assert await notes.delete("1", hard=True) is False
        assert await notes.with_deleted().delete("1", hard=True) is True
        assert await notes.delete_many({"text": {"$in": ["2", "3"]}}) == 2
        assert await notes.only_deleted().count() == 2
        assert await notes.only_deleted().delete_many({"text": "2"}, hard=True) == 1
        assert [each.id for each in await notes.with_deleted().all()] == ["3"]

    async def test_what_is_not_soft_deleted_has_nothing_to_restore(self, products: Products) -> None:
        await fill(products, "a")
        with pytest.raises(ConfigurationError):
            await products.restore("id-a")
        with pytest.raises(ConfigurationError):
            await products.purge()


class VersionContract(Contract):
    @pytest.fixture
    def drafts(self, place: Place) -> Drafts:
        drafts: Drafts = place(Drafts)
        return drafts

    async def test_every_write_is_a_version(self, drafts: Drafts) -> None:
        created = await drafts.create(Draft(id="1", title="a", version=7))
        assert created.version == 1
        [many] = await drafts.create_many([Draft(id="2", title="b", version=7)])
        assert many.version == 1
        assert await drafts.put_if_absent(Draft(id="3", title="c", version=7))
        assert (await drafts.get_or_raise("3")).version == 1
        updated = await drafts.update("1", {"body": "x"})
        assert updated is not None
        assert updated.version == 2
        assert await drafts.increment("1", "views") == 1
        assert await drafts.update_many({"title": "a"}, {"body": "y"}) == 1
        assert await drafts.compare_and_set("1", {"body": "y"}, {"body": "z"}) is not None
        assert await drafts.compare_and_set("1", {"body": "y"}, {"body": "z"}) is None
        assert (await drafts.get_or_raise("1")).version == 5
        assert (await drafts.upsert(Draft(id="1", title="a", version=9))).version == 6
        assert (await drafts.upsert(Draft(title="a", body="u"), on="title")).version == 7
        assert (await drafts.upsert(Draft(id="4", title="d", version=9))).version == 1
        assert await drafts.upsert_many([Draft(id="1", title="a"), Draft(id="5", title="e")]) == 2
        assert [(each.id, each.version) for each in await drafts.all()] == [
            ("1", 8),
            ("2", 1),
            ("3", 1),
            ("4", 1),
            ("5", 1),
        ]
        await drafts.delete("1")
        assert (await drafts.with_deleted().get_or_raise("1")).version == 9
        restored = await drafts.restore("1")
        assert restored is not None
        assert restored.version == 10

    async def test_a_stale_version_is_told_with_both(self, drafts: Drafts) -> None:
        await drafts.create(Draft(id="1", title="a"))
        assert await drafts.update("1", {"body": "x"}, version=1) is not None
        for call in (
            lambda: drafts.update("1", {"body": "y"}, version=1),
            lambda: drafts.delete("1", version=1),
            lambda: drafts.delete("1", version=1, hard=True),
            lambda: drafts.save(Draft(id="1", title="b")),
            lambda: drafts.update("1", {"body": "y"}, version=3),
        ):
            with pytest.raises(StaleRecordError) as caught:
                await call()
            assert (caught.value.expected, caught.value.actual) in ((1, 2), (3, 2))
        assert (await drafts.get_or_raise("1")).body == "x"
        assert await drafts.update("none", {"body": "y"}, version=1) is None
        assert await drafts.delete("none", version=1) is False
        assert await drafts.delete("1", version=2) is True
        assert await drafts.update("1", {"body": "y"}, version=2) is None

    async def test_save(self, drafts: Drafts, products: Products) -> None:
        created = await drafts.create(Draft(id="1", title="a"))
        draft = created.model_copy(deep=True)
        draft.title, draft.body, draft.views = "b", "x", 3
        saved = await drafts.save(draft)
        assert (saved.title, saved.body, saved.views, saved.version) == ("b", "x", 3, 2)
        assert saved.created_at == created.created_at
        assert await drafts.get("1") == saved
        assert (await drafts.save(saved)).version == 3
        with pytest.raises(RecordNotFoundError):
            await drafts.save(Draft(id="none", title="c"))
        [product] = await fill(products, "a")
        product.stock = 9
        assert await products.save(product) == product == await products.get("id-a")

    async def test_a_version_is_not_set_by_the_caller(self, drafts: Drafts, products: Products) -> None:
        await drafts.create(Draft(id="1", title="a"))
        with pytest.raises(InvalidChangeError):
            await drafts.update("1", {"version": 5})
        with pytest.raises(InvalidChangeError):
            await drafts.update_many({"title": "a"}, {"version": 5})
        with pytest.raises(InvalidChangeError):
            await drafts.increment("1", "version")
        assert (await drafts.get_or_raise("1")).version == 1
        await fill(products, "a")
        with pytest.raises(ConfigurationError):
            await products.update("id-a", {"stock": 1}, version=1)

    async def test_concurrent_writers_lose_no_version(self, drafts: Drafts) -> None:
        await drafts.create(Draft(id="1", title="a"))

        async def add() -> None:
            while True:
                draft = await drafts.get_or_raise("1")
                draft.views += 1
                try:
                    await drafts.save(draft)
                except StaleRecordError as error:
                    assert error.actual > error.expected  # noqa: PT017 - how it is stale
                else:
                    return

        await asyncio.gather(*(add() for _ in range(20)))
        draft = await drafts.get_or_raise("1")
        assert (draft.views, draft.version) == (20, 21)
