"""What the library does to a row is the same in a session and in a repository, and each sees what the other did."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy.orm.exc import DetachedInstanceError

from app.core.errors import (
    DuplicateRecordError,
    InvalidChangeError,
    StaleRecordError,
)
from app.db import F, acting_as
from app.db.relational import Session

from .campaigns import METADATA, Campaign, Campaigns, Placard, campaigns
from .worlds import World, section, store, world

__all__ = ["campaigns", "section", "store", "world"]


def add(session: Session, instance: object) -> None:
    session.add(instance)
    try:
        session.flush()
    except DuplicateRecordError:
        session.rollback()
        raise


async def test_a_new_record_is_what_a_flush_would_write(world: World, campaigns: Campaigns) -> None:
    with acting_as("anna"):
        created = await campaigns.create(Campaign(name="Spring"))
    METADATA.create_all(world.engine)
    with acting_as("anna"), world.session() as session:
        session.add(Campaign(name="Summer"))
    with world.session() as session:
        spring, summer = session.scalars(sa.select(Campaign).order_by(Campaign.name))
        others = ("id", "begins", "name", "slug", "created_at", "updated_at")
        assert spring.to_dict(exclude=others) == summer.to_dict(exclude=others)
        assert spring.to_dict() == created.to_dict()
        assert spring.begins == summer.begins
        assert (spring.slug, summer.slug) == ("spring", "summer")
        assert type(spring.created_at) is type(summer.created_at)
    assert created.to_dict(exclude=others) == {
        "budget": Decimal("1.5"),
        "clicks": 7,
        "tags": [],
        "secret": None,
        "region": "north",
        "doubled": 14,
        "touched": 0,
        "deleted_at": None,
        "created_by": "anna",
        "updated_by": "anna",
        "version": 1,
    }


async def test_the_first_use_of_a_repository_is_enough_for_sessions(world: World, campaigns: Campaigns) -> None:
    assert await campaigns.count() == 0
    with world.session() as session:
        session.add(Campaign(name="Spring"))
    [spring] = await campaigns.all()
    assert len(await campaigns.history(spring.id)) == len(await campaigns.audit_log(spring.id)) == 1


async def test_entities_are_detached(world: World, campaigns: Campaigns) -> None:
    METADATA.create_all(world.engine)
    created = await campaigns.create(Campaign(name="Spring", tags=["a"]))
    key = created.id
    with pytest.raises(DetachedInstanceError):
        _ = created.placards
    assert sa.inspect(created).detached
    with world.session() as session:
        session.add(created)
        assert not session.is_modified(created)
        created.tags.append("b")
        created.clicks = 8
    found = await campaigns.get_or_raise(key)
    assert (found.tags, found.clicks, found.version) == (["a", "b"], 8, 2)
    with world.session() as session:
        found.clicks = 9
        merged = session.merge(found)
        assert merged.placards == []
    assert [each.clicks for each in await campaigns.all()] == [9]


async def test_an_instance_that_is_not_loaded_is_refused(world: World, campaigns: Campaigns) -> None:
    created = await campaigns.create(Campaign(name="Spring"))
    with world.session() as session:
        session.add(created)
        session.expire(created, ["clicks"])
        with pytest.raises(InvalidChangeError, match="not loaded"):
            await campaigns.save(created)


async def test_each_sees_what_the_other_deletes(world: World, campaigns: Campaigns) -> None:
    first, second = await campaigns.create_many([Campaign(name="a"), Campaign(name="b")])
    with world.session() as session:
        session.delete(session.get_one(Campaign, first.id))
    assert await campaigns.get(first.id) is None
    assert [each.name for each in await campaigns.only_deleted().all()] == ["a"]
    await campaigns.delete(second.id)
    with world.session() as session:
        assert session.scalars(sa.select(Campaign).where(Campaign.is_deleted.is_(False))).all() == []
        assert len(session.scalars(sa.select(Campaign).where(Campaign.is_deleted)).all()) == 2
        session.get_one(Campaign, second.id).restore()
    assert (await campaigns.get_or_raise(second.id)).version == 3
    restored = await campaigns.restore(first.id)
    assert restored is not None
    with world.session() as session:
        assert not session.get_one(Campaign, first.id).is_deleted
    await campaigns.delete(first.id)
    assert await campaigns.purge() == 1
    with world.session() as session:
        assert session.get(Campaign, first.id) is None


async def test_what_is_deleted_has_its_unique_values_no_more(world: World, campaigns: Campaigns) -> None:
    first = await campaigns.create(Campaign(name="a"))
    for write in (
        campaigns.create(Campaign(name="a")),
        campaigns.create_many([Campaign(name="b"), Campaign(name="a")]),
    ):
        with pytest.raises(DuplicateRecordError) as caught:
            await write
        assert caught.value.fields == ("name",)
    with world.session() as session, pytest.raises(DuplicateRecordError) as caught:
        add(session, Campaign(name="a"))
    assert caught.value.fields == ("name",)
    await campaigns.delete(first.id)
    with world.session() as session:
        session.add(Campaign(name="a"))
    with pytest.raises(DuplicateRecordError) as caught:
        await campaigns.restore(first.id)
    assert caught.value.fields == ("name",)
    second = await campaigns.find_one(F.name == "a")
    assert second is not None
    assert second.id != first.id
    with world.session() as session:
        session.delete(session.get_one(Campaign, second.id))
    assert (await campaigns.create(Campaign(name="a"))).id not in (first.id, second.id)


async def test_whoever_is_late_is_told(world: World, campaigns: Campaigns) -> None:
    created = await campaigns.create(Campaign(name="a"))
    with world.session() as session:
        mine = session.get_one(Campaign, created.id)
        session.commit()
        _ = mine.version
        await campaigns.update(created.id, {"clicks": 1})
        mine.clicks = 2
        with pytest.raises(StaleRecordError):
            session.flush()
        session.rollback()
    with world.session() as session:
        session.get_one(Campaign, created.id).clicks = 3
    for write in (
        campaigns.save(created),
        campaigns.update(created.id, {"clicks": 4}, version=created.version),
        campaigns.delete(created.id, version=created.version),
    ):
        with pytest.raises(StaleRecordError):
            await write
    current = await campaigns.get_or_raise(created.id)
    assert (current.clicks, current.version) == (3, 3)
    assert (await campaigns.save(current)).version == 4


@pytest.mark.parametrize("tables_by", ["session", "repository"])
async def test_one_history(world: World, campaigns: Campaigns, tables_by: str) -> None:
    if tables_by == "session":
        METADATA.create_all(world.engine)
    created = await campaigns.create(Campaign(name="a"))
    with world.session() as session:
        session.get_one(Campaign, created.id).clicks = 1
    await campaigns.update(created.id, {"clicks": 2, "tags": ["x"]})
    with world.session() as session:
        session.delete(session.get_one(Campaign, created.id))
    await campaigns.restore(created.id)
    states = await campaigns.history(created.id)
    assert [(each.version, each.entity.clicks, each.entity.is_deleted) for each in states] == [
        (1, 7, False),
        (2, 1, False),
        (3, 2, False),
        (4, 2, True),
        (5, 2, False),
    ]
    assert states[-1].entity.to_dict() == (await campaigns.get_or_raise(created.id)).to_dict()
    assert [each.at for each in states] == sorted(each.at for each in states)
    reverted = await campaigns.revert(created.id, 2)
    assert (reverted.clicks, reverted.tags, reverted.version) == (1, [], 6)
    with world.session() as session:
        session.get_one(Campaign, created.id).clicks = 8
    assert len(await campaigns.history(created.id)) == 7


async def test_times_and_authors(world: World, campaigns: Campaigns) -> None:
    with acting_as("anna"):
        created = await campaigns.create(Campaign(name="a"))
    assert created.created_at == created.updated_at
    await asyncio.sleep(0.005)
    with acting_as("bert"), world.session() as session:
        session.get_one(Campaign, created.id).clicks = 1
    changed = await campaigns.get_or_raise(created.id)
    assert (changed.created_by, changed.updated_by) == ("anna", "bert")
    assert changed.updated_at > changed.created_at == created.created_at
    await asyncio.sleep(0.005)
    with acting_as("carl"):
        again = await campaigns.update(created.id, {"clicks": 2})
    assert again is not None
    assert (again.created_by, again.updated_by) == ("anna", "carl")
    assert again.updated_at > changed.updated_at
    with world.session() as session:
        assert session.get_one(Campaign, created.id).updated_by == "carl"
        session.get_one(Campaign, created.id).clicks = 3
    assert (await campaigns.get_or_raise(created.id)).updated_by is None
    await campaigns.update(created.id, {"clicks": 4})
    assert (await campaigns.get_or_raise(created.id)).updated_by is None
    for forged in (
        {"created_at": datetime.now(UTC)},
        {"created_by": "x"},
        {"version": 9},
        {"deleted_at": datetime.now(UTC)},
    ):
        with pytest.raises(InvalidChangeError):
            await campaigns.update(created.id, forged)


@pytest.mark.parametrize("tables_by", ["session", "repository"])
async def test_one_audit_log(world: World, campaigns: Campaigns, tables_by: str) -> None:
    if tables_by == "session":
        METADATA.create_all(world.engine)
    await world.data.repository(Placard).count()
    with acting_as("anna"):
        created = await campaigns.create(Campaign(name="a", secret="hidden"))
    if tables_by == "repository":
        assert [each.actor for each in await campaigns.audit_log()] == ["anna"]
    with acting_as("bert"), world.session() as session:
        session.get_one(Campaign, created.id).clicks = 1
        session.add(Campaign(name="b", secret="hidden"))
    with world.session() as session:
        touched = session.get_one(Campaign, created.id)
        touched.clicks, touched.clicks = 5, touched.clicks
    await campaigns.update(created.id, {"clicks": 2, "secret": "other"})
    with world.session() as session:
        session.delete(session.get_one(Campaign, created.id))
    with world.session() as session:
        session.get_one(Campaign, created.id).restore()
    with world.session() as session:
        session.delete(session.get_one(Campaign, created.id), hard=True)
    with world.session() as session:
        session.add(Campaign(name="gone"))
        session.flush()
        session.rollback()
    with world.session() as session:
        with pytest.raises(DuplicateRecordError):
            add(session, Campaign(name="b"))
        session.add(Campaign(name="c"))
    log = await campaigns.audit_log(created.id)
    assert [each.action for each in log] == ["DELETE", "RESTORE", "DELETE", "UPDATE", "UPDATE", "CREATE"]
    assert [each.actor for each in log] == [None, None, None, None, "bert", "anna"]
    wrote = {"clicks": (7, 1), "doubled": (14, 2), "touched": (0, 5), "version": (1, 2), "updated_by": ("anna", "bert")}
    assert wrote.items() <= {name: (value, log[4].after[name]) for name, value in log[4].before.items()}.items()
    assert log[4].before.keys() == log[4].after.keys() == log[3].after.keys() - {"secret"} | {"touched"}
    assert log[3].after["secret"] == "***"
    [other] = await campaigns.audit_log(actor="bert", action="CREATE")
    assert other.after["secret"] == "***"
    assert len(await campaigns.audit_log()) == 8
