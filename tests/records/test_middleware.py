"""Timestamps that no caller sets, and deletion that only marks: on every write and every read, on every store."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from app.core.errors import ConfigurationError, DuplicateRecordError, InvalidChangeError
from app.db import DataLayer, Entity, Repository, SoftDeletable, Timestamped
from app.db.backends import Index
from app.db.middleware import ORDER, Attribution, Audit, Caching, Declaration, History, SoftDelete, Timestamps, Versions
from app.db.models.values import utc_now
from app.db.repositories.placement import declared

FORGED = datetime(2000, 1, 1, tzinfo=UTC)


class Page(Entity, Timestamped, SoftDeletable):
    slug: str
    views: int = 0


class Pages(Repository[Page]):
    indexes = (Index("slug", unique=True), Index("views"))


class Plain(Entity):
    name: str = ""


class Stamp(BaseModel):
    created_at: datetime | None = None
    updated_at: datetime | None = None


@pytest.fixture
def pages(data: DataLayer) -> Pages:
    return data.repository(Pages)


def test_the_order_stands_in_one_place() -> None:
    assert (Caching, SoftDelete, Timestamps, Attribution, Versions, Audit, History) == ORDER
    assert [type(each) for each in declared(Declaration(Page))] == [SoftDelete, Timestamps]
    assert declared(Declaration(Plain)) == ()


def recent(moment: datetime) -> bool:
    return timedelta() <= utc_now() - moment < timedelta(seconds=30)


async def test_no_write_path_takes_a_callers_timestamps(pages: Pages) -> None:
    forged = {"created_at": FORGED, "updated_at": FORGED}
    created = [await pages.create(Page.model_validate({"id": "1", "slug": "a", **forged}))]
    created += await pages.create_many([Page.model_validate({"id": "2", "slug": "b", **forged})])
    assert await pages.put_if_absent(Page.model_validate({"id": "3", "slug": "c", **forged}))
    for page in [*created, *await pages.all()]:
        assert recent(page.created_at)
        assert page.created_at == page.updated_at
    for name in forged:
        changes: list[Any] = [{name: FORGED}, {name: FORGED, "views": 5}, Stamp.model_validate({name: FORGED})]
        for change in changes:
            for call in (
                pages.update("1", change),
                pages.update_many({"slug": "a"}, change),
                pages.compare_and_set("1", {"slug": "a"}, change),
                pages.with_deleted().update("1", change),
            ):
                with pytest.raises(InvalidChangeError, match=name):
                    await call
        with pytest.raises(InvalidChangeError):
            await pages.increment("1", name)
    assert await pages.all() == [created[0], created[1], await pages.get("3")]


async def test_every_change_moves_updated_at_alone(pages: Pages) -> None:
    last = await pages.create(Page(id="1", slug="a"))
    for change in (
        lambda: pages.update("1", {"views": 1}),
        lambda: pages.update_many({"slug": "a"}, {"views": 2}),
        lambda: pages.compare_and_set("1", {"views": 2}, {"views": 3}),
        lambda: pages.increment("1", "views"),
    ):
        await asyncio.sleep(0.002)
        await change()
        page = await pages.get_or_raise("1")
        assert page.updated_at > last.updated_at
        assert page.created_at == last.created_at
        last = page
    assert await pages.compare_and_set("1", {"views": 99}, {"views": 0}) is None
    assert await pages.get("1") == last


async def seed(pages: Pages) -> None:
    await pages.create_many([Page(id="live", slug="live"), Page(id="gone", slug="gone")])
    assert await pages.delete("gone") is True


async def test_what_is_deleted_is_absent_from_every_read(pages: Pages) -> None:
    await seed(pages)
    assert await pages.get("gone") is None
    assert [page.id for page in await pages.get_many(["gone", "live"])] == ["live"]
    for found in (
        await pages.all(),
        await pages.find(),
        await pages.find({"id": {"$in": ["gone", "live"]}}),
        await pages.get_multi(),
    ):
        assert [page.id for page in found] == ["live"]
    assert await pages.find({"deleted_at": {"$exists": True}}) == []
    assert await pages.find({"$or": [{"slug": "gone"}, {"slug": "nope"}]}) == []
    assert await pages.find_one({"slug": "gone"}) is None
    assert await pages.count() == 1
    assert await pages.count({"slug": "gone"}) == 0
    assert await pages.exists({"slug": "gone"}) is False


async def test_what_is_deleted_is_out_of_reach_of_every_write(pages: Pages) -> None:
    await seed(pages)
    before = await pages.with_deleted().get("gone")
    assert await pages.update("gone", {"views": 1}) is None
    assert await pages.update_many({"slug": {"$in": ["gone", "live"]}}, {"views": 1}) == 1
    assert await pages.update_many(None, {"views": 1}, everything=True) == 1
    assert await pages.increment("gone", "views") is None
    assert await pages.compare_and_set("gone", {"views": 0}, {"views": 1}) is None
    assert await pages.delete("gone") is False
    assert await pages.delete("gone", hard=True) is False
    assert await pages.delete_many({"slug": "gone"}) == 0
    assert await pages.delete_many({"slug": "gone"}, hard=True) == 0
    assert await pages.put_if_absent(Page(id="gone", slug="x")) is False
    assert await pages.with_deleted().get("gone") == before
    assert await pages.delete_many(None, everything=True) == 1
    assert await pages.count() == 0
    assert await pages.with_deleted().count() == 2


async def test_the_views_see_what_they_say(pages: Pages) -> None:
    await seed(pages)
    everything, deleted = pages.with_deleted(), pages.only_deleted()
    assert [page.id for page in await everything.all()] == ["gone", "live"]
    assert [page.id for page in await deleted.all()] == ["gone"]
    gone = await deleted.get("gone")
    assert gone is not None
    assert gone.deleted_at is not None
    assert recent(gone.deleted_at)
    assert await deleted.get("live") is None
    assert await deleted.count() == 1
    assert [page.id for page in await deleted.with_deleted().all()] == ["gone", "live"]
    assert [page.id for page in await pages.all()] == ["live"]


async def test_a_deleted_record_is_restored_through_a_view(pages: Pages) -> None:
    await seed(pages)
    with pytest.raises(InvalidChangeError, match="deleted_at"):
        await pages.update("live", {"deleted_at": utc_now()})
    with pytest.raises(InvalidChangeError, match="deleted_at"):
        await pages.with_deleted().update_many({"slug": "live"}, {"deleted_at": utc_now()})
    assert await pages.only_deleted().update("gone", {"deleted_at": None}) is not None
    assert await pages.count() == 2
    assert await pages.delete("gone")
    await pages.create(Page(slug="gone"))
    with pytest.raises(DuplicateRecordError) as caught:
        await pages.only_deleted().update("gone", {"deleted_at": None})
    assert caught.value.field == "slug"


async def test_a_unique_value_is_free_after_deletion(pages: Pages) -> None:
    for number in range(3):
        page = await pages.create(Page(slug="same", views=number))
        with pytest.raises(DuplicateRecordError) as caught:
            await pages.create(Page(slug="same"))
        assert caught.value.field == "slug"
        assert await pages.delete(page.id)
    assert await pages.only_deleted().count({"slug": "same"}) == 3


async def test_hard_deletion_leaves_nothing(pages: Pages) -> None:
    await seed(pages)
    assert await pages.delete("live", hard=True) is True
    assert [page.id for page in await pages.with_deleted().all()] == ["gone"]
    assert await pages.with_deleted().delete("gone", hard=True) is True
    assert await pages.with_deleted().count() == 0
    await pages.create_many([Page(slug="a"), Page(slug="b")])
    assert await pages.delete_many({"slug": "a"}, hard=True) == 1
    assert await pages.with_deleted().count() == 1


async def test_of_concurrent_deletions_one_is_the_one(pages: Pages) -> None:
    await pages.create(Page(id="1", slug="a"))
    assert sum(await asyncio.gather(*(pages.delete("1") for _ in range(50)))) == 1


async def test_without_the_mixin_deleting_deletes(data: DataLayer) -> None:
    plain = data.repository(Plain)
    entity = await plain.create(Plain())
    assert await plain.delete(entity.id)
    assert await plain.count() == 0
    for view in (plain.with_deleted, plain.only_deleted):
        with pytest.raises(ConfigurationError, match="SoftDeletable"):
            view()
