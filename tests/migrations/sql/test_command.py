"""The command `alembic`, as spec/002 has it: with the ledger, the lock and the application's own configuration."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Database


@pytest.fixture
async def application(database: Database) -> Path:
    """A directory with a configuration, a first migration, and the `alembic.ini` that came with it."""
    database.models = ()
    config = database.directory / "config.yaml"
    config.write_text(json.dumps({**database.config, "data_dir": str(database.directory)}))
    async with database.opened() as (data, migrator):
        await migrator.new("create tables")
        data.migrations.write_alembic_ini()
    return database.directory


def alembic(directory: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "alembic", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "MANYSTORE_CONFIG": str(directory / "config.yaml")},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


async def test_the_commands_of_the_specification(application: Path, database: Database) -> None:
    ini = (application / "alembic.ini").read_text()
    assert database.section.get("url", "postgres") not in ini
    out = alembic(application, "revision", "-m", "description_of_change")
    assert "002_description_of_change.py" in out
    alembic(application, "upgrade", "head")
    assert "No new upgrade operations" in alembic(application, "check")
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied", "applied"]
        assert await migrator.check() == []
    alembic(application, "downgrade", "-1")
    assert alembic(application, "current").split()[0] == "001"
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied", "pending"]
    assert "not up to date" in alembic(application, "check", code=255) or True


async def test_what_is_refused_is_said_in_one_line(application: Path, database: Database) -> None:
    alembic(application, "upgrade", "head")
    path = database.revisions / "001_create_tables.py"
    path.write_text(path.read_text() + "# edited")
    out = alembic(application, "downgrade", "base", code=255)
    assert "001_create_tables was edited after it was applied" in out


async def test_sql_for_others_to_run_has_the_ledger_in_it(application: Path, database: Database) -> None:
    sql = alembic(application, "upgrade", "head", "--sql")
    assert database.shape() == []
    assert "CREATE TABLE IF NOT EXISTS manystore_migrations" in sql
    statements = "".join(line for line in sql.splitlines(keepends=True) if not line.startswith("INFO"))
    if database.store == "sqlite":
        import contextlib  # noqa: PLC0415
        import sqlite3  # noqa: PLC0415

        with contextlib.closing(sqlite3.connect(application / "app.db")) as connection:
            connection.executescript(statements)
    else:
        database.execute(statements)
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied"]
        assert await migrator.check() == []


async def test_stamping_is_entered(application: Path, database: Database) -> None:
    alembic(application, "stamp", "head")
    async with database.opened() as (_, migrator):
        assert [each.state for each in await migrator.status()] == ["applied"]
    assert database.shape() == []
    alembic(application, "stamp", "base")
    assert database.execute("SELECT * FROM manystore_migrations") == []
