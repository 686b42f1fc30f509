"""A SQLite file is read as it is, and left as it is."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.db import DataLayer
from app.db.statistics import sqlite
from app.db.statistics.base import CollectionStatistics, StoreState, StoreStatistics


def layer(directory: Path, path: str = "app.db", timeout: float = 5) -> DataLayer:
    return DataLayer.from_config(
        {"data_dir": str(directory), "connections": {"sqlite": {"path": path, "timeout": timeout}}}
    )


async def told(directory: Path, path: str = "app.db") -> StoreStatistics:
    async with layer(directory, path) as data:
        return (await data.statistics())["sqlite"]


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for each in statements:
            connection.execute(each)


def files(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir() if not each.name.endswith("-shm")}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file of some pages, with an index, a table that has no rowid, a view and a search table."""
    path = tmp_path / "app.db"
    execute(
        path,
        "PRAGMA journal_mode = WAL",
        'CREATE TABLE "a ""b" (id INTEGER PRIMARY KEY, name TEXT, UNIQUE (name))',
        'CREATE INDEX halves ON "a ""b" (name, id / 2)',
        "CREATE TABLE plain (id TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE VIEW seen AS SELECT * FROM plain",
        "CREATE VIRTUAL TABLE words USING fts5(text)",
        'WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO "a ""b" SELECT i, i FROM n',
        "INSERT INTO plain VALUES ('x'), ('y')",
        "INSERT INTO words VALUES ('some words')",
    )
    return path


def named(store: StoreStatistics, name: str) -> CollectionStatistics:
    assert store.state is StoreState.OK, store.error
    return next(each for each in store.collections if each.name == name)


async def test_tables_rows_indexes_and_pages(database: Path, tmp_path: Path) -> None:
    found = await told(tmp_path)
    table = named(found, 'a "b')
    assert (table.rows, table.exact) == (1000, True)
    indexes = {index.name: index for index in table.indexes}
    assert indexes["halves"].fields == ("name", "<expression>")
    assert {index.unique for index in indexes.values()} == {True, False}
    assert {(index.uses, index.unused) for index in indexes.values()} == {(None, None)}
    assert named(found, "plain").rows == 2
    assert named(found, "words").rows == 1
    assert "seen" not in {each.name for each in found.collections}
    assert found.size_bytes == database.stat().st_size
    sizes = [each.size_bytes for each in found.collections if each.size_bytes]
    assert found.size_bytes * 0.8 < sum(sizes) < found.size_bytes
    assert found.version == sqlite3.sqlite_version


@pytest.mark.usefixtures("database")
async def test_a_file_that_nobody_has_open_is_as_before(tmp_path: Path) -> None:
    before = files(tmp_path)
    assert set(before) == {"app.db"}
    assert named(await told(tmp_path), "plain").rows == 2
    assert files(tmp_path) == before
    assert not (tmp_path / "app.db-shm").exists()


async def test_a_log_that_a_killed_process_left_is_read_and_stays(database: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("INSERT INTO plain VALUES ('z')")
        left = tmp_path / "left"
        left.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{database}{suffix}", left / f"app.db{suffix}")
    before = files(left)
    found = await told(left)
    assert named(found, "plain").rows == 3
    assert found.details["wal_bytes"] == len(before["app.db-wal"]) > 0
    assert files(left) == before


async def test_another_mode_than_ours_is_kept(database: Path, tmp_path: Path) -> None:
    execute(database, "PRAGMA journal_mode = DELETE")
    before = files(tmp_path)
    assert (await told(tmp_path)).details["journal_mode"] == "delete"
    assert files(tmp_path) == before


async def test_it_is_read_while_it_is_written(database: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO plain VALUES ('z')")
        assert named(await told(tmp_path), "plain").rows == 2
        connection.execute("COMMIT")
        assert named(await told(tmp_path), "plain").rows == 3


async def test_of_a_large_file_it_tells_what_analyze_has_found(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "COUNTED_BYTES", 0)
    unknown = await told(tmp_path)
    assert (named(unknown, 'a "b').rows, named(unknown, 'a "b').size_bytes) == (None, None)
    assert any("until ANALYZE" in note for note in unknown.notes)
    execute(database, "ANALYZE", "DELETE FROM plain")
    estimated = await told(tmp_path)
    assert (named(estimated, 'a "b').rows, named(estimated, 'a "b').exact) == (1000, False)
    assert named(estimated, "plain").rows == 2
    assert any("ANALYZE has estimated" in note for note in estimated.notes)


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = await told(tmp_path)
    assert (found.state, found.size_bytes, found.collections) == (StoreState.OK, 0, ())
    assert "not there yet" in found.notes[0]
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "app.db").write_bytes(b"something else, longer than the header of a page" * 100)
    found = await told(tmp_path)
    assert found.state is StoreState.UNAVAILABLE
    assert "file is not a database" in found.error


async def test_reading_ends_in_time(database: Path, tmp_path: Path) -> None:
    some = "WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT i, zeroblob(300) FROM n"
    execute(database, "CREATE TABLE large (id INTEGER PRIMARY KEY, content)", f"INSERT INTO large {some}")
    async with layer(tmp_path, timeout=0.001) as data:
        found = (await data.statistics())["sqlite"]
    assert found.state is StoreState.UNAVAILABLE
    assert "within 0.001 s" in found.error


def test_an_interrupt_between_two_statements_is_not_lost() -> None:
    long = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 1000000000) SELECT count(*) FROM n"
    with contextlib.closing(sqlite3.connect(":memory:")) as connection, sqlite._interrupted_after(0, connection):
        time.sleep(0.05)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            connection.execute(long)


async def test_a_database_in_memory(tmp_path: Path) -> None:
    async with layer(tmp_path, ":memory:") as data:
        await data.connection("sqlite").execute_command("CREATE TABLE t (a)")
        await data.connection("sqlite").execute_command("INSERT INTO t VALUES (1), (2)")
        found = (await data.statistics())["sqlite"]
    assert named(found, "t").rows == 2
    assert found.size_bytes
    assert found.details["journal_mode"] == "memory"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.usefixtures("database")
def test_a_file_that_was_open_at_a_fork_is_refused_in_the_child(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from app.db import DataLayer\n"
        "config = {'data_dir': sys.argv[1], 'connections': {'sqlite': {}}}\n"
        "async def ask():\n"
        "    async with DataLayer.from_config(config) as data:\n"
        "        print((await data.statistics())['sqlite'].error, flush=True)\n"
        "async def main():\n"
        "    async with DataLayer.from_config(config) as data:\n"
        "        await data.connection('sqlite').connect()\n"
        "        await asyncio.to_thread(fork)\n"
        "def fork():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        asyncio.run(ask())\n"
        "        os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "was open when this process was forked" in done.stdout
