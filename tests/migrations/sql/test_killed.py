"""kill -9 after every single statement, then repair and up: the end is that of a run that nobody killed."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.core.errors import MigrationError

from .conftest import Database

# It has imported everything when it forks, so that each of many deaths is a matter of milliseconds.
PROGRAM = """
import asyncio, gc, json, os, signal, sys
import sqlalchemy as sa
from app.db import DataLayer
from app.db.migrations.sql import migrator

gc.freeze()  # so that no child copies all of it
count = done = 0

@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def executed(connection, cursor, statement, *_):
    if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):  # what only reads leaves nothing to find
        seen()

@sa.event.listens_for(sa.Engine, "commit")
def seen(*_):
    global done
    done += 1
    if done == count:
        os.kill(os.getpid(), signal.SIGKILL)

async def main(config, command):
    async with DataLayer.from_config(config) as data:
        [name] = config["connections"]
        await getattr(data.migrations.of(name), command)()

for line in sys.stdin:
    config, count, command = json.loads(line)
    child = os.fork()
    if child == 0:
        asyncio.run(main(config, command))
        print(f"done {done}", flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Mortal:
    """Runs a command in a process of its own that dies after the given number of statements."""

    def __init__(self, database: Database) -> None:
        self._config = database.config
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, command: str, count: int) -> None:
        assert self._ask(command, count) == str(-signal.SIGKILL)

    def count(self, command: str) -> int:
        found = self._ask(command, 0)
        assert found.startswith("done "), found
        assert self._read() == "0"
        return int(found.removeprefix("done "))

    def end(self) -> None:
        self._process.communicate()

    def _ask(self, command: str, count: int) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([self._config, count, command]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


STEPS = [
    (
        "001_make",
        (
            'op.create_table("a", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))\n'
            "    op.bulk_insert(sa.table('a', sa.column('id'), sa.column('name')),"
            " [{'id': i, 'name': f'n{i}'} for i in range(5)])"
        ),
        'op.drop_table("a")',
    ),
    (
        "002_index",
        (
            "op.execute(\"UPDATE a SET name = name || '!'\")\n"
            "    with op.get_context().autocommit_block():\n"
            '        op.create_index("a_name", "a", ["name"], unique=True, postgresql_concurrently=True)\n'
            '        op.create_index("a_two", "a", ["name", "id"], postgresql_concurrently=True)\n'
            "    op.execute(\"UPDATE a SET name = name || '?'\")"
        ),
        (
            "with op.get_context().autocommit_block():\n"
            '        op.drop_index("a_two", "a", postgresql_concurrently=True)\n'
            '        op.drop_index("a_name", "a", postgresql_concurrently=True)\n'
            "    op.execute(\"UPDATE a SET name = 'n' || id\")"
        ),
    ),
    (
        "003_column",
        (
            'with op.batch_alter_table("a") as batch:\n        batch.add_column(sa.Column("size", sa.Integer))\n'
            '        batch.alter_column("name", nullable=False)\n    op.execute("UPDATE a SET size = id")'
        ),
        (
            'with op.batch_alter_table("a") as batch:\n        batch.drop_column("size")\n'
            '        batch.alter_column("name", nullable=True)'
        ),
    ),
]


def content(database: Database) -> Any:
    ledger = "SELECT revision, name, checksum, state, direction, error FROM manystore_migrations ORDER BY revision"
    return database.shape(), database.execute("SELECT * FROM a ORDER BY id"), database.execute(ledger)


def begin(database: Database) -> None:
    """Back to nothing, but for the tables of ledger and versions."""
    for statement in ("DROP TABLE a", "DELETE FROM alembic_version", "DELETE FROM manystore_migrations"):
        database.execute(statement)


@pytest.fixture
def steps(database: Database) -> Database:
    database.models, database.repositories = (), {}
    for name, upgrade, downgrade in STEPS:
        database.write(name, upgrade, downgrade)
    return database


@pytest.fixture
def mortal(steps: Database) -> Iterator[Mortal]:
    made = Mortal(steps)
    yield made
    made.end()


@pytest.mark.parametrize("revert", [False, True], ids=["finish", "revert"])
async def test_killed_after_every_statement(steps: Database, mortal: Mortal, revert: bool) -> None:
    mortal.count("up")
    clean = content(steps)
    interrupted = 0
    begin(steps)
    total = mortal.count("up")
    assert total > 15
    # Reverting is looked at every third place: the places are the same ones.
    for place in range(1, total + 1, 3 if revert else 1):
        begin(steps)
        mortal.run("up", place)
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
            assert [each.state for each in await migrator.status()] == ["applied"] * 3
        assert content(steps) == clean, place
    assert interrupted >= (1 if revert else 4)


async def test_killed_on_the_way_down(steps: Database, mortal: Mortal) -> None:
    async with steps.opened() as (_, migrator):
        await migrator.up("002")
    before = content(steps)
    total = mortal.count("down")
    clean = content(steps)
    for place in range(1, total + 1, 2):
        async with steps.opened() as (_, migrator):
            await migrator.up("002")
        assert content(steps) == before
        mortal.run("down", place)
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
        with pytest.raises(MigrationError, match=r"op\.get_bind"):
            await migrator.repair()
