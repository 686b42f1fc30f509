"""Both worlds read and write one table: what a session stores a repository reads, and the other way round."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.core.errors import InvalidChangeError, UnsupportedOperationError
from app.db import Repository
from app.db.backends._postgres_dialect import PostgresDialect
from app.db.backends._sql import Binder
from app.db.backends._sql_mapped import MappedTable
from app.db.backends.base import CollectionSchema
from app.db.models.schema import Kind, schema_of
from app.db.query.evaluate import matches, ordered
from app.db.query.operations import Order
from app.db.query.predicates import to_predicate

from .worlds import World, section, store, world

__all__ = ["section", "store", "world"]


class Base(DeclarativeBase):
    pass


class Colour(Enum):
    """Names, values and order all differ."""

    RED = "z-red"
    GREEN = "a-green"
    BLUE = "M-blue"


class Level(IntEnum):
    LOW = 30
    HIGH = 5


class Moments(sa.types.TypeDecorator[datetime]):
    """The recipe that is all over the web: aware outside, naive in UTC inside."""

    impl = sa.DateTime
    cache_ok = True
    kind = Kind.DATETIME

    def process_bind_param(self, value: datetime | None, dialect: Any) -> Any:
        del dialect
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> Any:
        del dialect
        return value and value.replace(tzinfo=UTC)


class Everything(Base):
    __tablename__ = "everything"

    id: Mapped[int] = mapped_column(primary_key=True)
    string: Mapped[str | None] = mapped_column(sa.String(40))
    text: Mapped[str | None] = mapped_column(sa.Text)
    folded: Mapped[str | None] = mapped_column(
        sa.String(9, collation="NOCASE").with_variant(sa.String(9), "postgresql")
    )
    whole: Mapped[int | None] = mapped_column(sa.Integer)
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    real: Mapped[float | None] = mapped_column(sa.Float)
    exact: Mapped[Decimal | None] = mapped_column(sa.Numeric(12, 3))
    loose: Mapped[float | None] = mapped_column(sa.Numeric(12, 3, asdecimal=False))
    flag: Mapped[bool | None] = mapped_column(sa.Boolean)
    naive: Mapped[datetime | None] = mapped_column(sa.DateTime)
    aware: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    utc: Mapped[datetime | None] = mapped_column(Moments)
    day: Mapped[date | None] = mapped_column(sa.Date)
    key: Mapped[UUID | None] = mapped_column(sa.Uuid)
    code: Mapped[str | None] = mapped_column(sa.Uuid(as_uuid=False))
    data: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    nested: Mapped[Any] = mapped_column(sa.JSON, nullable=True)
    colour: Mapped[Colour | None] = mapped_column(sa.Enum(Colour))
    level: Mapped[Level | None] = mapped_column(sa.Enum(Level))
    word: Mapped[str | None] = mapped_column(sa.Enum("small", "LARGE", name="word"))
    at: Mapped[time | None] = mapped_column(sa.Time)
    for_: Mapped[timedelta | None] = mapped_column("for", sa.Interval)


NAMES = tuple(each.key for each in sa.inspect(Everything).column_attrs if each.key != "id")


class Things(Repository[Everything]):
    pass


PLUS_TWO = timezone(timedelta(hours=2))
SAMPLES: tuple[dict[str, Any], ...] = (
    {},
    {
        "string": "a'b\\c%:x",
        "text": "é𝄞\n\t",
        "whole": -(2**31),
        "big": 2**63 - 1,
        "real": 0.1,
        "exact": Decimal("-123456789.125"),
        "loose": 2.5,
        "flag": True,
        "naive": datetime(2026, 1, 2, 3, 4, 5, 678901),  # noqa: DTZ001
        "aware": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "utc": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "day": date(2026, 2, 28),
        "key": UUID(int=7),
        "code": str(UUID(int=2**127)),
        "data": b"\0\\x41\xff",
        "nested": {"a": [1, 2.5, None, True, "x"], "b": {"$c": "é"}},
        "colour": Colour.GREEN,
        "level": Level.HIGH,
        "word": "LARGE",
        "at": time(12, 30, 1, 5),
        "for_": timedelta(days=3, microseconds=7),
    },
    {
        "string": "",
        "text": "Zebra",
        "whole": 0,
        "big": -(2**63),
        "real": -1e300,
        "exact": Decimal(0),
        "loose": 0.0,
        "flag": False,
        "naive": datetime(1000, 1, 1),  # noqa: DTZ001
        "aware": datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        "utc": datetime(1970, 1, 1, tzinfo=UTC),
        "day": date(1, 1, 1),
        "key": UUID(int=2**128 - 1),
        "code": str(UUID(int=1)),
        "data": b"",
        "nested": [],
        "colour": Colour.RED,
        "level": Level.LOW,
        "word": "small",
        "at": time(0),
        "for_": timedelta(0),
    },
    {"nested": 5, "folded": "Z", "string": "Ä", "text": "a", "naive": datetime(9999, 12, 31, 23, 59, 59, 999999)},  # noqa: DTZ001
    {
        "nested": "text",
        "folded": "a",
        "string": "a",
        "text": "Ä",
        "exact": Decimal("1.1"),
        "real": 1.1,
        "colour": Colour.BLUE,
    },
    {"nested": True, "folded": "A", "string": "B", "text": "b", "exact": Decimal("1.100"), "whole": 2, "flag": True},
    {"nested": {"a": 1}, "folded": "z", "string": "b", "exact": Decimal("2.5"), "real": 2.5, "big": 2, "whole": 1},
)


def values(entity: Everything) -> dict[str, Any]:
    return {name: same(getattr(entity, name)) for name in NAMES}


def same(value: Any) -> Any:
    """Moments by what they say, with or without their zone: SQLAlchemy loses it on SQLite."""
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC)).replace(tzinfo=None)
    # SQLAlchemy gives a whole number of a Numeric(asdecimal=False) on SQLite as an integer.
    return (float if type(value) is int else type(value), value)


def given_values(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: same(sample.get(name)) for name in NAMES}


async def test_what_a_session_writes_the_repository_reads(world: World) -> None:
    things = world.data.repository(Things)
    Base.metadata.create_all(world.engine)
    with world.session() as session:
        session.add_all(Everything(id=number, **sample) for number, sample in enumerate(SAMPLES, 1))
        session.commit()
    for number, sample in enumerate(SAMPLES, 1):
        entity = await things.get_or_raise(number)
        assert values(entity) == given_values(sample)
        with world.session() as session:
            assert values(session.get_one(Everything, number)) == values(entity)


async def test_moments_have_a_zone_where_their_column_has(world: World) -> None:
    things = world.data.repository(Things)
    created = await things.create(Everything(**SAMPLES[1]))
    for entity in (created, await things.get_or_raise(created.id)):
        assert [each and each.tzinfo for each in (entity.naive, entity.aware, entity.utc)] == [None, UTC, UTC]


async def test_what_the_repository_writes_a_session_reads(world: World) -> None:
    things = world.data.repository(Things)
    created = await things.create_many(Everything(**sample) for sample in SAMPLES)
    assert [each.id for each in created] == [*range(1, len(SAMPLES) + 1)]
    assert [values(each) for each in created] == [given_values(each) for each in SAMPLES]
    with world.session() as session:
        assert [values(each) for each in session.scalars(sa.select(Everything).order_by(Everything.id))] == [
            given_values(each) for each in SAMPLES
        ]
    for entity, sample in zip(created, SAMPLES, strict=True):
        changed = await things.update(entity.id, {name: sample.get(name) for name in NAMES})
        assert changed is not None
        assert values(changed) == given_values(sample)
        assert values(await things.save(changed)) == given_values(sample)


SCALARS = tuple(name for name in NAMES if name not in ("nested", "at", "for_"))
OPERANDS: dict[str, tuple[Any, ...]] = {
    **{name: tuple(each[name] for each in SAMPLES if name in each) for name in SCALARS},
    "text": ("Z", "Ä", "a", "aa", "é𝄞\n\t", ""),
    "string": ("a", "B", "Z", "Ä", "%", "'", "\\"),
    "whole": (0, 1, 1.5, Decimal("1.0"), -(2**40), 2**40, True),
    "big": (2, 2**62, 2.5, -(2**63)),
    "real": (1.1, Decimal("1.1"), 2, 1e300, 0.1),
    "exact": (
        1.1,
        Decimal("1.1"),
        Decimal("1.0999999"),
        Decimal("1.1000001"),
        2,
        2.5,
        Decimal("-123456789.125"),
        "1.1",
    ),
    "utc": (datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)),
    "naive": (datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC), datetime(1000, 1, 1, tzinfo=PLUS_TWO)),
    "aware": (datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 1, 2, 5, 4, 5, 678000, tzinfo=PLUS_TWO)),
    "key": (UUID(int=7), str(UUID(int=7))),
    "code": (UUID(int=1), str(UUID(int=1))),
    "colour": (*Colour, "a-green", "GREEN", "nothing", "M", 5),
    "level": (*Level, 10, 5.0, "LOW"),
    "word": ("LARGE", "small", "M", "t"),
    "nested": (5, "text", True, None, {"a": 1}),
    "nested.a": (1, 1.0, None, "x"),
    "nested.b.c": ("é",),
}
ORDERED = tuple(
    name for name in OPERANDS if name not in ("data", "key", "code", "flag", "nested", "nested.a", "nested.b.c")
)


def filters() -> Iterator[Any]:
    for name, operands in OPERANDS.items():
        yield {name: None}
        yield {name: {"$ne": None}}
        simple = [each for each in operands if not isinstance(each, dict)]
        yield {name: {"$in": simple}}
        yield {name: {"$nin": [*simple[:2], None]}}
        for value in simple:
            yield {name: value}
            yield {name: {"$ne": value}}
            if isinstance(value, str):
                yield {name: {"$contains": value}}
                yield {name: {"$startswith": value}}
            if name in ORDERED and value is not None:
                yield from ({name: {op: value}} for op in ("$lt", "$lte", "$gt", "$gte"))
    yield {"nested": {"$contains": 2.5}}
    yield {"at": None}
    yield {"for_": {"$ne": None}}


async def test_filters_mean_the_same_as_everywhere(world: World) -> None:
    things = world.data.repository(Things)
    created = await things.create_many(Everything(**sample) for sample in SAMPLES)
    documents = [schema_of(Everything).document(each) for each in created]
    wrong = {}
    for given_filter in filters():
        expected = [each["id"] for each in documents if matches(to_predicate(given_filter), each)]
        found = [each.id for each in await things.find(given_filter, order_by="id")]
        if found != expected:
            wrong[str(given_filter)] = (found, expected)
    assert wrong == {}


async def test_orders_and_pages_mean_the_same_as_everywhere(world: World) -> None:
    things = world.data.repository(Things)
    created = await things.create_many(Everything(**sample) for sample in SAMPLES * 2)
    documents = [schema_of(Everything).document(each) for each in created]
    for name in SCALARS:
        for descending in (False, True):
            expected = [each["id"] for each in ordered(documents, (Order(name, descending),), "id")]
            order = f"-{name}" if descending else name
            assert [each.id for each in await things.find(order_by=order)] == expected, order
            paged, cursor = [], None
            while True:
                page = await things.page(order_by=order, size=3, after=cursor)
                paged += [each.id for each in page.items]
                cursor = page.next
                if cursor is None:
                    break
            assert paged == expected, order
    with pytest.raises(UnsupportedOperationError):
        await things.find(order_by="for_")
    with pytest.raises(UnsupportedOperationError):
        await things.find(order_by="nested")


def test_text_is_ordered_by_code_point_on_postgresql() -> None:
    """By the statement, since the server of the wheel knows no other collation."""
    schema = schema_of(Everything)
    table = MappedTable(CollectionSchema("everything", "id", schema.fields, table=schema.table), PostgresDialect())
    [order, _] = table.order((Order("text"),))
    dialect = PostgresDialect.sqlalchemy
    assert 'COLLATE "C"' in str(order.compile(dialect=dialect))
    comparison = table.condition(to_predicate({"text": {"$lt": "a"}}), Binder())
    assert 'COLLATE "C"' in str(comparison.compile(dialect=dialect))
    equality = table.condition(to_predicate({"text": "a"}), Binder())
    assert "COLLATE" not in str(equality.compile(dialect=dialect)), "which an index would not serve"


REFUSED: tuple[tuple[str, Any], ...] = (
    ("string", "x" * 41),
    ("string", 5),
    ("string", "a\0"),
    ("whole", "many"),
    ("whole", 1.5),
    ("big", 2**63),
    ("real", float("nan")),
    ("exact", Decimal("1.2345")),
    ("exact", Decimal(12345678901)),
    ("flag", "perhaps"),
    ("naive", "yesterday"),
    ("utc", datetime(2026, 1, 1)),  # noqa: DTZ001
    ("day", "2026-13-01"),
    ("key", "secret"),
    ("code", "secret"),
    ("data", 5),
    ("nested", {"at": datetime(2026, 1, 1, tzinfo=UTC)}),
    ("colour", "secret"),
    ("level", 6),
    ("word", "medium"),
)


@pytest.mark.parametrize("store", ["sqlite"])  # nothing of it reaches a store
@pytest.mark.parametrize(("name", "value"), REFUSED, ids=range(len(REFUSED)))
async def test_what_the_columns_refuse(world: World, name: str, value: Any) -> None:
    things = world.data.repository(Things)
    kept = await things.create(Everything(string="kept"))
    for write in (
        things.create(Everything(**{name: value})),
        things.create_many([Everything(string="first"), Everything(**{name: value})]),
        things.upsert(Everything(id=1, **{name: value})),
        things.update(kept.id, {"text": "changed", name: value}),
        things.update_many({"id": kept.id}, {name: value}),
    ):
        with pytest.raises(InvalidChangeError) as caught:
            await write
        assert name in str(caught.value)
        assert "secret" not in str(caught.value)
    assert [values(each) for each in await things.all()] == [values(kept)]
