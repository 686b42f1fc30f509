"""The values, indexes and times to live of documents that are migrated."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.core.errors import DuplicateRecordError, MigrationError
from app.db import DataLayer, Entity, Repository
from app.db.backends import Index
from app.db.repositories.registry import RepositoryRegistry
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.testing.models import Product, Products

from ..records.stand_in import stands_in
from .place import Place, everything, put, rows

VALUES: dict[str, Any] = {
    "text": "plain $text",
    "number": 2**60 + 1,
    "float": 1.0,
    "truth": True,
    "nothing": None,
    "moment": datetime(2026, 1, 10, 12, 0, 0, 123000, tzinfo=UTC),
    "day": date(2026, 1, 10),
    "hour": time(12, 30),
    "span": timedelta(seconds=90),
    "decimal": Decimal("1.10"),
    "long": Decimal("1." + "1" * 60),
    "uuid": UUID("12345678123456781234567812345678"),
    "bytes": b"\0\xff",
    "list": [1, 1.0, "a", None, [], {}],
    "nested": {"$datetime": "no tag", "a.b": {"c": datetime(2026, 1, 1, tzinfo=UTC)}, "": 1},
}
BEYOND_STAND_IN = {"truth", "moment", "uuid", "bytes", "decimal", "long", "nested"}


async def test_values_go_through_a_conversion_as_python_has_them(place: Place, data: DataLayer, manager: Any) -> None:
    values = {k: v for k, v in VALUES.items() if not (stands_in(place.store) and k in BEYOND_STAND_IN)}
    await put(manager, "things", {"id": "one"})
    place.write(
        "001_values",
        """
        self.convert_documents("things", lambda each: GIVEN["values"])
        self.convert_documents("things", lambda each: SEEN.append(each) or {"copy": each})
        """,
        before="from tests.migrations.test_documents import GIVEN, SEEN",
    )
    GIVEN["values"] = values
    SEEN.clear()
    await place.migrator(data).up()
    [seen] = SEEN
    assert repr(seen) == repr({"id": "one", **values})
    [copy] = (await rows(manager, "things")).values()
    assert copy.keys() == {*values, "copy"}


GIVEN: dict[str, Any] = {}
SEEN: list[dict[str, Any]] = []


async def test_values_that_are_equal_are_told_apart_to_the_type(place: Place, data: DataLayer, manager: Any) -> None:
    await put(manager, "things", {"id": "one", "n": 1, "nested": {"a": [1]}})
    place.write(
        "001_types",
        """
        self.convert_field("things", "n", float)
        self.convert_documents("things", lambda each: {"nested": {"a": [1.0]}})
        """,
    )
    await place.migrator(data).up()
    assert repr(await rows(manager, "things")) == "{'one': {'n': 1.0, 'nested': {'a': [1.0]}}}"


async def test_a_function_may_change_what_it_is_given_in_place(place: Place, data: DataLayer, manager: Any) -> None:
    await put(manager, "things", {"id": "one", "list": [1], "dict": {}})
    place.write(
        "001_in_place",
        """
        self.convert_field("things", "list", append)
        self.convert_documents("things", lambda each: each["dict"].update(a=1) or each)
        """,
        before="def append(value):\n    value.append(2)\n    return value",
    )
    await place.migrator(data).up()
    assert await rows(manager, "things") == {"one": {"list": [1, 2], "dict": {"a": 1}}}


async def test_a_repository_reads_what_a_migration_wrote(place: Place, data: DataLayer) -> None:
    products = data.repository(Products)
    await products.create_many([Product(id=f"p{n}", name=f"n{n}", stock=n) for n in range(5)])
    place.write(
        "001_stock",
        """
        self.convert_field("products", "stock", lambda value: value * 2)
        self.convert_documents("products", lambda each: {"sku": f"sku-{each['id']}", "price": 1.5})
    """,
    )
    await place.migrator(data).up()
    found = await products.find(order_by="id")
    assert [(each.stock, each.sku, each.price) for each in found] == [(n * 2, f"sku-p{n}", 1.5) for n in range(5)]


class Card(Entity):
    code: str
    owner: str | None = None
    active: bool = True


@RepositoryRegistry.register("migrated_cards")
class Cards(Repository[Card]):
    collection = "migrated_cards"
    indexes = (Index("code", unique=True, name="code_of_card"), Index("owner"))


async def test_index_entries_follow_the_values(place: Place, data: DataLayer) -> None:
    cards = data.repository(Cards)
    await cards.create_many([Card(id=f"c{n}", code=f"code{n}", owner=f"o{n % 2}") for n in range(6)])
    place.write(
        "001_codes",
        """
        self.convert_field("migrated_cards", "code", lambda value: f"new-{value}", batch_size=4)
        self.convert_field("migrated_cards", "owner", lambda value: f"new-{value}")
    """,
    )
    await place.migrator(data).up()
    found = await cards.find_one({"code": "new-code3"})
    assert found is not None
    assert found.id == "c3"
    assert await cards.find_one({"code": "code3"}) is None
    assert sorted(each.id for each in await cards.find({"owner": "new-o0"})) == ["c0", "c2", "c4"]
    assert await cards.count({"owner": "o0"}) == 0
    with pytest.raises(DuplicateRecordError):
        await cards.create(Card(code="new-code3"))
    await cards.create(Card(code="code3"))


async def test_an_index_is_the_one_of_its_repository(place: Place, data: DataLayer, manager: Any) -> None:
    await put(manager, "migrated_cards", *({"id": f"c{n}", "code": f"code{n}"} for n in range(3)))
    place.write(
        "001_cards",
        """
        self.create_index("migrated_cards", "code", unique=True)
        self.create_index("migrated_cards", "owner")
    """,
    )
    await place.migrator(data).up()
    before = await everything(manager)
    cards = data.repository(Cards)
    assert (await cards.find_one({"code": "code1"}) or Card(code="")).id == "c1"
    assert await everything(manager) == before
    with pytest.raises(DuplicateRecordError):
        await cards.create(Card(code="code1"))
    await place.migrator(data).down()
    after = await everything(manager)
    if place.store == "redis":
        assert [name for name in after if name.startswith("@migrated")] == []


async def test_a_conversion_into_a_duplicate_is_refused(place: Place, data: DataLayer) -> None:
    cards = data.repository(Cards)
    await cards.create_many([Card(id=f"c{n}", code=f"code{n}") for n in range(3)])
    place.write("001_same", 'self.convert_field("migrated_cards", "code", lambda value: "secret")')
    with pytest.raises(MigrationError, match="another record has the same") as caught:
        await place.migrator(data).up()
    assert "secret" not in str(caught.value)
    if not stands_in(place.store):
        assert "the same code" in str(caught.value)
    place.write("001_same", 'self.convert_field("migrated_cards", "code", lambda value: value.upper())')
    await place.migrator(data).repair()


@pytest.mark.parametrize("key", ["id", "_id"])
async def test_what_identifies_a_document_stays(place: Place, data: DataLayer, manager: Any, key: str) -> None:
    if key == "_id" and place.store == "redis":
        pytest.skip("a name like any other")
    await put(manager, "things", {"id": "one", "a": 1})
    place.write("001_id", f'self.rename_field("things", "a", "{key}")')
    migrator = place.migrator(data)
    if key == "id":
        with pytest.raises(MigrationError, match=r"things\.id identifies a document and cannot be migrated"):
            await migrator.up()
    else:
        await migrator.up()
        assert (await rows(manager, "things")).keys() == {"one"}


async def test_a_value_that_no_store_keeps_is_refused(place: Place, data: DataLayer, manager: Any) -> None:
    await put(manager, "things", {"id": "one", "a": 1})
    for value, reason in (("float('nan')", "NaN"), ("'a\\0'", r"U\+0000"), ("object()", "cannot be stored")):
        place.write("001_bad", f'self.convert_field("things", "a", lambda value: {value})')
        migrator = place.migrator(data)
        with pytest.raises(MigrationError, match=reason):
            await (
                migrator.repair() if await migrator.check() != [f"{place.store}: 001_bad is pending"] else migrator.up()
            )
    assert (await rows(manager, "things")) == {"one": {"a": 1}}


async def test_a_function_that_fails_names_the_document(place: Place, data: DataLayer, manager: Any) -> None:
    await put(manager, "things", {"id": "one", "a": "secret"})
    place.write("001_bad", 'self.convert_field("things", "a", int)')
    with pytest.raises(MigrationError, match=r"the function of the migration failed \(ValueError\) .* one: ") as caught:
        await place.migrator(data).up()
    assert "secret" not in str(caught.value)


async def test_sessions_keep_their_time_to_live(place: Place, data: DataLayer, manager: Any) -> None:
    sessions = data.repository(SignupSessionRepository)
    data_of_session = {"step": 1, "list": [], "big": 2**53 + 1}
    assert await sessions.create_session("s1", data_of_session)
    place.write(
        "001_step",
        """
        self.rename_field("signup", "step", "stage")
        self.convert_field("signup", "stage", lambda value: {"number": value, "$key": 1.0})
    """,
    )
    await place.migrator(data).up()
    found = await sessions.get_session("s1")
    assert found is not None
    assert {name: found[name] for name in ("stage", "list", "big")} == {
        "stage": {"number": 1, "$key": 1.0},
        "list": [],
        "big": 2**53 + 1,
    }
    assert "step" not in found
    if place.store == "redis":
        assert 290 <= await manager.ttl("signup:s1") <= 300
