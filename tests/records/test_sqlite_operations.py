"""What the statements of SQLite are made of: which index they use, and what is in the way of an upsert."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from app.core.errors import DuplicateRecordError
from app.db import DataLayer, Entity, F, Repository, SoftDeletable
from app.db.backends import Index
from app.db.query import compare
from app.db.query.keyset import following
from app.db.query.operations import Explain, Find, Order


class Offer(Entity, SoftDeletable):
    name: str
    price: Decimal = Decimal(0)
    kind: str | None = None
    note: str = ""
    details: dict[str, int] = Field(default_factory=dict)


class Offers(Repository[Offer]):
    indexes = (
        Index("price", unique=True),
        Index("name", unique=True, name="named", where=compare("kind", "=", "it's 100%: ?")),
        Index("kind"),
    )


class Passing(Repository[Offer]):
    COLLECTION_NAME = "passing"
    ttl = 60.0
    indexes = (Index("name", unique=True),)


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": {"sqlite": {}}}) as opened:
        yield opened


@pytest.fixture
def offers(data: DataLayer) -> Offers:
    return data.repository(Offers)


async def test_an_upsert_finds_its_record_by_an_index_of_ours(offers: Offers) -> None:
    """Equal decimals are one value, whatever their text."""
    first = await offers.upsert(Offer(name="a", price=Decimal("1.5")), on="price")
    second = await offers.upsert(Offer(name="b", price=Decimal("1.50")), on="price")
    assert second.id == first.id
    assert [each.name for each in await offers.all()] == ["b"]


async def test_an_upsert_repeats_the_condition_of_a_partial_index(offers: Offers) -> None:
    inside = [Offer(name="a", price=Decimal(i), kind="it's 100%: ?") for i in range(2)]
    outside = [Offer(name="a", price=Decimal(i), kind="other") for i in range(2, 4)]
    assert (await offers.upsert(inside[1], on="name")).id == inside[1].id
    assert (await offers.upsert(inside[0], on="name")).id == inside[1].id
    assert await offers.upsert_many(outside[:1], on="name") == 1
    assert await offers.upsert_many(outside[1:], on="name") == 1
    assert await offers.count({"name": "a"}) == 3


async def test_the_expired_are_not_in_the_way_of_an_upsert(data: DataLayer) -> None:
    passing = data.repository(Passing)
    first = await passing.create(Offer(name="a", note="1"))
    manager: Any = passing.manager
    await manager.execute_command("UPDATE passing SET _expires_at = 1")
    second = await passing.upsert(Offer(name="a", note="2"), on="name")
    assert second.id != first.id
    third = await passing.upsert(Offer(name="a", note="3"), on="name")
    assert third.id == second.id
    assert await manager.execute_query("SELECT note, _expires_at > 1 FROM passing") == [("3", 1)]


async def test_of_several_upserts_all_are_undone_for_one_that_is_in_the_way(offers: Offers) -> None:
    deleted = await offers.create(Offer(name="a"))
    await offers.delete(deleted.id)
    with pytest.raises(DuplicateRecordError) as caught:
        await offers.upsert_many([Offer(name="b", price=Decimal(1)), Offer(id=deleted.id, name="c", price=Decimal(2))])
    assert caught.value.fields == ("id",)
    assert await offers.with_deleted().count() == 1


async def test_explain_names_the_index_that_finds_the_records(offers: Offers) -> None:
    queries = {
        "offers_price_unique": offers.query().where(F.price == Decimal(1)),
        "offers_kind_index": offers.query().where(F.kind > "a").order_by("kind").limit(5),
        "sqlite_autoindex_offers_1": offers.query().where(F.id == "1"),
        None: offers.query().where(F.note == "a"),
    }
    for index, query in queries.items():
        explained = await query.explain()
        assert (explained["store"], explained["index"]) == ("sqlite", index)
        assert all(isinstance(step, str) for step in explained["plan"])


async def test_pages_of_a_stream_go_along_the_key_and_sort_nothing(offers: Offers) -> None:
    plan = (await offers.query().where(F.id > "1").order_by("id").limit(500).explain())["plan"]
    assert plan == ["SEARCH offers USING INDEX sqlite_autoindex_offers_1 (id>?)"]


@pytest.mark.parametrize("where", [F.price == Decimal(1), (F.id == "1") & (F.note == "a")])
async def test_one_record_at_most_is_not_sorted(offers: Offers, where: Any) -> None:
    plan = (await offers.query().where(where).order_by("note").limit(1).explain())["plan"]
    assert len(plan) == 1


async def test_what_may_be_several_is_sorted(offers: Offers) -> None:
    await offers.create_many(
        Offer(name="same", price=Decimal(i), kind=kind, note=note)
        for i, (kind, note) in enumerate([("x", "3"), ("x", "1"), ("x", "2"), ("it's 100%: ?", "0")])
    )
    for each in "ca":  # one of them deleted, so that both may have the price
        await offers.create(Offer(id=each, name=each, price=Decimal(9), note=each))
        await offers.delete("c")
    is_partial = offers.query().where("name", "=", "same").where("kind", "=", "it's 100%: ?")
    assert [each.note for each in await is_partial.order_by("note").execute()] == ["0"]
    for query, notes in (
        (offers.query().where("name", "=", "same"), ["0", "1", "2", "3"]),
        (offers.query().where("name", "=", "same").where("kind", "=", "x"), ["1", "2", "3"]),
        (offers.query().where("price", "in", [0, 1]), ["1", "3"]),
        (offers.with_deleted().query().where("price", "=", 9), ["a", "c"]),
    ):
        assert [each.note for each in await query.order_by("note").execute()] == notes


async def test_only_the_columns_that_are_wanted_are_read(offers: Offers) -> None:
    await offers.create(Offer(id="1", name="a", price=Decimal("1.5")))
    manager: Any = offers.manager
    await manager.execute_command("UPDATE offers SET details = 'no JSON'")
    assert await offers.query().select("name", "note").execute() == [{"name": "a", "note": ""}]
    assert [each async for each in offers.query().select("note").stream()] == [{"note": ""}]


async def test_a_page_begins_where_the_index_says(offers: Offers) -> None:
    order = (Order("kind"), Order("id"))
    explain = Explain(Find(following(["a", "1"], order), order[:1], limit=10))
    explained = await offers._binding.backend.explain(explain)
    assert explained["plan"][0] == "SEARCH offers USING INDEX offers_kind_index (kind>?)"
