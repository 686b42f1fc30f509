"""What PostgreSQL's types would change or refuse, on each way that a value takes to the server."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field

from app.core.errors import AppError, DuplicateRecordError, InvalidChangeError
from app.db import DataLayer, Entity, Repository
from app.db.backends import Index
from app.db.backends._postgres_bulk import BULK
from app.db.backends._postgres_json import compared_decimal, encode_number

from .test_filters import samples_of


class Thing(Entity):
    text: str | None = None
    whole: int | None = None
    real: float | None = None
    exact: Decimal | None = None
    flag: bool | None = None
    moment: datetime | None = None
    day: date | None = None
    key: UUID | None = None
    data: bytes | None = None
    nested: Any = None
    items: list[Any] = Field(default_factory=list)


class Things(Repository[Thing]):
    indexes = (Index("text", unique=True),)


class OpenThing(Entity):
    model_config = ConfigDict(extra="allow")


@pytest.fixture
async def data(postgres_schemas: Callable[[], str]) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config({"connections": {"postgres": {"url": postgres_schemas()}}}) as layer:
        yield layer


@pytest.fixture
def things(data: DataLayer) -> Things:
    return data.repository(Things)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(samples_of("postgres"), min_size=BULK, max_size=BULK + 5))
def test_each_way_in_stores_the_same(postgres_schemas: Callable[[], str], samples: list[Any]) -> None:
    fields = tuple(Thing.model_fields)
    entities = [
        Thing(**{name: getattr(each, name) for name in fields if name not in ("id", "text")}) for each in samples
    ]

    async def run() -> None:
        config = {"connections": {"postgres": {"url": postgres_schemas()}}}
        async with DataLayer.from_config(config) as data:
            things = data.repository(Things)
            for store in (things.create_many, things.upsert_many):
                await store(entities)
                assert repr([plain(each) for each in await things.get_many(each.id for each in entities)]) == repr(
                    [plain(each) for each in entities]
                )
                await things.delete_many(None, everything=True)
            for entity in entities:
                created = await things.create(entity)
                assert repr(plain(await things.get_or_raise(created.id))) == repr(plain(entity))

    asyncio.run(run())


def plain(thing: Thing) -> Thing:
    """Numeric has no exponent that is above zero, and no sign on a zero."""
    if thing.exact is not None:
        number = thing.exact or abs(thing.exact)
        thing = thing.model_copy(update={"exact": Decimal(f"{number:f}")})
    return thing


async def test_numbers_that_numeric_does_not_hold(things: Things) -> None:
    await things.create(Thing(id="1", exact=Decimal("1E+131071"), items=[Decimal("1E-16382")]))
    for number in ("1E+131072", "-1E+999999", "1E-16383", "1.5E-999999"):
        for refused in (Thing(exact=Decimal(number)), Thing(items=[{"a": Decimal(number)}])):
            for call in (things.create(refused), things.create_many([refused] * BULK)):
                with pytest.raises(InvalidChangeError, match="numeric"):
                    await call
        with pytest.raises(InvalidChangeError, match="numeric"):
            await things.update("1", {"exact": Decimal(number)})
        assert await things.count({"exact": Decimal(number)}) == 0
    assert await things.count({"exact": {"$lt": Decimal("1E+131072")}}) == 1
    assert await things.count({"exact": {"$gt": Decimal("-1E+131072")}}) == 1
    await things.update("1", {"exact": Decimal("0E+999999")})
    assert (await things.get_or_raise("1")).exact == 0
    assert await things.count({"exact": {"$lt": Decimal("1E-999999")}}) == 1
    assert await things.count({"exact": {"$lt": Decimal("-1E-999999")}}) == 0


held = st.decimals(allow_nan=False, allow_infinity=False) | st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple),
    st.integers(-16382, -16375) | st.integers(-3, 3),
)


@given(held, held, st.integers(-16390, -16381))
def test_what_is_compared_lies_on_the_same_side(stored: Decimal, near: Decimal, exponent: int) -> None:
    given_number = near + Decimal((0, (1, 2), exponent)) if abs(near) < 1 else near
    compared = compared_decimal(given_number)
    assert (stored < compared, stored == compared) == (stored < given_number, stored == given_number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_json_is_the_same_number(number: float) -> None:
    text = encode_number(number)
    assert text is not None
    assert float(text) == number
    if number != int(number):
        assert encode_number(Decimal(number)) == text
        assert encode_number(Decimal(repr(number))) in (None, text)
    assert math.copysign(1, float(text)) == math.copysign(1, number) or number == 0


async def test_nested_values_stay_as_they_are_spelt(data: DataLayer) -> None:
    nested = {
        "b": 1,
        "a": -0.0,
        "é": [1e22, 1.0, 10**18, {"z": 1, "y": Decimal("1.50")}],
        "$x": {"": None},
        "q'\"%": "%s",
    }
    things = data.repository(Things)
    await things.create(Thing(id="1", nested=nested))
    open_things = data.repository(OpenThing)
    await open_things.create(OpenThing(id="1", first=nested, then=[nested], last="a"))
    await open_things.update("1", {"then": [], "new": nested, "first": [nested]})
    assert repr((await things.get_or_raise("1")).nested) == repr(nested)
    extra = (await open_things.get_or_raise("1")).model_extra
    assert repr(extra) == repr({"first": [nested], "then": [], "last": "a", "new": nested})


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns", "UTC"])
@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, UTC)])
async def test_the_zone_of_the_session_means_nothing(
    postgres_schemas: Callable[[], str], zone: str, moment: datetime
) -> None:
    url = postgres_schemas() + quote(f" -c TimeZone={zone} -c DateStyle=SQL,DMY -c extra_float_digits=0", safe="")
    async with DataLayer.from_config({"connections": {"postgres": {"url": url}}}) as data:
        things = data.repository(Things)
        await things.create_many([Thing(moment=moment, day=date(2026, 2, 1), real=0.1 + 0.2) for _ in range(BULK)])
        created = await things.create(Thing(moment=moment))
        assert (await things.get_or_raise(created.id)).moment == moment
        found = await things.find({"moment": moment, "day": date(2026, 2, 1), "real": 0.1 + 0.2})
        assert len(found) == BULK
        assert found[0].moment is not None
        assert found[0].moment.tzinfo is UTC


async def test_no_value_is_in_an_error_or_its_cause(things: Things) -> None:
    await things.create(Thing(id="1", text="planted", whole=2**62))
    planted = Thing.model_construct(**{**Thing(text="other").model_dump(), "whole": "planted", "day": "planted"})
    calls: list[Any] = [
        things.create(Thing(text="planted")),
        things.create_many([Thing(), Thing(text="planted")]),
        things.create_many([Thing(text="planted") for _ in range(BULK)]),
        things.upsert(Thing(id="2", text="planted")),
        things.upsert_many([Thing(text="planted") for _ in range(BULK)]),
        things.create(planted),
        things.create_many([planted] * BULK),
        things.increment("1", "whole", 2**62),
        things.create(Thing(text="planted" * 100_000)),
    ]
    for call in calls:
        with pytest.raises(AppError) as caught:
            await call
        assert isinstance(caught.value, DuplicateRecordError | InvalidChangeError)
        assert "planted" not in f"{caught.value} {caught.value.__cause__!r}"
        if isinstance(caught.value, DuplicateRecordError):
            assert isinstance(caught.value.__cause__, psycopg.errors.UniqueViolation)
            assert caught.value.fields == ("text",)
    assert await things.count() == 1


async def test_many_are_stored_all_or_none(things: Things) -> None:
    await things.create(Thing(id="1", text="a"))
    many = [Thing(text=f"t{number}") for number in range(12_000)]
    for last in (Thing(text="a"), Thing(id="1"), Thing(text="t5")):
        with pytest.raises(DuplicateRecordError):
            await things.create_many([*many, last])
        assert await things.count() == 1
    assert len(await things.create_many(many)) == 12_000
    changed = [each.model_copy(update={"whole": 1}) for each in many]
    assert await things.upsert_many(changed, on="text") == 12_000
    with pytest.raises(DuplicateRecordError):
        await things.upsert_many([*(each.model_copy(update={"whole": 2}) for each in many), Thing(id="x", text="a")])
    assert await things.count({"whole": 1}) == 12_000
