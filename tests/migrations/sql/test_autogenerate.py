"""Revisions from models: what they make is what first use makes, and Alembic and we find no difference then."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from app.core.errors import ConfigurationError, MigrationError
from app.db import Entity, Index, Repository
from app.db.query import compare

from . import shop_models
from .conftest import Database


def repository(model: type[Entity], *indexes: Index, **options: Any) -> type[Repository[Any]]:
    return type("Things", (Repository,), {"model": model, "COLLECTION_NAME": "things", "indexes": indexes, **options})


class First(Entity):
    name: str


async def first_use(data: Any) -> None:
    """Of everything that the models say, in another order than they say it."""
    for each in (shop_models.Plain, shop_models.Articles, "signup_session", "user", shop_models.Notes):
        backend = data.repository(each).backend
        for one in (backend, *backend.companions.values()):
            await one.prepare()


async def test_a_revision_makes_what_first_use_makes(database: Database) -> None:
    async with database.opened() as (data, migrator):
        path = await migrator.new("Create tables")
        assert path == database.revisions / "001_create_tables.py"
        report = await migrator.up()
        assert report.applied == ("001_create_tables",)
        assert await migrator.check() == []
        await first_use(data)
    by_revision = database.shape()
    async with database.opened() as (_, migrator):
        await migrator.down("base")
        assert database.shape() == []
        await migrator.up()
    assert database.shape() == by_revision
    async with database.opened() as (_, migrator):
        await migrator.down("base")
    database.execute("DROP TABLE manystore_migrations")
    database.execute("DROP TABLE alembic_version")
    async with database.opened() as (data, _):
        # Notes comes first here as there: of two tables with an index of one name, the first has the name.
        await data.repository("user").backend.prepare()
        for each in (shop_models.Articles, shop_models.Notes, shop_models.Plain, "user", "signup_session"):
            backend = data.repository(each).backend
            for one in (backend, *backend.companions.values()):
                await one.prepare()
    assert database.shape() == by_revision


async def test_what_first_use_made_is_taken_as_it_is(database: Database) -> None:
    async with database.opened() as (data, _):
        await first_use(data)
        await data.repository("user").create_user("a@x.io", "anna", "Jo", "Do", "hash")
    before = database.shape()
    async with database.opened() as (data, migrator):
        await migrator.new("begin")
        await migrator.up()
        assert await migrator.check() == []
        assert await data.repository("user").count() == 1
    assert database.shape() == before


async def test_whoever_only_looks_writes_nothing(database: Database) -> None:
    tables = "SELECT name FROM sqlite_master" if database.store == "sqlite" else "SELECT oid FROM pg_class"
    before = database.execute(f"{tables} ORDER BY 1")
    async with database.opened() as (_, migrator):
        assert await migrator.status() == []
        assert await migrator.check() != []
        await migrator.new("begin")
        assert [each.state for each in await migrator.status()] == ["pending"]
        assert await migrator.check() != []
        await migrator.up(dry_run=True)
    assert database.execute(f"{tables} ORDER BY 1") == before


async def test_nothing_differs_and_nothing_is_written(database: Database) -> None:
    async with database.opened() as (_, migrator):
        await migrator.new("create")
        await migrator.up()
        path = await migrator.new("nothing")
        assert path.name == "002_nothing.py"
        body = path.read_text().partition("def upgrade() -> None:")[2]
        assert body.count("pass") == 2
        assert "op." not in body


@pytest.mark.parametrize(
    ("change", "indexes", "said"),
    [
        ({"added": (str, "it's: 100% \\")}, (), "things.added is missing"),
        ({"added": (str | None, None)}, (), "things.added is missing"),
        ({"added": (int, 7)}, (), "things.added is missing"),
        ({"added": (Decimal, Decimal("1.50"))}, (Index("added", unique=False),), "things.added is missing"),
        ({"name": (str | None, None)}, (), "things.name is another"),
        ({"name": (bytes, ...)}, (), "things.name is another"),
        ({}, (Index("name", unique=True, name="by_name"),), "by_name"),
        ({}, (Index("name", name="by_name", where=compare("name", ">", "b")),), "by_name"),
        ({}, (), "by_name"),
    ],
    ids=["text", "none", "integer", "decimal", "nullable", "bytes", "unique", "where", "dropped"],
)
async def test_a_difference_is_found_written_and_taken_back(
    database: Database, change: dict[str, Any], indexes: tuple[Index, ...], said: str
) -> None:
    database.models = ()
    database.repositories = {}
    index = Index("name", name="by_name", where=compare("name", ">", "a"))
    async with database.opened() as (data, migrator):
        things = data.repository(repository(First, index))
        await migrator.new("first")
        await migrator.up()
        if change.get("name", (str,))[0] is not bytes:
            await things.create(First(id="1", name="x"))
    before = database.shape()
    second: Any = create_model("Second", __base__=Entity, **{"name": (str, ...), **change})
    changed = repository(second, *(indexes or (index,) * (said != "by_name")))
    async with database.opened() as (data, migrator):
        things = data.repository(changed)
        [problem] = [each for each in await migrator.check() if said in each][:1]
        assert "manystore migrate new" in problem
        if said != "by_name" or indexes:  # one index more is nobody's fault
            with pytest.raises(MigrationError, match="manystore migrate new"):
                await things.count()
        assert database.shape() == before
        path = await migrator.new("second")
        if "bytes" in str(change.get("name")) and database.store == "postgres":
            path.write_text(
                path.read_text().replace("existing_nullable", "postgresql_using='name::bytea', existing_nullable")
            )
        await migrator.up()
        assert await migrator.check() == []
        for each in await things.all():
            assert each == second(id="1", name="x")
    async with database.opened() as (data, migrator):
        things = data.repository(changed)
        assert await things.count() == int(second.model_fields["name"].annotation is not bytes)
    async with database.opened() as (data, migrator):
        if "bytes" not in str(change.get("name")):
            await migrator.down()
            assert database.shape() == before
            assert (await data.repository(repository(First, index)).get_or_raise("1")).name == "x"


async def test_batch_mode_keeps_rows_indexes_and_references(database: Database) -> None:
    if database.store != "sqlite":
        pytest.skip("other stores change a table in its place")
    async with database.opened() as (data, migrator):
        await migrator.new("create")
        await migrator.up()
        articles = data.repository(shop_models.Articles)
        made = await articles.create_many([shop_models.Article(title=f"{i}", price=Decimal(i)) for i in range(20)])
    database.execute(
        "CREATE TABLE pages (id TEXT PRIMARY KEY, article TEXT REFERENCES articles (id) ON DELETE CASCADE)"
    )
    database.execute(f"INSERT INTO pages VALUES ('p', '{made[0].id}')")
    before = database.shape()
    database.write(
        "002_rebuild",
        'with op.batch_alter_table("articles") as batch:\n        batch.alter_column("share", new_column_name="part")',
        'with op.batch_alter_table("articles") as batch:\n        batch.alter_column("part", new_column_name="share")',
    )
    async with database.opened() as (_, migrator):
        await migrator.up()
        assert database.execute("SELECT count(part) FROM articles") == [(20,)]
        await migrator.down()
    assert database.shape() == before
    assert database.execute("SELECT count(*) FROM pages") == [(1,)]
    database.write("003_break", 'op.execute("DELETE FROM articles")')
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="rows of pages would refer to rows that are not there"):
            await migrator.up()
        assert [each.state for each in await migrator.status()] == ["applied", "applied", "pending"]
    assert database.execute("SELECT count(*) FROM articles") == [(20,)]


async def test_models_that_cannot_be_imported(database: Database) -> None:
    for models, said in (
        (("shop_modles",), "shop_modles cannot be imported"),
        ((f"{shop_models.__name__}:Non",), "no class Non"),
    ):
        database.models = models
        async with database.opened() as (_, migrator):
            with pytest.raises(ConfigurationError, match=said):
                await migrator.new("create")
    assert not database.revisions.exists()


async def test_tables_of_others_are_left_alone(database: Database) -> None:
    database.execute("CREATE TABLE theirs (id integer primary key)")
    async with database.opened() as (_, migrator):
        path = await migrator.new("create")
        assert "theirs" not in path.read_text()
        await migrator.up()
        assert await migrator.check() == []


def test_of_classes_and_repositories_together(database: Database) -> None:
    """In a process of its own, since classes register with the one metadata."""
    program = Path(__file__).with_name("relational_program.py")
    arguments = [sys.executable, "-W", "error", str(program), json.dumps(database.config), database.store]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "campaigns" in {row[1] for row in database.shape()}
