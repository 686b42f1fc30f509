"""Timestamps, authorship, soft deletion and versions, in sessions."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession as PlainSession
from sqlalchemy.orm.exc import StaleDataError

from app.core.errors import DuplicateRecordError, InvalidChangeError, RecordNotFoundError, StaleRecordError
from app.db import DataLayer, acting_as
from app.db.relational import create_all, get_db, transaction

from .models import Author, Book, Box, Counter, Customer, Document, Employee, Note, Person, Rack


async def author(**values: Any) -> Author:
    async with transaction() as db:
        db.add(made := Author(**{"email": f"{uuid4()}@x.io", **values}))
    return made


@pytest.mark.usefixtures("data")
async def test_times_are_ours() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = await author(created_at=datetime(1999, 1, 1, tzinfo=UTC))
    assert before <= made.created_at == made.updated_at <= datetime.now(UTC)
    assert (made.created_at.tzinfo, made.created_at.microsecond % 1000) == (UTC, 0)
    await asyncio.sleep(0.002)
    async with transaction() as db:
        found = await db.get_one(Author, made.id)
        assert found.created_at == made.created_at
        found.email = found.email
        await db.flush()
        assert found.updated_at == made.updated_at
        found.email = "other"
        await db.flush()
        assert found.updated_at > made.updated_at
    await asyncio.sleep(0.002)
    async with transaction() as db:
        await db.execute(sa.update(Author).values(password_hash="x"))
        again = await db.get_one(Author, made.id)
        assert again.updated_at > found.updated_at


@pytest.mark.parametrize("name", ["created_at", "updated_at"])
@pytest.mark.usefixtures("data")
async def test_times_are_nobody_elses(name: str) -> None:
    made = await author()
    with pytest.raises(InvalidChangeError, match=name):
        async with transaction() as db:
            setattr(await db.get_one(Author, made.id), name, datetime(1999, 1, 1, tzinfo=UTC))


@pytest.mark.usefixtures("data")
async def test_who_wrote_it() -> None:
    nobody = await author()
    assert (nobody.created_by, nobody.updated_by) == (None, None)
    with acting_as("anna"):
        made = await author(created_by="forged")
    assert (made.created_by, made.updated_by) == ("anna", "anna")
    with acting_as("bert"):
        async with transaction() as db:
            found = await db.get_one(Author, made.id)
            found.email, found.updated_by = "other", "forged"
    assert (found.created_by, found.updated_by) == ("anna", "bert")
    assigned = await author(created_by="carl")
    assert (assigned.created_by, assigned.updated_by) == ("carl", "carl")
    with acting_as("dora"):
        async with transaction() as db:
            await db.execute(sa.update(Author).where(Author.id == made.id).values(email="third"))
    async with get_db() as db:
        assert (await db.get_one(Author, made.id)).updated_by == "dora"
    with pytest.raises(InvalidChangeError, match="created_by"):
        async with transaction() as db:
            (await db.get_one(Author, made.id)).created_by = "forged"


@pytest.mark.usefixtures("data")
async def test_deleting_marks() -> None:
    one, two = await author(), await author()
    async with transaction() as db:
        await db.delete(await db.get_one(Author, one.id))
    async with get_db() as db:
        found = await db.get_one(Author, one.id)
        assert found.deleted_at is not None
        assert (found.is_deleted, two.is_deleted) == (True, False)
        for condition, expected in (
            (Author.is_deleted.is_(False), {two.id}),
            (Author.is_deleted.is_(True), {one.id}),
            (~Author.is_deleted, {two.id}),
            (Author.is_deleted, {one.id}),
            (Author.is_deleted == sa.false(), {two.id}),
            (Author.is_deleted.is_not(True), {two.id}),
            (Author.is_deleted.is_not(False), {one.id}),
            (Author.is_deleted != sa.true(), {two.id}),
            (Author.is_deleted == True, {one.id}),  # noqa: E712 - as applications write it
            (Author.is_deleted == (Author.email == "nobody"), {two.id}),
            (sa.true(), {one.id, two.id}),
        ):
            assert set(await db.scalars(sa.select(Author.id).where(condition))) == expected
        assert list(await db.scalars(sa.select(Author.id).order_by(Author.is_deleted.desc()))) == [one.id, two.id]
        assert set(await db.scalars(sa.select(Author.is_deleted))) == {True, False}
        assert [each.id for each in await db.scalars(Author.live())] == [two.id]


def test_what_is_asked_has_the_form_of_the_indexes() -> None:
    for condition in (Author.is_deleted.is_(False), Author.is_deleted == sa.false(), ~Author.is_deleted):
        assert str(condition) == "authors.deleted_at IS NULL"
    for condition in (Author.is_deleted.is_(True), Author.is_deleted.is_not(False)):
        assert str(condition) == "authors.deleted_at IS NOT NULL"


async def test_a_plain_session_of_sqlalchemys_marks_too(data: DataLayer) -> None:
    made = await author()
    async with PlainSession(data.relational.async_engine) as db:
        await db.delete(await db.get_one(Author, made.id))
        await db.commit()
    async with get_db() as db:
        assert (await db.get_one(Author, made.id)).is_deleted


@pytest.mark.usefixtures("data")
async def test_a_deleted_value_is_free_and_restoring_wants_it_back() -> None:
    made = await author(email="same")
    async with transaction() as db:
        (await db.get_one(Author, made.id)).soft_delete()
    await author(email="same")
    with pytest.raises(DuplicateRecordError) as caught:
        async with transaction() as db:
            (await db.get_one(Author, made.id)).restore()
    assert caught.value.field == "email"
    async with transaction() as db:
        found = await db.get_one(Author, made.id)
        found.email = "another"
        found.restore()
    assert not found.is_deleted


@pytest.mark.usefixtures("data")
async def test_deleting_again_keeps_the_time() -> None:
    made = await author()
    async with transaction() as db:
        await db.delete(found := await db.get_one(Author, made.id))
    first = found.deleted_at
    await asyncio.sleep(0.002)
    async with transaction() as db:
        await db.delete(again := await db.get_one(Author, made.id))
    assert again.deleted_at == first


async def family() -> Author:
    async with transaction() as db:
        db.add(made := Author(email="a", books=[Book(title="one"), Book(title="two")], notes=[Note(text="kept")]))
    return made


async def counts() -> tuple[int, int, int, int]:
    """Authors, books, books that are not deleted, notes."""
    async with get_db() as db:
        asked = (sa.select(Author), sa.select(Book), Book.live(), sa.select(Note))
        one, two, three, four = [await db.scalar(sa.select(sa.func.count()).select_from(q.subquery())) for q in asked]
        return (one or 0, two or 0, three or 0, four or 0)


@pytest.mark.usefixtures("data")
async def test_a_mark_goes_where_a_deletion_would_go_and_removes_nothing() -> None:
    made = await family()
    async with transaction() as db:
        await db.delete(await db.get_one(Author, made.id))
    assert await counts() == (1, 2, 0, 1)


@pytest.mark.usefixtures("data")
async def test_a_hard_deletion_takes_everything_along() -> None:
    made = await family()
    async with transaction() as db:
        await db.delete(await db.get_one(Author, made.id), hard=True)
    assert await counts() == (0, 0, 0, 0)


@pytest.mark.usefixtures("data")
async def test_what_can_only_be_removed_takes_along_what_could_be_marked() -> None:
    async with transaction() as db:
        db.add_all([rack := Rack(boxes=[Box(), Box()]), Rack(boxes=[Box()])])
    async with transaction() as db:
        await db.delete(await db.get_one(Rack, rack.id))
    async with get_db() as db:
        assert [each.is_deleted for each in await db.scalars(sa.select(Box))] == [False]


@pytest.mark.usefixtures("data")
async def test_a_hard_deletion_that_was_rolled_back_is_forgotten() -> None:
    made = await author()
    async with get_db() as db:
        found = await db.get_one(Author, made.id)
        await db.delete(found, hard=True)
        await db.rollback()
        await db.delete(found)
        await db.commit()
    assert (await counts())[0] == 1


@pytest.mark.usefixtures("data")
async def test_a_statement_does_what_it_says() -> None:
    await author()
    async with transaction() as db:
        await db.execute(sa.delete(Author))
    assert (await counts())[0] == 0


@pytest.mark.usefixtures("data")
async def test_who_writes_over_a_change_is_told() -> None:
    async with transaction() as db:
        db.add(made := Document(title="0"))
    async with get_db() as one, get_db() as two:
        first, second = await one.get_one(Document, made.id), await two.get_one(Document, made.id)
        first.title = "1"
        await one.commit()
        second.title = "2"
        with pytest.raises(StaleRecordError, match="read it again") as caught:
            await two.commit()
        assert (caught.value.expected, caught.value.actual) == (1, 2)
        assert isinstance(caught.value, StaleDataError)
        assert str(made.id) in str(caught.value)
        await two.rollback()
        await two.refresh(second)
        second.title = "2"
        await two.commit()
        assert second.version == 3


@pytest.mark.usefixtures("data")
async def test_the_stale_one_of_several_is_named() -> None:
    async with transaction() as db:
        db.add_all(made := [Document(title=f"{number}") for number in range(5)])
    async with get_db() as db:
        found = {each.id: each for each in await db.scalars(sa.select(Document))}
        async with transaction() as other:
            (await other.get_one(Document, made[3].id)).title = "taken"
        for each in found.values():
            each.title += "!"
        with pytest.raises(StaleRecordError, match=str(made[3].id)):
            await db.flush()


@pytest.mark.usefixtures("data")
async def test_a_row_that_is_gone() -> None:
    async with transaction() as db:
        db.add(made := Counter())
    async with get_db() as db:
        found = await db.get_one(Counter, made.id)
        async with transaction() as other:
            await other.execute(sa.delete(Counter))
        found.number = 1
        with pytest.raises(RecordNotFoundError, match=str(made.id)) as caught:
            await db.commit()
        assert isinstance(caught.value, StaleDataError)


@pytest.mark.usefixtures("data")
async def test_versions_begin_at_one_whatever_is_given() -> None:
    async with transaction() as db:
        db.add(made := Counter(version=7))
    assert made.version == 1


@pytest.mark.usefixtures("data")
async def test_a_version_is_set_by_nobody_else() -> None:
    async with transaction() as db:
        db.add(made := Document(title="a"))
    async with get_db() as db:
        (await db.get_one(Document, made.id)).version = 50
        with pytest.raises(InvalidChangeError, match="version: set by the library"):
            await db.commit()


async def test_who_is_stale_needs_no_second_connection(config: dict[str, Any]) -> None:
    for section in config["connections"].values():
        section.update({"pool": {"max_size": 1, "timeout": 0.5}} if "url" in section else {"timeout": 0.5})
    async with DataLayer.from_config(config) as data:
        await create_all(Document.metadata)
        documents = data.repository(Document)
        made = await documents.create(Document(title="a"))
        held = data.relational.async_engine.pool.size() - 1  # type: ignore[attr-defined]
        async with AsyncExitStack() as others, get_db() as db:
            found = await db.get_one(Document, made.id)
            for _ in range(held):
                other = await others.enter_async_context(get_db())
                await other.get_one(Document, made.id)
            await documents.update(made.id, {"title": "b"})
            found.title = "c"
            with pytest.raises(StaleRecordError, match="version 2 and not 1"):
                await db.commit()
            await db.rollback()
            # In a savepoint the transaction goes on, with what it has done before.
            db.add(Document(title="d"))
            await db.flush()
            found = await db.get_one(Document, made.id, populate_existing=True)
            behind_its_back = sa.update(Document).where(Document.id == made.id).values(title="e")
            await db.execute(behind_its_back, execution_options={"synchronize_session": False})
            with pytest.raises(StaleRecordError, match="version 3 and not 2"):
                async with db.begin_nested():
                    found.title = "f"
            await db.commit()
        assert {each.title for each in await documents.find()} == {"e", "d"}


@pytest.mark.usefixtures("data")
async def test_of_concurrent_changes_one_wins() -> None:
    async with transaction() as db:
        db.add(made := Counter())

    async def add() -> bool:
        try:
            async with transaction() as db:
                found = await db.get_one(Counter, made.id)
                await asyncio.sleep(0.01)
                found.number += 1
        except StaleRecordError:
            return False
        return True

    won = sum(await asyncio.gather(*(add() for _ in range(4))))
    async with get_db() as db:
        found = await db.get_one(Counter, made.id)
        assert (found.number, found.version) == (won, won + 1)
    assert won >= 1


@pytest.mark.usefixtures("data")
async def test_versions_and_inheritance() -> None:
    async with transaction() as db:
        db.add_all([customer := Customer(name="c", discount=1), employee := Employee(name="e", salary=1)])
    async with transaction() as db:
        (await db.get_one(Customer, customer.id)).discount = 2
        (await db.get_one(Employee, employee.id)).salary = 2
    async with get_db() as db:
        found = (await db.scalars(sa.select(Person).order_by(Person.name))).all()
        assert [(type(each), each.version) for each in found] == [(Customer, 2), (Employee, 2)]
        history = Person.metadata.tables["persons_history"]
        rows = (await db.execute(sa.select(history.c.document).order_by(history.c.id))).scalars().all()
        assert [each.get("salary", each.get("discount")) for each in rows] == [1, 2, 1, 2]
