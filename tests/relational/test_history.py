"""States that sessions write are the ones that a repository reads, and the other way round."""

import asyncio
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import Field

from app.core.errors import StaleRecordError
from app.db import DataLayer, Repository, SoftDeletable, Timestamped, Versioned
from app.db.relational import get_db, transaction

from .models import Counter, Document, Model


class Stored(Timestamped, Versioned, SoftDeletable):
    """The same table, as a pydantic model."""

    id: UUID = Field(default_factory=uuid4)
    title: str


class Documents(Repository[Stored]):
    COLLECTION_NAME = "documents"
    keeps_history = True


STATES = Model.metadata.tables["documents_history"]


async def written() -> int:
    async with get_db() as db:
        return await db.scalar(sa.select(sa.func.count()).select_from(STATES)) or 0


@pytest.fixture
async def documents(data: DataLayer) -> Documents:
    return Documents(data)


async def test_a_repository_reads_what_sessions_wrote(documents: Documents) -> None:
    async with transaction() as db:
        db.add(made := Document(title="one"))
        await db.flush()
        made.title = "two"
    async with transaction() as db:
        (await db.get_one(Document, made.id)).title = "three"
    async with transaction() as db:
        await db.delete(await db.get_one(Document, made.id))
    assert await written() == 4
    states = await documents.history(made.id)
    assert [(each.version, each.entity.title) for each in states] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
        (4, "three"),
    ]
    assert [each.entity.deleted_at is not None for each in states] == [False, False, False, True]
    assert states[0].entity.created_at == made.created_at
    assert [each.at for each in states] == sorted(each.at for each in states)
    await documents.restore(made.id)
    reverted = await documents.revert(made.id, 1)
    assert (reverted.title, reverted.version) == ("one", 6)


async def test_a_session_goes_on_where_a_repository_ended(documents: Documents) -> None:
    stored = await documents.create(Stored(title="one"))
    async with get_db() as db:
        found = await db.get_one(Document, stored.id)
        assert (found.title, found.version, found.created_at) == ("one", 1, stored.created_at)
        await documents.update(stored.id, {"title": "two"})
        found.title = "late"
        with pytest.raises(StaleRecordError):
            await db.commit()
        await db.rollback()
        await db.refresh(found)
        found.title = "three"
        await db.commit()
    assert [each.entity.title for each in await documents.history(stored.id)] == ["one", "two", "three"]
    with pytest.raises(StaleRecordError):
        await documents.update(stored.id, {"title": "late"}, version=2)


async def test_a_deleted_value_is_free_in_both(documents: Documents) -> None:
    stored = await documents.create(Stored(title="same"))
    async with transaction() as db:
        await db.delete(await db.get_one(Document, stored.id))
    assert await documents.get(stored.id) is None
    again = await documents.create(Stored(title="same"))
    await documents.delete(again.id)
    async with transaction() as db:
        db.add(Document(title="same"))
    assert await documents.count() == 1


@pytest.mark.usefixtures("data")
async def test_what_is_rolled_back_has_no_state() -> None:
    async with get_db() as db:
        db.add(Document(title="lost"))
        await db.flush()
    assert await written() == 0


@pytest.mark.usefixtures("data")
async def test_what_is_not_changed_has_no_new_state() -> None:
    async with transaction() as db:
        db.add(made := Document(title="one"))
    await asyncio.sleep(0.002)
    async with transaction() as db:
        found = await db.get_one(Document, made.id)
        before = await db.scalar(sa.select(STATES.c.at))
        found.title = "two"
        found.title = "one"
    async with get_db() as db:
        assert list(await db.scalars(sa.select(STATES.c.at))) == [before]


@pytest.mark.usefixtures("data")
async def test_a_failed_flush_leaves_nothing_for_the_next() -> None:
    async with transaction() as db:
        db.add(Document(title="taken"))
    async with get_db() as db:
        db.add(Document(title="taken"))
        with pytest.raises(sa.exc.IntegrityError):
            await db.flush()
        await db.rollback()
        db.add(Document(title="free"))
        await db.commit()
    assert await written() == 2


async def test_removed_for_good_the_states_go_too(documents: Documents) -> None:
    async with transaction() as db:
        db.add_all([kept := Document(title="kept"), gone := Document(title="gone")])
    async with transaction() as db:
        await db.delete(await db.get_one(Document, gone.id), hard=True)
    assert (len(await documents.history(kept.id)), await written()) == (1, 1)
    async with transaction() as db:  # the same id again
        db.add(Document(id=gone.id, title="again"))
    assert [each.entity.title for each in await documents.history(gone.id)] == ["again"]


@pytest.mark.usefixtures("data")
async def test_a_class_may_keep_none() -> None:
    assert "counters_history" not in Model.metadata.tables
    async with transaction() as db:
        db.add(made := Counter())
        await db.flush()
        made.number = 1
        await db.flush()
        assert made.version == 2
        await db.delete(made)
