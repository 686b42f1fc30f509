"""Changes of declarative classes with rows in their tables, on both stores."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.db.migrations.sql import description
from app.db.relational.naming import CONVENTION
from app.db.relational.types import GUID, Document, ExactDecimal, UTCDateTime

from .conftest import Database
from .shop_models import Colour


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says what the declarative classes are, each time it is called."""

    def say(*tables: sa.Table) -> None:
        monkeypatch.setattr(description, "_declared", lambda *_: tables)

    return say


def people(*items: Any) -> sa.Table:
    return sa.Table(
        "people", sa.MetaData(naming_convention=CONVENTION), sa.Column("id", sa.Integer, primary_key=True), *items
    )


async def evolve(database: Database) -> None:
    async with database.opened() as (_, migrator):
        await migrator.new("change")
        await migrator.up()
        assert await migrator.check() == []


async def test_an_index_joins_a_column_that_changes(database: Database, declared: Any) -> None:
    declared(people(sa.Column("name", sa.String(10), nullable=False)))
    await evolve(database)
    database.execute("INSERT INTO people (id, name) VALUES (1, 'Ada')")
    declared(people(sa.Column("name", sa.String(20), nullable=False, index=True)))
    await evolve(database)
    assert database.execute("SELECT name FROM people") == [("Ada",)]
    async with database.opened() as (_, migrator):
        assert (await migrator.down()).reverted == ("002_change",)


async def test_a_new_column_has_its_default_in_the_rows_that_are_there(database: Database, declared: Any) -> None:
    declared(people())
    await evolve(database)
    database.execute("INSERT INTO people (id) VALUES (1)")
    changed = people(
        sa.Column("age", sa.Integer, nullable=False, default=7),
        sa.Column("kind", sa.String(20), nullable=False, default="it's :a 5% \\ {}"),
        sa.Column("active", sa.Boolean, nullable=False, default=True),
        sa.Column("born", UTCDateTime(), nullable=False, default=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        sa.Column("share", ExactDecimal(), nullable=False, default=Decimal("1.50")),
        sa.Column("owner", GUID(), nullable=False, default=UUID(int=1)),
        sa.Column("colour", sa.Enum(Colour, native_enum=False), nullable=False, default=Colour.RED),
        sa.Column("data", Document(), nullable=False, default={"a": [1]}),
    )
    declared(changed)
    await evolve(database)
    async with database.opened() as (data, _):
        with data.relational.engine.begin() as connection:
            connection.execute(changed.insert().values(id=2))
            there, new = connection.execute(sa.select(*list(changed.c)[1:]).order_by(changed.c.id)).all()
    assert there == new


async def test_a_column_ceases_to_be_unique(database: Database, declared: Any) -> None:
    declared(people(sa.Column("name", sa.String(10), unique=True)))
    await evolve(database)
    declared(people(sa.Column("name", sa.String(10))))
    await evolve(database)
    database.execute("INSERT INTO people (id, name) VALUES (1, 'Ada'), (2, 'Ada')")


async def test_a_named_type_comes_and_goes_with_the_column(database: Database, declared: Any) -> None:
    declared(people())
    await evolve(database)
    before = database.shape()
    if database.store == "postgres":
        database.execute("CREATE TYPE colour AS ENUM ('RED', 'GREEN')")  # as by `create_all`
    declared(people(sa.Column("colour", sa.Enum(Colour))))
    await evolve(database)
    after = database.shape()
    database.execute("INSERT INTO people (id, colour) VALUES (1, 'GREEN')")
    async with database.opened() as (_, migrator):
        await migrator.down()
        assert database.shape() == before
        await migrator.up()
    assert database.shape() == after
    declared(people(sa.Column("colour", sa.Enum(Colour)), sa.Column("second", sa.Enum(Colour))))
    await evolve(database)
    async with database.opened() as (_, migrator):
        await migrator.down()
    assert database.shape() == after
