"""Which classes can be entities, and what becomes of what they have beyond plain columns."""

import asyncio
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import new_class
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, reconstructor, relationship

from app.core.errors import (
    ConfigurationError,
    DuplicateRecordError,
    InvalidChangeError,
    MigrationError,
    StaleRecordError,
    UnsupportedOperationError,
)
from app.db import CachePolicy, DataLayer, Index, Repository, RepositoryRegistry

from .worlds import World, section, store, world

__all__ = ["section", "store", "world"]


class Base(DeclarativeBase):
    pass


class Size(Enum):
    SMALL = (1, 2)
    LARGE = (3, 4)


class Guid(sa.types.TypeDecorator[UUID]):
    """A recipe that says nothing of its Python type."""

    impl = sa.CHAR(32)
    cache_ok = True

    def process_bind_param(self, value: UUID | None, dialect: Any) -> str | None:
        del dialect
        return None if value is None else value.hex

    def process_result_value(self, value: str | None, dialect: Any) -> UUID | None:
        del dialect
        return None if value is None else UUID(value)


class Owner(Base):
    __tablename__ = "owners"

    code: Mapped[UUID] = mapped_column(Guid, primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(sa.String(20), unique=True)
    size: Mapped[Size] = mapped_column(sa.Enum(Size), default=Size.SMALL)
    things: Mapped[list["Thing"]] = relationship(back_populates="owner")


class Thing(Base):
    __tablename__ = "things"
    __table_args__ = (sa.UniqueConstraint("Shelf", "order", name="one_on_a_place"),)

    number: Mapped[int] = mapped_column("no", primary_key=True)
    shelf: Mapped[int] = mapped_column("Shelf")
    place: Mapped[int] = mapped_column("order")
    version: Mapped[int] = mapped_column()
    size: Mapped[Size | None] = mapped_column(sa.Enum(Size))
    settings: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(sa.JSON), default=dict)
    seen: Mapped[datetime | None] = mapped_column(sa.DateTime, server_default=sa.func.now())
    owner_code: Mapped[UUID | None] = mapped_column(sa.ForeignKey(Owner.code))
    owner: Mapped[Owner | None] = relationship(back_populates="things")
    name_and_place = sa.orm.column_property(sa.func.coalesce(number, 0))

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's

    made = 0

    @reconstructor
    def remember(self) -> None:
        self.made = 1


class Things(Repository[Thing]):
    pass


@pytest.fixture
def things(world: World) -> Things:
    return world.data.repository(Things)


async def test_names_of_attributes_are_the_fields(world: World, things: Things) -> None:
    assert things.key == "number"
    assert things.collection is Thing.__table__
    first, second = await things.create_many([Thing(shelf=1, place=2), Thing(shelf=1, place=1)])
    assert [each.number for each in await things.find(order_by="place")] == [second.number, first.number]
    assert (await things.update(first.number, {"place": 5})).place == 5  # type: ignore[union-attr]
    with pytest.raises(DuplicateRecordError) as caught:
        await things.create(Thing(shelf=1, place=1))
    assert caught.value.fields == ("shelf", "place")
    stored = await things.upsert(Thing(shelf=1, place=1, size=Size.LARGE), on=("shelf", "place"))
    assert (stored.number, stored.version, stored.size) == (second.number, 2, Size.LARGE)
    with world.session() as session:
        assert session.get_one(Thing, second.number).size is Size.LARGE
    assert [each.number for each in await things.find({"size": "LARGE"})] == [second.number]
    assert isinstance(stored.seen, datetime)


async def test_what_the_orm_does_to_a_row_it_does_to_an_entity(world: World, things: Things) -> None:
    created = await things.create(Thing(shelf=1, place=1, settings={"a": 1}))
    assert created.made == 1
    assert isinstance(created.settings, MutableDict)
    with world.session() as session:
        session.add(created)
        created.settings["b"] = 2
    [stored] = await things.all()
    assert stored.settings == {"a": 1, "b": 2}
    assert [each.number for each in await things.find({"settings.b": 2})] == [stored.number]


async def test_the_version_of_sqlalchemys_own(world: World, things: Things) -> None:
    created = await things.create(Thing(shelf=1, place=1))
    with world.session() as session:
        session.get_one(Thing, created.number).shelf = 2
    with pytest.raises(StaleRecordError):
        await things.save(created)
    current = await things.get_or_raise(created.number)
    assert current.version == 2
    with world.session() as session:
        mine = session.get_one(Thing, created.number)
        await asyncio.sleep(0)
        session.commit()
        _ = mine.version
        await things.save(current)
        mine.shelf = 7
        with pytest.raises(StaleRecordError):
            session.flush()
        session.rollback()


async def test_a_type_that_says_nothing_can_be_equal(world: World) -> None:
    owners = world.data.repository(Owner)
    created = await owners.create(Owner(name="a"))
    assert await owners.get(created.code) is not None
    assert await owners.get("no uuid") is None
    assert await owners.count({"code": {"$in": [created.code, uuid4(), 5]}}) == 1
    assert await owners.count({"code": {"$ne": created.code}}) == 0
    with pytest.raises(UnsupportedOperationError):
        await owners.find({"code": {"$gt": "a"}})
    things = world.data.repository(Thing)
    await things.create(Thing(shelf=1, place=1, owner_code=created.code))
    assert await things.count({"owner_code": created.code}) == 1
    with pytest.raises(InvalidChangeError):
        await things.create(Thing(shelf=1, place=2, owner_code=uuid4()))
    with world.session() as session:
        assert session.get_one(Owner, created.code).things[0].shelf == 1


class KeptThings(Repository[Thing]):
    keeps_history = True
    audited = True


async def test_journals_of_a_key_that_the_store_makes(world: World) -> None:
    things = world.data.repository(KeptThings)
    first, second = await things.create_many([Thing(shelf=1, place=1), Thing(number=50, shelf=1, place=2)])
    await things.update(first.number, {"size": Size.SMALL, "settings": {"a": [1]}})
    await things.upsert(Thing(shelf=1, place=2, size=Size.LARGE), on=("shelf", "place"))
    states = await things.history(first.number)
    assert [(each.version, each.entity.size, each.entity.settings) for each in states] == [
        (1, None, {}),
        (2, Size.SMALL, {"a": [1]}),
    ]
    assert (await things.revert(first.number, 1)).settings == {}
    assert [each.action for each in await things.audit_log(second.number)] == ["UPDATE", "CREATE"]
    assert await things.delete(first.number) is True
    assert await things.history(first.number) == []


class Cached(Repository[Thing]):
    cache = CachePolicy(60)


async def test_a_key_that_the_store_makes_and_a_cache(world: World) -> None:
    things = world.data.repository(Cached)
    assert await things.get(1) is None
    created = await things.create(Thing(shelf=1, place=1, seen=datetime(2026, 1, 1, 0, 0, 0, 123456)))  # noqa: DTZ001
    assert created.number == 1
    for _ in range(2):
        found = await things.get(1)
        assert found is not None
        assert found.seen == created.seen
    assert things.cache_stats.hits == 1


def test_without_await(tmp_path: Path) -> None:
    layer = DataLayer.from_config({"connections": {"sqlite": {"path": str(tmp_path / "a.db")}}})
    with layer.sync() as data:
        things = data.repository(Thing)
        created = things.create(Thing(shelf=1, place=1))
        assert type(created) is Thing
        assert [each.number for each in things.stream()] == [created.number]
        with Session(layer.relational.engine) as session:
            assert session.get_one(Thing, created.number).shelf == 1


async def test_of_two_first_uses_one_makes_the_tables(section: dict[str, Any], store: str) -> None:
    layers = [DataLayer.from_config({"connections": {store: section}}) for _ in range(4)]
    try:
        await asyncio.gather(*(layer.repository(each).count() for layer in layers for each in (Thing, Owner)))
    finally:
        for layer in layers:
            await layer.close()


async def test_a_table_of_another_time_is_not_touched(world: World, things: Things) -> None:
    with world.engine.begin() as connection:
        connection.execute(sa.text('CREATE TABLE things (no INTEGER PRIMARY KEY, "Shelf" INTEGER NOT NULL)'))
    with pytest.raises(MigrationError, match="version"):
        await things.count()
    with world.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE things"))
        Base.metadata.create_all(connection)
        connection.execute(sa.text("ALTER TABLE things ADD COLUMN beyond INTEGER"))
    await things.create(Thing(shelf=1, place=1))
    assert await things.count() == 1


def test_what_cannot_be_an_entity() -> None:
    class Apart(DeclarativeBase):
        pass

    class Animal(Apart):
        __tablename__ = "animals"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    class Pair(Apart):
        __tablename__ = "pairs"
        left: Mapped[int] = mapped_column(primary_key=True)
        right: Mapped[int] = mapped_column(primary_key=True)

    class Elsewhere(Apart):
        __tablename__ = "elsewhere"
        __table_args__ = {"schema": "other"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)

    class Counted(Apart):
        __tablename__ = "counted"
        id: Mapped[int] = mapped_column(primary_key=True)
        revision: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012

    for model, reason in ((Animal, "inheritance"), (Dog, "inheritance"), (Pair, "several"), (Elsewhere, "schema")):
        with pytest.raises(ConfigurationError, match=reason):
            type("Refused", (Repository,), {"model": model})
    with pytest.raises(ConfigurationError, match="version"):
        type("Refused", (Repository,), {"model": Counted})
    for wrong in ({"indexes": (Index("shelf"),)}, {"COLLECTION_NAME": "others"}, {"key": "shelf"}):
        with pytest.raises(ConfigurationError):
            type("Refused", (Repository,), {"model": Thing, **wrong})
    with pytest.raises(ConfigurationError):
        new_class("Refused", (Repository[Base],))


async def test_what_a_table_has_no_place_for(world: World) -> None:
    for wrong in ({"ttl": 5.0}, {"keeps_history": True}):
        refused = type("Refused", (Repository,), {"model": Owner, **wrong})(world.data)
        with pytest.raises(ConfigurationError):
            await refused.count()


async def test_a_registered_name(tmp_path: Path) -> None:
    @RepositoryRegistry.register("owners_of_things")
    class Owners(Repository[Owner]):
        pass

    config = {
        "connections": {
            "mongodb": {"url": "mongodb://127.0.0.1:1"},
            "one": {"type": "sqlite", "path": str(tmp_path / "1.db")},
            "two": {"type": "sqlite", "path": str(tmp_path / "2.db")},
        },
        "relational": {"connection": "two"},
    }
    async with DataLayer.from_config(config) as data:
        assert data.repository("owners_of_things").manager.name == "two"
        assert type(data.repository(Owner)) is Owners
