"""What a class becomes as a table, and what its objects become as dicts."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from app.core.errors import ConfigurationError, InvalidChangeError
from app.db import DataLayer
from app.db.models.naming import collection_name
from app.db.relational import Base, TimestampedModel, UUIDMixin, VersioningMixin, get_db, table_name, transaction

from .models import Author, Book, Colour, Customer, Document, Employee, Model, Person, Sample


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Campaign", "campaigns"),
        ("SignupSession", "signup_sessions"),
        ("AISettings", "ai_settings"),
        ("VoiceSettings", "voice_settings"),
        ("HTTPRequest", "http_requests"),
        ("OAuth2Token", "o_auth2_tokens"),
        ("Category", "categories"),
        ("Day", "days"),
        ("Address", "addresses"),
        ("Box", "boxes"),
    ],
)
def test_a_class_is_called_in_plural(name: str, expected: str) -> None:
    assert collection_name(type(name, (), {})) == expected


def test_a_name_of_ones_own_counts() -> None:
    class Named(UUIDMixin, Model):
        __tablename__ = "something_else"

    class Prefixed:
        __tablename__ = "prefixed"

    class Mixed(Prefixed, UUIDMixin, Model):
        pass

    assert (table_name(Named), table_name(Mixed)) == ("something_else", "prefixed")


def test_single_table_inheritance_shares_the_table_and_a_key_of_ones_own_makes_another() -> None:
    assert table_name(Person) == table_name(Customer) == "persons"
    assert table_name(Employee) == "employees"
    assert "discount" in Person.__table__.c


def test_a_child_of_a_named_table_shares_it() -> None:
    class Animal(UUIDMixin, Model):
        __tablename__ = "zoo"
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Lion(Animal):
        __mapper_args__ = {"polymorphic_identity": "lion"}  # noqa: RUF012

    assert table_name(Lion) == table_name(Animal) == "zoo"


def test_an_abstract_class_has_no_table() -> None:
    assert not hasattr(TimestampedModel, "__table__")
    assert "timestamped_models" not in Base.metadata.tables


def test_constraints_have_names() -> None:
    class Constrained(UUIDMixin, Model):
        __tablename__ = "with_constraints"
        low: Mapped[int] = mapped_column(unique=True, index=True)
        high: Mapped[int] = mapped_column(unique=True)
        author_id: Mapped[UUID] = mapped_column(sa.ForeignKey("authors.id"))
        __table_args__ = (sa.CheckConstraint("low < high"), sa.CheckConstraint("low > 0"))

    table: Any = Constrained.__table__
    names = {str(each.name) for each in [*table.constraints, *table.indexes]}
    checks = {each for each in names if each.startswith("ck_with_constraints_")}
    assert len(checks) == 2
    assert names - checks == {
        "with_constraints_pkey",
        "uq_with_constraints_high",
        "ix_with_constraints_low",
        "fk_with_constraints_author_id_authors",
    }


def test_keys_come_first_and_what_the_library_sets_last() -> None:
    assert [each.name for each in Document.__table__.c] == [
        *("id", "title", "created_at", "updated_at", "deleted_at", "version")
    ]


def test_unique_means_unique_among_live_rows() -> None:
    table: Any = Author.__table__
    assert not [each for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
    [index] = table.indexes
    assert (index.name, index.unique) == ("uq_authors_email", True)
    for dialect in ("sqlite", "postgresql"):
        assert str(index.dialect_options[dialect]["where"]) == "authors.deleted_at IS NULL"
    # A copy of the table, as migrations make them, has no constraint again.
    assert "UNIQUE" not in str(CreateTable(table.to_metadata(sa.MetaData())))


def test_a_child_has_the_version_of_its_base() -> None:
    class Vehicle(VersioningMixin, Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy's

    class Car(Vehicle):
        id: Mapped[int] = mapped_column(sa.ForeignKey("vehicles.id"), primary_key=True)

    assert Car.__mapper__.version_id_col is Vehicle.__table__.c.version
    assert "cars_history" not in Model.metadata.tables


def test_a_history_needs_a_key_of_one_column() -> None:
    with pytest.raises(ConfigurationError, match="__keeps_history__ = False"):

        class Pair(VersioningMixin, Model):
            left: Mapped[int] = mapped_column(primary_key=True)
            right: Mapped[int] = mapped_column(primary_key=True)


def test_an_id_is_there_before_the_flush() -> None:
    author = Author(email="a@x.io")
    assert isinstance(author.id, UUID)
    given = uuid4()
    assert Author(id=given).id == given


def test_a_default_of_ones_own_makes_the_id() -> None:
    class Own(UUIDMixin, Model):
        id: Mapped[str] = mapped_column(  # type: ignore[assignment]  # another type than the mixin's, on purpose
            primary_key=True, default=lambda: "mine"
        )

    class Numbered(UUIDMixin, Model):
        id: Mapped[int] = mapped_column(primary_key=True)  # type: ignore[assignment]

    own, numbered = Own().to_dict(), Numbered().to_dict()
    assert (own["id"], numbered["id"]) == ("mine", None)


def test_repr_shows_the_key_alone() -> None:
    author = Author(email="a@x.io", password_hash="$2b$secret")
    assert repr(author) == f"Author(id={author.id!r})"


FULL: dict[str, Any] = {
    "moment": datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone(timedelta(hours=2))),
    "day": date(2026, 1, 2),
    "amount": Decimal("12345678901234567890.123456789"),
    "owner": UUID(int=7),
    "flag": True,
    "large": 2**62,
    "ratio": 0.1,
    "raw": b"\x00\xff",
    "colour": Colour.BLUE,
    "nested": {"$odd": [1, 2.5, None], "when": datetime(2026, 1, 2, tzinfo=UTC), "sum": Decimal("1.10")},
    "items": [1, "two", {"three": UUID(int=3)}],
}
READ = {**FULL, "moment": datetime(2026, 1, 2, 1, 4, 5, 678000, tzinfo=UTC)}


@pytest.mark.usefixtures("data")
async def test_every_type_comes_back() -> None:
    async with transaction() as db:
        db.add_all([sample := Sample(**FULL), empty := Sample()])
    async with get_db() as db:
        found = await db.get_one(Sample, sample.id)
        assert {name: getattr(found, name) for name in READ} == READ
        assert found.moment is not None
        assert found.moment.tzinfo is UTC
        nothing = (await db.get_one(Sample, empty.id)).to_dict(exclude=["id"])
        assert set(nothing.values()) == {None}


async def test_nested_values_are_json_in_the_database(data: DataLayer) -> None:
    async with transaction() as db:
        db.add(Sample(nested={"a": {"b": "x"}, "n": 1}, items=[1, "two"]))
    async with get_db() as db:
        kind = "json_type" if "sqlite" in str(data.relational.engine.url) else "json_typeof"
        found = (await db.execute(sa.text(f"SELECT {kind}(nested), {kind}(items) FROM samples"))).one()
        assert tuple(found) == ("object", "array")
        nested: Any = Sample.nested
        assert await db.scalar(sa.select(nested["a"]["b"].as_string())) == "x"
        assert await db.scalar(sa.select(sa.func.count()).where(nested["n"].as_integer() == 1)) == 1


@pytest.mark.usefixtures("data")
async def test_decimals_and_moments_sort_as_values() -> None:
    amounts = [Decimal(each) for each in ("-10", "-9.5", "0", "9", "10", "100.25")]
    moments = [datetime(year, 1, 1, tzinfo=UTC) for year in (1, 1999, 2026, 9999)]
    async with transaction() as db:
        db.add_all([*(Sample(amount=each) for each in amounts), *(Sample(moment=each) for each in moments)])
    async with get_db() as db:
        query = sa.select(Sample.amount).where(Sample.amount.is_not(None)).order_by(Sample.amount)
        assert list(await db.scalars(query)) == amounts
        assert list(await db.scalars(query.where(Sample.amount > Decimal(9)))) == amounts[-2:]
        later = sa.select(Sample.moment).where(Sample.moment > moments[0]).order_by(Sample.moment.desc())
        assert list(await db.scalars(later)) == moments[:0:-1]


@pytest.mark.usefixtures("data")
async def test_a_change_inside_a_nested_value_is_noticed() -> None:
    async with transaction() as db:
        db.add(sample := Sample(nested={"a": 1}, items=[1]))
        await db.flush()
        assert sample.nested is not None
        assert sample.items is not None
        sample.nested["b"] = 2
        sample.items.append(2)
    async with get_db() as db:
        found = await db.get_one(Sample, sample.id)
        assert (found.nested, found.items) == ({"a": 1, "b": 2}, [1, 2])


@pytest.mark.usefixtures("data")
async def test_a_naive_moment_is_refused() -> None:
    async with get_db() as db:
        db.add(Sample(moment=datetime(2026, 1, 1)))  # noqa: DTZ001 - the point
        with pytest.raises(StatementError, match="needs a time zone"):
            await db.flush()


def test_to_dict_has_the_columns() -> None:
    sample = Sample(**FULL)
    found = sample.to_dict(exclude=["id"])
    assert found == FULL
    assert type(found["nested"]) is dict
    assert Author(email="a").to_dict().keys() == {
        *("id", "email", "password_hash", "created_at", "updated_at", "deleted_at", "created_by", "updated_by")
    }
    with pytest.raises(InvalidChangeError, match="did you mean 'raw'"):
        sample.to_dict(exclude=["row"])


@pytest.mark.usefixtures("data")
async def test_json_and_back() -> None:
    async with transaction() as db:
        db.add(sample := Sample(**{**FULL, "nested": {"a": [1]}, "items": [1]}))
    text = json.dumps(sample.to_dict(mode="json"))
    again = Sample.from_dict(json.loads(text), managed=True)
    assert again.to_dict(exclude=["moment"]) == sample.to_dict(exclude=["moment"])
    assert again.moment == READ["moment"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"titel": "x"}, "did you mean 'title'"),
        ({"id": str(uuid4())}, "id: set by the library"),
        ({"deleted_at": None}, "deleted_at: set by the library"),
        ({"version": 7, "created_at": None}, "version, created_at: set by the library"),
    ],
)
def test_data_from_outside_chooses_no_managed_value(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidChangeError, match=says):
        Document.from_dict({"title": "a", **values})


@pytest.mark.parametrize("values", [{"amount": "secret"}, {"owner": "secret"}, {"raw": "secret!"}, {"flag": "secret"}])
def test_a_value_of_another_type_is_refused_and_not_shown(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidChangeError) as caught:
        Sample.from_dict(values)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_relationships_are_no_columns() -> None:
    with pytest.raises(InvalidChangeError, match="no column 'author'"):
        Book.from_dict({"title": "x", "author": None})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"moment": "2026-01-01T00:00:00"}, "timezone"),
        ({"moment": datetime(2026, 1, 1)}, "timezone"),  # noqa: DTZ001 - what is refused
        ({"ratio": "inf"}, "infinite"),
        ({"large": 2**63}, "64 bits"),
    ],
)
def test_what_no_column_keeps_is_refused_at_once(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidChangeError, match=says):
        Sample.from_dict(values)


def test_a_flag_is_no_number_and_none_is_no_title() -> None:
    assert repr(Sample.from_dict({"large": True}).large) == "1"
    with pytest.raises(InvalidChangeError, match=r"Document\.title: may not be None"):
        Document.from_dict({"title": None})
    with pytest.raises(InvalidChangeError, match=r"U\+0000"):
        Document.from_dict({"title": "a\0"})
