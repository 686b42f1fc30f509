"""What the library does to a row is the same in a session and in a repository, and each sees what the other did."""

import asyncio
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from app.core.errors import (
    ConfigurationError,
    DuplicateRecordError,
    InvalidChangeError,
    RecordNotFoundError,
    StaleRecordError,
)
from app.db import DataLayer, F, Repository, acting_as, cached
from app.db.relational import Base, FullModel, Session, VersioningMixin

from .worlds import World, postgres_schemas, postgres_server, section, store, world

__all__ = ["postgres_schemas", "postgres_server", "section", "store", "world"]


class Campaign(VersioningMixin, FullModel):
    __audited__ = True

    name: Mapped[str] = mapped_column(sa.String(40), unique=True)
    budget: Mapped[Decimal] = mapped_column(default=Decimal("1.5"))
    clicks: Mapped[int] = mapped_column(default=lambda: 7)
    tags: Mapped[list[str]] = mapped_column(default=list)
    secret: Mapped[str | None] = mapped_column(info={"secret": True})
    region: Mapped[str | None] = mapped_column(server_default="north")
    doubled: Mapped[int | None] = mapped_column(sa.Computed("clicks * 2", persisted=True))
    touched: Mapped[int | None] = mapped_column(default=0, onupdate=5)
    slug: Mapped[str | None] = mapped_column(default=lambda context: context.get_current_parameters()["name"].lower())
    adverts: Mapped[list["Advert"]] = relationship(back_populates="campaign")


class Campaigns(Repository[Campaign]):
    pass


class Advert(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    campaign_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey(Campaign.id))
    campaign: Mapped[Campaign | None] = relationship(back_populates="adverts")


@pytest.fixture
def campaigns(world: World) -> Campaigns:
    return world.data.repository(Campaigns)


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
    Base.metadata.create_all(world.engine)
    with acting_as("anna"), world.session() as session:
        session.add(Campaign(name="Summer"))
    with world.session() as session:
        spring, summer = session.scalars(sa.select(Campaign).order_by(Campaign.name))
        others = ("id", "name", "slug", "created_at", "updated_at")
        assert spring.to_dict(exclude=others) == summer.to_dict(exclude=others)
        assert spring.to_dict() == created.to_dict()
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


async def test_entities_are_detached(world: World, campaigns: Campaigns) -> None:
    Base.metadata.create_all(world.engine)
    created = await campaigns.create(Campaign(name="Spring", tags=["a"]))
    key = created.id
    with pytest.raises(DetachedInstanceError):
        _ = created.adverts
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
        assert merged.adverts == []
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
        Base.metadata.create_all(world.engine)
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
        Base.metadata.create_all(world.engine)
    await world.data.repository(Advert).count()
    with acting_as("anna"):
        created = await campaigns.create(Campaign(name="a", secret="hidden"))
    if tables_by == "repository":
        assert [each.actor for each in await campaigns.audit_log()] == ["anna"]
    with acting_as("bert"), world.session() as session:
        session.get_one(Campaign, created.id).clicks = 1
        session.add(Campaign(name="b", secret="hidden"))
        _ = session.get_one(Campaign, created.id).name
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
    log = await campaigns.audit_log(created.id)
    assert [each.action for each in log] == ["DELETE", "RESTORE", "DELETE", "UPDATE", "UPDATE", "CREATE"]
    assert [each.actor for each in log] == [None, None, None, None, "bert", "anna"]
    wrote = {"clicks": (7, 1), "doubled": (14, 2), "touched": (0, 5), "version": (1, 2), "updated_by": ("anna", "bert")}
    assert wrote.items() <= {name: (value, log[4].after[name]) for name, value in log[4].before.items()}.items()
    assert log[4].before.keys() == log[4].after.keys() == log[3].after.keys() - {"secret"} | {"touched"}
    assert log[3].after["secret"] == "***"
    [other] = await campaigns.audit_log(actor="bert", action="CREATE")
    assert other.after["secret"] == "***"
    assert len(await campaigns.audit_log()) == 7


async def test_what_the_store_makes_stays_its_own(world: World, campaigns: Campaigns) -> None:
    created = await campaigns.create(Campaign(name="a", region="south", clicks=2))
    assert (created.region, created.doubled) == ("south", 4)
    changed = await campaigns.update(created.id, {"clicks": 3})
    assert changed is not None
    assert (changed.doubled, changed.touched) == (6, 5)
    with pytest.raises(InvalidChangeError, match="computed"):
        await campaigns.update(created.id, {"doubled": 1})
    assert (await campaigns.save(changed)).doubled == 6
    adverts = world.data.repository(Advert)
    many = await adverts.create_many(
        [Advert(text="a"), Advert(id=9, text="b", campaign_id=created.id), Advert(text="c")]
    )
    assert [each.text for each in many] == ["a", "b", "c"]
    assert many[1].id == 9
    assert len({each.id for each in many}) == 3
    with pytest.raises(InvalidChangeError, match="id"):
        await adverts.upsert(Advert(text="a"))
    assert (await adverts.upsert(Advert(id=9, text="changed"))).text == "changed"
    assert await adverts.put_if_absent(Advert(id=9, text="x")) is False
    assert await adverts.put_if_absent(Advert(text="x")) is True
    assert (await adverts.get_or_raise(9)).text == "changed"
    assert await adverts.count({"text": {"$in": ["x", "c"]}}) == 2


async def test_every_method_of_the_contract(world: World, campaigns: Campaigns) -> None:
    created = await campaigns.create_many(Campaign(name=f"n{number}", clicks=number) for number in range(12))
    assert [each.name for each in await campaigns.find(F.clicks > 9, order_by="-clicks")] == ["n11", "n10"]
    assert [each.name for each in await campaigns.get_many([created[3].id, created[1].id])] == ["n3", "n1"]
    assert await campaigns.get("no id") is None
    assert await campaigns.exists({"name": "n1"})
    page = await campaigns.page(size=5, order_by="name")
    assert [each.name for each in page.items] == ["n0", "n1", "n10", "n11", "n2"]
    page = await campaigns.page(size=5, order_by="name", after=page.next)
    assert [each.name for each in page.items] == ["n3", "n4", "n5", "n6", "n7"]
    assert len([each async for each in campaigns.stream(batch_size=5)]) == 12
    assert await campaigns.query().where("clicks", "<", 2).select("name", "budget").order_by("name").execute() == [
        {"name": "n0", "budget": Decimal("1.5")},
        {"name": "n1", "budget": Decimal("1.5")},
    ]
    assert await campaigns.increment(created[0].id, "clicks", 3) == 3
    assert await campaigns.update_many({"clicks": {"$gte": 10}}, {"region": "east"}) == 2
    assert await campaigns.compare_and_set(created[1].id, {"clicks": 5}, {"clicks": 6}) is None
    upserted = await campaigns.upsert(Campaign(name="n2", clicks=100), on="name")
    assert (upserted.id, upserted.clicks, upserted.version) == (created[2].id, 100, 2)
    assert await campaigns.upsert_many([Campaign(name="n2"), Campaign(name="new")], on="name") == 2
    sums = await campaigns.aggregate([{"$group": {"_id": "$region", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
    assert sums == [{"_id": "east", "n": 2}, {"_id": "north", "n": 11}]
    assert await campaigns.delete_many({"region": "east"}) == 2
    async with campaigns.transaction() as tx:
        await tx.create(Campaign(name="gone"))
        await tx.rollback()
    async with campaigns.transaction() as tx:
        await tx.repository(Advert).create(Advert(text="kept", campaign_id=created[0].id))
    assert await campaigns.count() == 11
    assert await world.data.repository(Advert).count({"campaign_id": created[0].id}) == 1
    with pytest.raises(RecordNotFoundError):
        await campaigns.save(Campaign(name="never", budget=Decimal(1), clicks=1, tags=[]))
    with pytest.raises(InvalidChangeError, match="name"):
        await campaigns.update(created[0].id, {"nmae": "x"})
    with pytest.raises(InvalidChangeError, match="name"):
        await campaigns.create(Campaign())
    with pytest.raises(TypeError):
        await campaigns.create(Advert(text="x"))  # type: ignore[arg-type]


class CachedCampaigns(Repository[Campaign]):
    cache = None
    reads = 0

    @cached(ttl=60)
    async def named(self, name: str) -> Campaign | None:
        type(self).reads += 1
        return await self.find_one({"name": name})


async def test_answers_are_kept(world: World) -> None:
    repository = CachedCampaigns(world.data)
    created = await repository.create(Campaign(name="a", tags=["x"]))
    CachedCampaigns.reads = 0
    for _ in range(2):
        found = await repository.named("a")
        assert found is not None
        assert found.to_dict() == created.to_dict()
        assert sa.inspect(found).detached
    assert CachedCampaigns.reads == 1


async def test_first_use_makes_what_create_all_makes(world: World, campaigns: Campaigns) -> None:
    """Compared with what a session's own way finds to be there already, column by column and index by index."""
    await world.data.repository(Advert).create(Advert(text="a"))
    inspector = sa.inspect(world.engine)
    names = [Campaign.__tablename__, Advert.__tablename__]
    made = {name: described(inspector, name) for name in names}
    Base.metadata.drop_all(world.engine)
    Base.metadata.create_all(world.engine)
    inspector = sa.inspect(world.engine)
    assert made == {name: described(inspector, name) for name in names}
    assert await campaigns.count() == 0


def described(inspector: sa.Inspector, table: str) -> str:
    indexes = sorted(inspector.get_indexes(table), key=lambda each: str(each["name"]))
    keys = [inspector.get_pk_constraint(table), inspector.get_foreign_keys(table)]
    return re.sub(r" object at 0x\w+", "", str([inspector.get_columns(table), keys, indexes]))


async def test_where_no_table_is_no_mapped_class_goes(tmp_path: Any) -> None:
    async with DataLayer.from_config(
        {
            "connections": {"mongodb": {"url": "mongodb://127.0.0.1:1"}, "sqlite": {"path": str(tmp_path / "a.db")}},
            "repositories": {"adverts": {"connection": "mongodb"}},
        }
    ) as data:
        with pytest.raises(ConfigurationError, match="tables"):
            await data.repository(Advert).count()
        assert data.repository(Campaign).manager.name == "sqlite"
