"""kill -9 after every single statement, then repair and up: the end is that of a run that nobody killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import MigrationError

from .conftest import Database

RUN = """
import asyncio, json, os, signal, sys
import sqlalchemy as sa
from app.db import DataLayer

config, count, kind = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
done = 0

@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def seen(*_):
    global done
    done += 1
    if done == count:
        os.kill(os.getpid(), signal.SIGKILL)

@sa.event.listens_for(sa.Engine, "commit")
def committing(_):
    seen()

async def main():
    async with DataLayer.from_config(config) as data:
        migrator = data.migrations.of(kind)
        await getattr(migrator, sys.argv[4])()

asyncio.run(main())
print(done)
"""

STEPS = [
    (
        "001_make",
        'op.create_table("a", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))\n'
        "    op.bulk_insert(sa.table('a', sa.column('id'), sa.column('name')),"
        " [{'id': i, 'name': f'n{i}'} for i in range(5)])",
        'op.drop_table("a")',
    ),
    (
        "002_index",
        "op.execute(\"UPDATE a SET name = name || '!'\")\n"
        "    with op.get_context().autocommit_block():\n"
        '        op.create_index("a_name", "a", ["name"], unique=True, postgresql_concurrently=True)\n'
        '        op.create_index("a_two", "a", ["name", "id"], postgresql_concurrently=True)\n'
        "    op.execute(\"UPDATE a SET name = name || '?'\")",
        "with op.get_context().autocommit_block():\n"
        '        op.drop_index("a_two", "a", postgresql_concurrently=True)\n'
        '        op.drop_index("a_name", "a", postgresql_concurrently=True)\n'
        "    op.execute(\"UPDATE a SET name = 'n' || id\")",
    ),
    (
        "003_column",
        'with op.batch_alter_table("a") as batch:\n        batch.add_column(sa.Column("size", sa.Integer))\n'
        '        batch.alter_column("name", nullable=False)\n    op.execute("UPDATE a SET size = id")',
        'with op.batch_alter_table("a") as batch:\n        batch.drop_column("size")\n'
        '        batch.alter_column("name", nullable=True)',
    ),
]


def run(database: Database, count: int, command: str) -> tuple[int, str, str]:
    import json  # noqa: PLC0415

    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(database.config), str(count), database.store, command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    return done.returncode, done.stdout.strip(), done.stderr


def content(database: Database) -> Any:
    ledger = "SELECT revision, name, checksum, state, direction, error FROM manystore_migrations ORDER BY revision"
    return database.shape(), database.execute("SELECT * FROM a ORDER BY id"), database.execute(ledger)


async def begin(database: Database) -> None:
    """Back to nothing, by a run that nobody kills."""
    async with database.opened() as (_, migrator):
        await migrator.repair()
        await migrator.down("base")


@pytest.fixture
def steps(database: Database) -> Database:
    database.models, database.repositories = (), {}
    for name, upgrade, downgrade in STEPS:
        database.write(name, upgrade, downgrade)
    return database


@pytest.mark.timeout(300)
@pytest.mark.parametrize("revert", [False, True], ids=["finish", "revert"])
async def test_killed_after_every_statement(steps: Database, revert: bool) -> None:
    code, count, errors = run(steps, 0, "up")
    assert code == 0, errors
    clean = content(steps)
    interrupted = 0
    total = int(count)
    assert total > 15
    # Reverting is looked at every third place: the places are the same ones.
    for place in range(1, total + 1, 3 if revert else 1):
        await begin(steps)
        code, _, errors = run(steps, place, "up")
        assert code == -signal.SIGKILL, (place, errors)
        async with steps.opened() as (_, migrator):
            states = [each.state for each in await migrator.status()]
            if "interrupted" in states:
                interrupted += 1
                assert states == ["applied", "interrupted", "pending"], place
                with pytest.raises(MigrationError, match="002_index is half done"):
                    await migrator.up()
            report = await migrator.repair(revert=revert)
            if "interrupted" in states:
                assert (report.reverted if revert else report.applied) == ("002_index",), place
            await migrator.up()
            assert await migrator.check() == []
        assert content(steps) == clean, place
    assert interrupted >= (1 if revert else 4)


@pytest.mark.timeout(200)
async def test_killed_on_the_way_down(steps: Database) -> None:
    async with steps.opened() as (_, migrator):
        await migrator.up("002")
    before = content(steps)
    code, count, errors = run(steps, 0, "down")
    assert code == 0, errors
    clean = content(steps)
    for place in range(1, int(count) + 1):
        async with steps.opened() as (_, migrator):
            await migrator.up("002")
        assert content(steps) == before
        assert run(steps, place, "down")[0] == -signal.SIGKILL
        async with steps.opened() as (_, migrator):
            await migrator.repair()
            await migrator.down("001")
        assert content(steps) == clean, place


async def test_a_concurrent_index_that_fails_can_be_corrected(database: Database) -> None:
    database.models, database.repositories = (), {}
    name, upgrade, downgrade = STEPS[0]
    database.write(name, upgrade.replace("f'n{i}'", "'planted'"), downgrade)
    path = database.write("002_index", STEPS[1][1], STEPS[1][2])
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="002_index") as caught:
            await migrator.up()
        assert "planted" not in str(caught.value)
        assert [each.state for each in await migrator.status()] == ["applied", "failed"]
        with pytest.raises(MigrationError, match="repair"):
            await migrator.up()
        with pytest.raises(MigrationError, match="002_index"):
            await migrator.repair()
        path.write_text(path.read_text().replace("unique=True, ", ""))
        assert (await migrator.repair()).applied == ("002_index",)
        assert [each.state for each in await migrator.status()] == ["applied", "applied"]
        assert (await migrator.down()).reverted == ("002_index",)
    assert database.execute("SELECT count(*) FROM a WHERE name LIKE 'n%'") == [(5,)]


async def test_a_failed_one_can_be_taken_back(database: Database) -> None:
    database.models, database.repositories = (), {}
    name, upgrade, downgrade = STEPS[0]
    database.write(name, upgrade.replace("f'n{i}'", "'same'"), downgrade)
    database.write("002_index", STEPS[1][1], STEPS[1][2])
    async with database.opened() as (_, migrator):
        await migrator.up("001")
        before = database.shape()
        with pytest.raises(MigrationError):
            await migrator.up()
        assert (await migrator.repair(revert=True)).reverted == ("002_index",)
        assert [each.state for each in await migrator.status()] == ["applied", "pending"]
    assert database.shape() == before


async def test_what_went_past_the_count_is_left_to_people(database: Database) -> None:
    database.models, database.repositories = (), {}
    database.write(*STEPS[0])
    unseen = 'op.get_bind().execute(sa.text("UPDATE a SET name = name || \'!\'"))\n    op.execute("SELECT 1")\n    '
    block = STEPS[1][1].partition("\n    ")[2].partition("\n    op.execute")[0]
    database.write("002_index", f"{unseen}{block}\n        raise SystemError", "pass")
    async with database.opened() as (_, migrator):
        with pytest.raises(MigrationError, match="SystemError"):
            await migrator.up()
        with pytest.raises(MigrationError, match="op.get_bind"):
            await migrator.repair()
