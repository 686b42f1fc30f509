"""The command `alembic`, as spec/002 has it: with the ledger, the lock and the application's own configuration."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Database

# It has imported everything when it forks, so that a command takes no seconds.
PROGRAM = """
import gc, json, os, sys, traceback
import psycopg
from alembic import config
from app.db import DataLayer
from app.db.migrations.sql import environment, migrator

gc.freeze()

for line in sys.stdin:
    directory, arguments = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.chdir(directory)
        os.environ["MANYSTORE_CONFIG"] = os.path.join(directory, "config.yaml")
        code = 0
        try:
            config.main(arguments, prog="alembic")
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)
    os.close(writing)
    with open(reading) as told:
        said = told.read()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said]), flush=True)
"""


@pytest.fixture(scope="module")
def commands() -> Iterator[subprocess.Popen[str]]:
    made = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield made
    made.communicate()


class Application:
    """A directory with a configuration, a first migration, and the `alembic.ini` that came with it."""

    def __init__(self, directory: Path, commands: subprocess.Popen[str]) -> None:
        self.directory = directory
        self._commands = commands

    def alembic(self, *arguments: str, code: int = 0) -> str:
        assert self._commands.stdin is not None
        assert self._commands.stdout is not None
        self._commands.stdin.write(json.dumps([str(self.directory), arguments]) + "\n")
        self._commands.stdin.flush()
        ended, said = json.loads(self._commands.stdout.readline())
        assert ended == code, said
        assert "Traceback" not in said
        return str(said)


@pytest.fixture
async def application(database: Database, commands: subprocess.Popen[str]) -> Application:
    database.models = ()
    config = database.directory / "config.yaml"
    config.write_text(json.dumps({**database.config, "data_dir": str(database.directory)}))
    async with database.opened() as (data, migrator):
        await migrator.new("create tables")
        data.migrations.write_alembic_ini()
    return Application(database.directory, commands)


def test_the_command_itself(application: Application) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "alembic", "upgrade", "head"],
        cwd=application.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "MANYSTORE_CONFIG": str(application.directory / "config.yaml")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No new upgrade operations" in application.alembic("check")


async def test_the_commands_of_the_specification(application: Application, database: Database) -> None:
    ini = (application.directory / "alembic.ini").read_text()
    assert database.section.get("url", "postgres") not in ini
    out = application.alembic("revision", "-m", "description_of_change")
    assert "002_description_of_change.py" in out
    application.alembic("upgrade", "head")
    assert "No new upgrade operations" in application.alembic("check")
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied", "applied"]
        assert await migrator.check() == []
    application.alembic("downgrade", "-1")
    assert application.alembic("current").split()[0] == "001"
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied", "pending"]
    assert "apply what is pending first" in application.alembic("check", code=255)


async def test_what_is_refused_is_said_in_one_line(application: Application, database: Database) -> None:
    application.alembic("upgrade", "head")
    path = database.revisions / "001_create_tables.py"
    path.write_text(path.read_text() + "# edited")
    out = application.alembic("downgrade", "base", code=255)
    assert "001_create_tables was edited after it was applied" in out


async def test_sql_for_others_to_run_has_the_ledger_in_it(application: Application, database: Database) -> None:
    sql = application.alembic("upgrade", "head", "--sql")
    assert database.shape() == []
    assert "CREATE TABLE IF NOT EXISTS manystore_migrations" in sql
    statements = "".join(line for line in sql.splitlines(keepends=True) if not line.startswith("INFO"))
    if database.store == "sqlite":
        import contextlib  # noqa: PLC0415
        import sqlite3  # noqa: PLC0415

        with contextlib.closing(sqlite3.connect(application.directory / "app.db")) as connection:
            connection.executescript(statements)
    else:
        database.execute(statements)
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied"]
        assert await migrator.check() == []


async def test_stamping_is_entered(application: Application, database: Database) -> None:
    application.alembic("stamp", "head")
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied"]
    assert database.shape() == []
    application.alembic("stamp", "base")
    assert database.execute("SELECT * FROM manystore_migrations") == []
