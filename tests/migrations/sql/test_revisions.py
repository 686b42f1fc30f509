"""Revisions one after the other: what is refused, what is shown, and what the ledger says."""

import asyncio
from functools import partial
from typing import Any

import pytest

from app.core.errors import ConfigurationError, DeadlineExceededError, MigrationError
from app.db.migrations import Events
from app.db.migrations.sql.migrator import SQLMigrator

from .conftest import Database

MAKE = 'op.create_table("{0}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))'
DROP = 'op.drop_table("{0}")'


def three(database: Database) -> None:
    for number, name in enumerate(("a", "b", "c"), 1):
        database.write(f"00{number}_make_{name}", MAKE.format(name), DROP.format(name))


async def states(migrator: SQLMigrator) -> list[str]:
    return [each.state for each in await migrator.status()]


async def test_up_and_down_by_steps_and_names(database: Database) -> None:
    three(database)
    async with database.opened() as (_, migrator):
        assert await states(migrator) == ["pending"] * 3
        report = await migrator.up("002")
        assert report.applied == ("001_make_a", "002_make_b")
        assert await states(migrator) == ["applied", "applied", "pending"]
        assert (await migrator.up()).applied == ("003_make_c",)
        assert (await migrator.up()).applied == ()
        assert (await migrator.down()).reverted == ("003_make_c",)
        assert (await migrator.up()).applied == ("003_make_c",)
        assert (await migrator.down("001_make_a")).reverted == ("003_make_c", "002_make_b")
        assert (await migrator.down("base")).reverted == ("001_make_a",)
        assert (await migrator.down()).reverted == ()
        with pytest.raises(MigrationError, match="no migrations begin with '9'; there is: 001_make_a, 002"):
            await migrator.up("9")
        with pytest.raises(MigrationError, match="3 migrations begin with '00'"):
            await migrator.down("00")
        with pytest.raises(ConfigurationError, match="leave one of them out"):
            await migrator.down("base", steps=1)


async def test_what_is_at_work_shows_as_running(database: Database) -> None:
    go = database.directory / "go"
    wait = f"import os, time\n    for _ in range(1000): os.path.exists({str(go)!r}) or time.sleep(0.01)"
    three(database)
    database.write("004_wait", wait, wait)
    begun = asyncio.Event()
    events = Events(started=lambda name: begun.set() if name == "004_wait" else None)
    async with database.opened() as (_, migrator), database.opened() as (_, onlooker):
        running = asyncio.create_task(migrator.up(events=events))
        await begun.wait()
        assert await states(onlooker) == ["applied"] * 3 + ["running"]
        assert await onlooker.check() == []
        go.touch()
        await running
        assert await states(onlooker) == ["applied"] * 4
        go.unlink()
        begun.clear()
        running = asyncio.create_task(migrator.down(steps=2, events=events))
        await begun.wait()
        assert await states(onlooker) == ["applied"] * 3 + ["running"]
        go.touch()
        await running
        assert await states(onlooker) == ["applied"] * 2 + ["pending"] * 2


async def test_what_is_not_committed_was_not_heard_of(database: Database) -> None:
    if database.store != "postgres":
        pytest.skip("SQLite's constraints that wait for the end are none that a revision keeps")
    three(database)
    unique = "sa.Column('id', sa.Integer), sa.UniqueConstraint('id', deferrable=True, initially='DEFERRED')"
    twice = "op.execute('INSERT INTO twice VALUES (1), (1)')"
    database.write("004_twice", f"op.create_table('twice', {unique})\n    {twice}")
    heard: list[str] = []
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="twice"):
            await migrator.up(events=Events(finished=lambda name, _: heard.append(name)))
    assert heard == ["001_make_a", "002_make_b", "003_make_c"]


async def test_the_ledger_says_when_and_how_long(database: Database) -> None:
    three(database)
    heard: list[Any] = []
    events = Events(started=heard.append, finished=lambda name, seconds: heard.append((name, seconds >= 0)))
    async with database.opened() as (_, migrator):
        await migrator.up("001", events=events)
        [first, second, _] = await migrator.status()
        assert (first.state, second.state) == ("applied", "pending")
        assert first.applied_at is not None
        assert first.duration is not None
    assert heard == ["001_make_a", ("001_make_a", True)]
    [row] = database.execute("SELECT revision, name, state, direction, error FROM manystore_migrations")
    assert tuple(row) == ("001", "001_make_a", "applied", "up", None)


async def test_an_edited_one_is_refused_until_it_is_accepted(database: Database) -> None:
    three(database)
    async with database.opened() as (_, migrator):
        await migrator.up("002")
        path = database.revisions / "001_make_a.py"
        text = path.read_text()
        path.write_text(text.replace("\n", "\r\n"))
        assert await states(migrator) == ["applied", "applied", "pending"]
        path.write_text(text + "# edited\n")
        for call in (migrator.up(), migrator.down(), migrator.up(dry_run=True), migrator.new("more")):
            with pytest.raises(MigrationError, match="001_make_a was edited after it was applied"):
                await call
        assert await states(migrator) == ["edited", "applied", "pending"]
        assert await migrator.check() == [
            f"{database.store}: 001_make_a is edited",
            f"{database.store}: 003_make_c is pending",
        ]
        await migrator.repair(accept_edits=True)
        assert (await migrator.up()).applied == ("003_make_c",)


async def test_a_file_that_is_gone_is_named(database: Database) -> None:
    three(database)
    async with database.opened() as (_, migrator):
        await migrator.up()
        path = database.revisions / "003_make_c.py"
        text = path.read_text()
        path.unlink()
        for call in (migrator.up("002"), migrator.down()):
            with pytest.raises(MigrationError, match="the file of 003_make_c is gone"):
                await call
        assert await states(migrator) == ["applied", "applied", "missing"]
        path.write_text(text)
        assert (await migrator.down()).reverted == ("003_make_c",)


async def test_a_failing_revision_leaves_nothing(database: Database) -> None:
    three(database)
    database.write("004_fail", f"{MAKE.format('d')}\n    op.execute(\"INSERT INTO nowhere VALUES ('secret')\")")
    database.write("005_break", f'{MAKE.format("e")}\n    raise ValueError("secret")')
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match=r"004_fail, line 12: .*nowhere") as caught:
            await migrator.up()
        assert "secret" not in str(caught.value)
        assert await states(migrator) == ["applied"] * 3 + ["pending"] * 2
        (database.revisions / "004_fail.py").write_text(
            (database.revisions / "004_fail.py")
            .read_text()
            .replace("INSERT INTO nowhere VALUES ('secret')", "SELECT 1")
        )
        with pytest.raises(
            MigrationError, match=r"005_break, line 12: the code of the migration failed \(ValueError"
        ) as caught:
            await migrator.up()
        assert "secret" not in str(caught.value)
        assert await states(migrator) == ["applied"] * 4 + ["pending"]
    assert "e" not in {row[1] for row in database.shape()}


async def test_values_of_records_are_in_no_error(database: Database) -> None:
    database.write("001_make", MAKE.format("a"), DROP.format("a"))
    fill = "op.bulk_insert(sa.table('a', sa.column('name')), [{'name': 'planted'}, {'name': 'planted'}])"
    database.write("002_fill", fill)
    database.write("003_index", 'op.create_index("a_name", "a", ["name"], unique=True)')
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="003_index") as caught:
            await migrator.up()
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted" not in str(error)
        error = error.__cause__


async def test_two_files_that_are_one_revision(database: Database) -> None:
    three(database)
    database.write("003_another", MAKE.format("d"), after="'002'")
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="003"):
            await migrator.up()
        assert database.shape() == []


async def test_a_file_that_cannot_be_imported(database: Database) -> None:
    three(database)
    (database.revisions / "004_broken.py").write_text("import nowhere_to_be_found")
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="cannot be imported: ModuleNotFoundError"):
            await migrator.up()
        (database.revisions / "004_broken.py").write_text("{}['key']")
        with pytest.raises(MigrationError, match="cannot be imported: KeyError"):
            await migrator.up()


async def test_a_dry_run_shows_the_statements_and_writes_nothing(database: Database) -> None:
    three(database)
    database.write("004_index", 'op.create_index("a_name", "a", ["name"])', 'op.drop_index("a_name", "a")')
    rename = 'batch.alter_column("name", new_column_name="title")'
    database.write("005_rename", f'with op.batch_alter_table("a") as batch:\n        {rename}')
    async with database.opened() as (_, migrator):
        await migrator.up("001")
        before = database.shape(), database.execute("SELECT * FROM manystore_migrations")
        report = await migrator.up(dry_run=True)
        assert [name for name, _ in report.plan] == ["002_make_b", "003_make_c", "004_index", "005_rename"]
        statements = dict(report.plan)
        assert "CREATE TABLE b" in statements["002_make_b"][0]
        assert statements["004_index"] == ("CREATE INDEX a_name ON a (name)",)
        assert any("title" in each for each in statements["005_rename"])
        report = await migrator.down(dry_run=True)
        assert report.plan == (("001_make_a", ("DROP TABLE a",)),)
        assert (database.shape(), database.execute("SELECT * FROM manystore_migrations")) == before


async def test_what_alembic_alone_has_applied_is_entered(database: Database) -> None:
    three(database)
    async with database.opened() as (_, migrator):
        await migrator.up("002")
    database.execute("DROP TABLE manystore_migrations")
    async with database.opened() as (_, migrator):
        assert await states(migrator) == ["applied", "applied", "pending"]
        assert (await migrator.up()).applied == ("003_make_c",)
    rows = database.execute("SELECT name, state FROM manystore_migrations ORDER BY name")
    assert [tuple(row) for row in rows] == [(f"00{i}_make_{n}", "applied") for i, n in enumerate("abc", 1)]


async def test_waiting_has_an_end_and_can_be_cancelled(database: Database) -> None:
    three(database)
    database.write("004_sleep", "import time; time.sleep(1.5)")
    async with database.opened() as (_, first), database.opened() as (_, second):
        second._wait = 0.3
        running = asyncio.create_task(first.up())
        await asyncio.sleep(0.7)
        waiting = asyncio.create_task(second.up())
        with pytest.raises(DeadlineExceededError, match=r"migrations\.wait"):
            await waiting
        await running
        assert await states(second) == ["applied"] * 4


async def test_a_cancelled_statement_is_undone(database: Database) -> None:
    three(database)
    endless = {
        "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "postgres": "SELECT pg_sleep(60)",
    }
    database.write("004_long", f'{MAKE.format("d")}\n    op.execute("{endless[database.store]}")')
    async with database.opened() as (_, migrator):
        running = asyncio.create_task(migrator.up())
        while await states(migrator) != ["applied"] * 3 + ["running"]:  # noqa: ASYNC110 - the database tells
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 10)
        assert await states(migrator) == ["applied"] * 3 + ["pending"]
    assert "d" not in {row[1] for row in database.shape()}


async def test_without_files_nothing_is_made(database: Database) -> None:
    async with database.opened() as (data, migrator):
        assert await migrator.up() == await migrator.up()
        assert await migrator.status() == []
        assert data.migrations.connections() == []
        assert await data.migrations.up() == []
        assert database.shape() == []
        await data.repository("user").count()  # so its table is made on first use, as ever


async def test_a_database_in_memory_is_refused() -> None:
    from app.db import DataLayer  # noqa: PLC0415

    async with DataLayer.from_config({"connections": {"sqlite": {"path": ":memory:"}}}) as data:
        with pytest.raises(MigrationError, match="in memory"):
            await data.migrations.of("sqlite").up()


async def test_a_message_without_words_is_refused(database: Database) -> None:
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="in a few words"):
            await migrator.new(" - ")
        assert (await migrator.new("Add  the 'thing'!", autogenerate=False)).name == "001_add_the_thing.py"
        assert (await migrator.new("next", autogenerate=False)).name == "002_next.py"


async def test_what_has_no_order_is_refused_by_name(database: Database) -> None:
    three(database)
    path = database.write("004_other", MAKE.format("d"), after="'002'")
    async with database.opened() as (_, migrator):
        for refused in (migrator.up, partial(migrator.up, dry_run=True), partial(migrator.new, "more")):
            with pytest.raises(MigrationError, match="which of 003_make_c and 004_other comes first"):
                await refused()
        assert await states(migrator) == ["pending"] * 4
        path.unlink()
        await migrator.up()
        [second] = database.revisions.glob("002_*")
        second.rename(database.directory / second.name)
        for gone in (migrator.status, migrator.up):
            with pytest.raises(MigrationError, match=r"003_make_c\.py: it follows the revision '002', and no file is"):
                await gone()


async def test_references_that_sqlite_cannot_check_stand_in_nobodys_way(database: Database) -> None:
    if database.store != "sqlite":
        pytest.skip("PostgreSQL makes no such reference")
    database.execute("CREATE TABLE parent (name TEXT)")
    database.execute("CREATE TABLE child (name TEXT REFERENCES parent (name))")
    database.execute("INSERT INTO child VALUES ('a')")
    three(database)
    async with database.opened() as (_, migrator):
        assert len((await migrator.up()).applied) == 3
