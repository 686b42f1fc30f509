"""An application's own SQL on the shared connection, and one file with two settings."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from app.config.settings import SQLiteSettings
from app.connections.sqlite import SQLiteConnectionManager
from app.core.errors import ConfigurationError, UnsupportedOperationError


def at(path: Path, timeout: float = 5) -> SQLiteConnectionManager:
    return SQLiteConnectionManager(SQLiteSettings(path=path, timeout=timeout))


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "begin",
        " ROLLBACK",
        "-- a\n/* b */ END;",
        "SAVEPOINT a",
        "release job",
        ";COMMIT",
        "\ufeffROLLBACK",
        "PRAGMA query_only = ON",
        "ATTACH ':memory:' AS x",
    ],
)
async def test_a_user_cannot_end_the_transaction_of_others(tmp_path: Path, sql: str) -> None:
    manager = at(tmp_path / "app.db")
    for call in (manager.execute_command, manager.execute_query):
        with pytest.raises(UnsupportedOperationError):
            await call(sql)
    await manager.close()


async def test_a_statement_that_rolls_back_fails_alone(tmp_path: Path) -> None:
    manager = at(tmp_path / "app.db")
    await manager.execute_command("CREATE TABLE t (x INTEGER PRIMARY KEY)")
    await manager.execute_command("INSERT INTO t VALUES (0)")
    insert = "INSERT INTO t VALUES (?)"
    results = await asyncio.gather(
        *(manager.execute_command(insert, (number,)) for number in (1, 2)),
        manager.execute_command("INSERT OR ROLLBACK INTO t VALUES (0)"),
        *(manager.execute_command(insert, (number,)) for number in (3, 4)),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [list, list, sqlite3.IntegrityError, list, list]
    assert await manager.execute_query("SELECT x FROM t ORDER BY x") == [(0,), (1,), (2,), (3,), (4,)]
    await manager.close()


async def test_a_query_writes_nothing(tmp_path: Path) -> None:
    manager = at(tmp_path / "app.db")
    await manager.execute_command("CREATE TABLE t (x)")
    with pytest.raises(UnsupportedOperationError, match="no plain query"):
        await manager.execute_query("INSERT INTO t VALUES (1)")
    assert await manager.execute_query("SELECT count(*) FROM t") == [(0,)]
    await manager.close()


async def test_one_file_with_two_settings_is_refused(tmp_path: Path) -> None:
    first = at(tmp_path / "app.db")
    other = SQLiteConnectionManager(SQLiteSettings(path=tmp_path / "app.db", synchronous="normal"))
    await first.connect()
    with pytest.raises(ConfigurationError, match="other settings"):
        await other.connect()
    await first.close()
    await other.connect()
    await other.close()
