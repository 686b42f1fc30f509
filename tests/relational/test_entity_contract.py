"""A repository of a mapped class has every method of the contract, and makes the tables that it needs."""

import re
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from app.core.errors import (
    ConfigurationError,
    InvalidChangeError,
    RecordNotFoundError,
)
from app.db import DataLayer, F, Repository, cached

from .campaigns import METADATA, Campaign, Campaigns, Placard, campaigns
from .worlds import World, section, store, world

__all__ = ["campaigns", "section", "store", "world"]


async def test_what_the_store_makes_stays_its_own(world: World, campaigns: Campaigns) -> None:
    created = await campaigns.create(Campaign(name="a", region="south", clicks=2))
    assert (created.region, created.doubled) == ("south", 4)
    changed = await campaigns.update(created.id, {"clicks": 3})
    assert changed is not None
    assert (changed.doubled, changed.touched) == (6, 5)
    with pytest.raises(InvalidChangeError, match="computed"):
        await campaigns.update(created.id, {"doubled": 1})
    assert (await campaigns.save(changed)).doubled == 6
    placards = world.data.repository(Placard)
    many = await placards.create_many(
        [Placard(text="a"), Placard(id=9, text="b", campaign_id=created.id), Placard(text="c")]
    )
    assert [each.text for each in many] == ["a", "b", "c"]
    assert many[1].id == 9
    assert len({each.id for each in many}) == 3
    with pytest.raises(InvalidChangeError, match="id"):
        await placards.upsert(Placard(text="a"))
    assert (await placards.upsert(Placard(id=9, text="changed"))).text == "changed"
    assert await placards.put_if_absent(Placard(id=9, text="x")) is False
    assert await placards.put_if_absent(Placard(text="x")) is True
    assert (await placards.get_or_raise(9)).text == "changed"
    assert await placards.count({"text": {"$in": ["x", "c"]}}) == 2


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
        await tx.repository(Placard).create(Placard(text="kept", campaign_id=created[0].id))
    assert await campaigns.count() == 11
    assert await world.data.repository(Placard).count({"campaign_id": created[0].id}) == 1
    with pytest.raises(RecordNotFoundError):
        await campaigns.save(Campaign(name="never", budget=Decimal(1), clicks=1, tags=[]))
    with pytest.raises(InvalidChangeError, match="name"):
        await campaigns.update(created[0].id, {"nmae": "x"})
    with pytest.raises(InvalidChangeError, match="name"):
        await campaigns.create(Campaign())
    with pytest.raises(TypeError):
        await campaigns.create(Placard(text="x"))  # type: ignore[arg-type]


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
    await world.data.repository(Placard).create(Placard(text="a"))
    inspector = sa.inspect(world.engine)
    names = [Campaign.__tablename__, Placard.__tablename__]
    made = {name: described(inspector, name) for name in names}
    METADATA.drop_all(world.engine)
    METADATA.create_all(world.engine)
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
            "repositories": {"placards": {"connection": "mongodb"}},
        }
    ) as data:
        with pytest.raises(ConfigurationError, match="tables"):
            await data.repository(Placard).count()
        assert data.repository(Campaign).manager.name == "sqlite"
