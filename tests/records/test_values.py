"""Values of every kind come back as they went in; what some store cannot keep is refused before the write."""

import asyncio
import dataclasses
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, RootModel, SecretStr

from app.core.errors import InvalidChangeError, MigrationError
from app.db import DataLayer, Entity, Repository, SoftDeletable, Timestamped
from app.db.models.values import storable


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Size(StrEnum):
    SMALL = "s"
    LARGE = "l"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Street(BaseModel):
    name: str = Field("", alias="streetName")
    since: datetime | None = None
    rent: Decimal | None = None


class Tags(RootModel[list[str]]):
    pass


@dataclasses.dataclass
class Point:
    x: int
    when: date


class Everything(Entity):
    text: str | None = None
    whole: int | None = None
    real: float | None = None
    flag: bool | None = None
    moment: datetime | None = None
    day: date | None = None
    exact: Decimal | None = None
    key: UUID | None = None
    data: bytes | None = None
    colour: Colour | None = None
    size: Size | None = None
    level: Level | None = None
    choice: Literal["a", "b"] | None = None
    mixed: Literal["a", 1] | None = None
    either: int | str | float | None = None
    street: Street | None = None
    streets: list[Street] = Field(default_factory=list)
    by_name: dict[str, Street] = Field(default_factory=dict)
    by_number: dict[int, Decimal] = Field(default_factory=dict)
    by_key: dict[UUID, date] = Field(default_factory=dict)
    anything: Any = None
    some: set[int] = Field(default_factory=set)
    pair: tuple[int, datetime] | None = None
    frozen: frozenset[Size] = frozenset()
    colours: list[Colour] = Field(default_factory=list)
    tags: Tags | None = None
    point: Point | None = None
    at: time | None = None
    lasts: timedelta | None = None
    secret: SecretStr | None = None
    url: AnyUrl | None = None
    address: IPv4Address | None = None
    path: Path | None = None


class Things(Repository[Everything]):
    pass


NOW = datetime(2026, 1, 10, 12, 30, 15, 123456, UTC)
CUT = NOW.replace(microsecond=123000)
KEY = uuid4()
SAMPLES: list[tuple[str, Any, Any]] = [
    *(("text", value, value) for value in ("", "é", "e\u0301", "\U0001f600", "a'b\"c\\d", "\x1f\x7f\u2028", "%_[]*")),
    *(("whole", value, value) for value in (0, -1, 2**53 + 1, 2**63 - 1, -(2**63))),
    *(("real", value, float(value)) for value in (0.0, 1.0, 0.1, 1e308, 5e-324, -1.5, 2)),
    *(("flag", value, value) for value in (True, False)),
    ("moment", NOW, CUT),
    ("moment", NOW.astimezone(timezone(timedelta(hours=-7, minutes=-30))), CUT),
    ("moment", datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
    ("moment", datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, UTC)),
    ("day", date(1, 1, 1), date(1, 1, 1)),
    ("day", date(2026, 2, 28), date(2026, 2, 28)),
    *(("exact", Decimal(text), Decimal(text)) for text in ("0", "1.50", "-0.1", "1E-400", "12345678901234567890.5")),
    ("key", KEY, KEY),
    *(("data", value, value) for value in (b"", b"\0\xff", "é".encode())),
    *(("colour", value, value) for value in Colour),
    *(("size", value, value) for value in Size),
    *(("level", value, value) for value in Level),
    ("choice", "b", "b"),
    *(("mixed", value, value) for value in ("a", 1)),
    *(("either", value, value) for value in (1, "1", 1.0, "", "true", -0.5)),
    (
        "street",
        Street(streetName="A", since=NOW, rent=Decimal("1.50")),
        Street(streetName="A", since=CUT, rent=Decimal("1.50")),
    ),
    ("streets", [Street(streetName="A"), Street()], [Street(streetName="A"), Street()]),
    (
        "by_name",
        {"$a": Street(streetName="B"), "a.b": Street(), "": Street()},
        {"$a": Street(streetName="B"), "a.b": Street(), "": Street()},
    ),
    ("by_number", {1: Decimal("1.0"), -2: Decimal(3)}, {1: Decimal("1.0"), -2: Decimal(3)}),
    ("by_key", {KEY: date(2026, 1, 1)}, {KEY: date(2026, 1, 1)}),
    ("anything", {"$date": "2026", "n": [None, True, 1.0]}, {"$date": "2026", "n": [None, True, 1.0]}),
    (
        "anything",
        [CUT, date(2026, 1, 1), KEY, b"\0", Decimal("1.0")],
        [CUT, date(2026, 1, 1), KEY, b"\0", Decimal("1.0")],
    ),
    (
        "anything",
        [time(1, 2, 3), timedelta(days=-1, microseconds=5)],
        [time(1, 2, 3), timedelta(days=-1, microseconds=5)],
    ),
    ("some", {3, 1}, {1, 3}),
    ("pair", (1, NOW), (1, CUT)),
    ("frozen", frozenset(Size), frozenset(Size)),
    ("colours", list(Colour), list(Colour)),
    ("tags", Tags(["a"]), Tags(["a"])),
    ("point", Point(1, date(2026, 1, 1)), Point(1, date(2026, 1, 1))),
    ("at", time(23, 59, 59, 5), time(23, 59, 59, 5)),
    ("lasts", timedelta(days=3, seconds=1, microseconds=7), timedelta(days=3, seconds=1, microseconds=7)),
    ("secret", SecretStr("kept"), SecretStr("kept")),
    ("url", AnyUrl("https://x.io/a"), AnyUrl("https://x.io/a")),
    ("address", IPv4Address("10.0.0.1"), IPv4Address("10.0.0.1")),
    ("path", Path("a/b"), Path("a/b")),
]


def spelled(value: Any) -> str:
    """With the types of all that is in it; a set has no order."""
    return repr(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value)


async def test_every_kind_comes_back_as_it_went_in(data: DataLayer) -> None:
    things = data.repository(Things)
    entities = await things.create_many(Everything.model_validate({name: value}) for name, value, _ in SAMPLES)
    blank = await things.create(Everything())
    for (name, value, kept), created in zip(SAMPLES, entities, strict=True):
        stored = await things.get(created.id)
        assert stored == created
        assert getattr(stored, name) == kept
        assert type(getattr(stored, name)) is type(kept)
        assert spelled(getattr(stored, name)) == spelled(kept)
        updated = await things.update(blank.id, {name: value})
        assert updated is not None
        assert spelled(getattr(updated, name)) == spelled(kept)
    untouched = await things.create(Everything())
    assert await things.get(untouched.id) == untouched


async def test_a_decimal_with_an_exponent(data: DataLayer, store: str) -> None:
    things = data.repository(Things)
    for number in (Decimal("1E+2"), Decimal("-1.5E+400")):
        created = await things.create(Everything(exact=number, anything=[number]))
        stored = await things.get_or_raise(created.id)
        assert stored == created
        assert repr(stored.anything) == repr([number])
        if store != "postgres":  # numeric keeps the digits behind the point, and no exponent
            assert repr(stored.exact) == repr(number)


REFUSED: list[tuple[str, Any]] = [
    ("real", float("nan")),
    ("real", float("inf")),
    ("exact", Decimal("NaN")),
    ("exact", Decimal("sNaN")),
    ("exact", Decimal("Infinity")),
    ("text", "planted\0"),
    ("text", "planted\ud800"),
    ("whole", 2**63),
    ("whole", -(2**63) - 1),
    ("moment", datetime(2026, 1, 1)),  # noqa: DTZ001 - that it has no zone is the point
    ("moment", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
    ("anything", [float("nan")]),
    ("anything", {"planted\0": 1}),
    ("anything", {"a": {"b": ["planted\ud800"]}}),
    ("anything", 2**64),
    ("anything", [datetime(2026, 1, 1)]),  # noqa: DTZ001
    ("anything", object()),
    ("anything", {1: "a", "1": "b"}),
    ("anything", {(1, 2): "a"}),
    ("anything", lambda: None),
    ("by_number", {1: Decimal("NaN")}),
    ("street", Street(streetName="planted\0")),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
async def test_what_a_store_cannot_keep_is_refused_before_the_write(data: DataLayer, name: str, value: Any) -> None:
    things = data.repository(Things)
    entity = await things.create(Everything(text="before"))
    bad = Everything.model_construct(**{**Everything().__dict__, name: value})
    with pytest.raises(InvalidChangeError, match=name) as caught:
        await things.create(bad)
    assert "planted" not in f"{caught.value!r} {caught.value}"
    calls = [
        things.create_many([Everything(), bad]),
        things.put_if_absent(bad),
        things.update(entity.id, {"text": "after", name: value}),
        things.update_many({"text": "before"}, {"text": "after", name: value}),
        things.compare_and_set(entity.id, {"text": "before"}, {name: value}),
    ]
    for call in calls:
        with pytest.raises(InvalidChangeError) as caught:
            await call
        assert "planted" not in f"{caught.value!r} {caught.value}"
    assert await things.all() == [entity]


def test_equal_sets_are_stored_alike_whatever_the_order_they_were_made_in() -> None:
    one, other = frozenset([8, 0]), frozenset([0, 8])
    assert one == other and list(one) != list(other)  # noqa: PT018 - CPython's: both begin at one place of the table
    assert storable(one) == storable(other) == [0, 8]
    mixed = [8, 0, "a", None, (1, 2)]
    assert storable(frozenset(mixed)) == storable(frozenset(reversed(mixed)))


def test_a_value_that_nests_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="levels deep"):
        storable(endless)
    deep: Any = 1
    for _ in range(90):
        deep = {"a": deep}
    assert storable(deep) == deep
    with pytest.raises(ValueError, match="levels deep"):
        storable([deep])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | st.binary(max_size=5)
    | st.dates()
    | st.timedeltas()
    | st.datetimes(timezones=st.just(UTC)).map(
        lambda value: value.replace(microsecond=value.microsecond // 1000 * 1000, fold=0)
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["", "a", "$datetime", "$$uuid", "$", "a.b", '"', "\\"])
            | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(json_values, min_size=1, max_size=20))
def test_anything_nested_comes_back_as_it_went_in(config: dict[str, Any], values: list[Any]) -> None:
    async def run() -> None:
        async with DataLayer.from_config(config) as data:
            things = data.repository(Things)
            created = await things.create_many(Everything(anything=value) for value in values)
            stored = await things.get_many(each.id for each in created)
            assert repr([each.anything for each in stored]) == repr(values)

    asyncio.run(run())


class Strict(Entity):
    model_config = ConfigDict(strict=True)

    size: Size = Size.SMALL
    some: set[int] = Field(default_factory=set)
    pair: tuple[int, ...] = ()
    day: date = date(2026, 1, 1)
    nested: dict[str, list[Colour]] = Field(default_factory=dict)


async def test_a_strict_model_reads_what_it_wrote(data: DataLayer) -> None:
    repo = data.repository(Strict)
    created = await repo.create(Strict(size=Size.LARGE, some={1}, pair=(1, 2), nested={"a": [Colour.BLUE]}))
    assert await repo.get(created.id) == created
    with pytest.raises(InvalidChangeError):
        await repo.update(created.id, {"day": "2026-01-01"})


class Aliased(Entity):
    model_config = ConfigDict(populate_by_name=False)

    first: str = Field(alias="firstName")
    inner: Street = Field(alias="innerStreet")
    cached_reads: int = 0

    @cached_property
    def shout(self) -> str:
        return self.first.upper()


async def test_documents_have_field_names_whatever_the_aliases(data: DataLayer) -> None:
    repo = data.repository(Aliased)
    entity = Aliased(firstName="a", innerStreet=Street(streetName="b"))
    assert entity.shout == "A"
    created = await repo.create(entity)
    assert await repo.get(created.id) == created
    assert await repo.find_one({"inner.name": "b"}) == created
    assert await repo.update(created.id, {"inner": {"streetName": "c"}}) is not None
    assert await repo.update(created.id, {"inner": {"name": "d"}}) is not None
    assert await repo.exists({"inner.name": "d"})


class Open(Entity):
    model_config = ConfigDict(extra="allow")

    known: int = 0


async def test_an_open_model_keeps_what_it_does_not_name(data: DataLayer) -> None:
    repo = data.repository(Open)
    extra = {"$a": 1, "a.b": [NOW.replace(microsecond=0)], "né": Decimal("1.0"), "plain": "x"}
    created = await repo.create(Open.model_validate({"known": 1, **extra}))
    stored = await repo.get(created.id)
    assert stored == created
    assert stored is not None
    assert stored.model_extra == extra
    assert await repo.exists({"plain": "x", "known": 1})
    assert await repo.exists({"né": 1})
    updated = await repo.update(created.id, {"plain": "y", "new": {"a": date(2026, 1, 1)}})
    assert updated is not None
    assert updated.model_extra == {**extra, "plain": "y", "new": {"a": date(2026, 1, 1)}}
    for wrong in ("$a", "a.b", ""):
        with pytest.raises(InvalidChangeError):
            await repo.update(created.id, {wrong: 1})
    with pytest.raises(InvalidChangeError):
        await repo.increment(created.id, "plain")


class Numbers(Entity):
    value: Annotated[int, Field(le=10)] = 0


class Stricter(Numbers):
    value: Annotated[int, Field(le=5)] = 0


class Before(Repository[Numbers]):
    COLLECTION_NAME = "numbers"


class After(Repository[Stricter]):
    COLLECTION_NAME = "numbers"


async def test_a_record_that_no_longer_fits_the_model_says_so_without_its_values(data: DataLayer) -> None:
    await data.repository(Before).create(Numbers(value=9))
    with pytest.raises(MigrationError, match=r"Stricter.*value") as caught:
        await data.repository(After).all()
    assert "9" not in str(caught.value)


class Stamped(Entity, Timestamped, SoftDeletable):
    name: str = ""


async def test_naive_datetimes_of_mixins_are_refused(data: DataLayer) -> None:
    repo = data.repository(Stamped)
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(InvalidChangeError):
        await repo.create(Stamped(deleted_at=naive))
