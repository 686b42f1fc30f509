"""`manystore db stats`, as a person and as a script read it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Manystore = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def manystore(tmp_path: Path) -> Manystore:
    environment = {"HOME": str(tmp_path / "nobody"), "PATH": os.defpath, "COLUMNS": "160", "NO_COLOR": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "app.cli", "db", "stats", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / ".manystore" / "app.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE INDEX by_name ON things (name)")
        connection.executemany("INSERT INTO things (name) VALUES (?)", [("a",), ("b",), ("[red]c",)])
    return path


def write(tmp_path: Path, connections: dict[str, Any]) -> tuple[str, str]:
    (tmp_path / "app.yaml").write_text(json.dumps({"connections": connections}))
    return "--config", "app.yaml"


@pytest.mark.usefixtures("database")
def test_a_table(manystore: Manystore) -> None:
    done = manystore()
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0].startswith("sqlite sqlite 3.")
    assert any(line.startswith("things 3 8.0 KiB") for line in lines)
    assert "by_name 4.0 KiB btree (name)" in lines
    assert any("is not there yet" in line for line in lines)  # the vectors


def test_json_with_a_store_that_is_down(manystore: Manystore, database: Path, tmp_path: Path) -> None:
    gone = {"type": "postgres", "url": "postgresql://u:hunter2swordfish@127.0.0.1:1/x", "timeout": 1}
    later = {"type": "mongodb", "url": "${NOT_SET}"}
    config = write(tmp_path, {"sqlite": {}, "gone": gone, "later": later})
    done = manystore("--json", *config)
    assert done.returncode == 1
    assert done.stderr.startswith("error: gone: cannot connect to PostgreSQL at 127.0.0.1:1")
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2swordfish" not in done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    found = answer["connections"]
    assert {name: each["state"] for name, each in found.items()} == {
        "sqlite": "ok",
        "gone": "unavailable",
        "later": "not configured",
    }
    assert found["sqlite"] == {
        "type": "sqlite",
        "state": "ok",
        "version": sqlite3.sqlite_version,
        "size_bytes": database.stat().st_size,
        "collections": [
            {
                "name": "things",
                "rows": 3,
                "exact": True,
                "size_bytes": 8192,
                "indexes": [
                    {
                        "name": "by_name",
                        "fields": ["name"],
                        "kind": "btree",
                        "unique": False,
                        "size_bytes": 4096,
                        "uses": None,
                        "counted_since": None,
                        "unused": None,
                    }
                ],
                "details": {},
            }
        ],
        "pool": None,
        "details": {
            "page_bytes": 4096,
            "free_bytes": 0,
            "wal_bytes": 0,
            "journal_mode": "delete",
            "analyzed": False,
        },
        "notes": ["SQLite does not count how often an index is used"],
        "error": "",
    }
    assert "NOT_SET" in found["later"]["error"]


@pytest.mark.usefixtures("database")
def test_one_connection(manystore: Manystore, tmp_path: Path) -> None:
    config = write(tmp_path, {"sqlite": {}, "later": {"type": "mongodb", "url": "${NOT_SET}"}})
    one = manystore("sqlite", "--json", *config)
    assert (one.returncode, list(json.loads(one.stdout)["connections"])) == (0, ["sqlite"])
    every = manystore(*config)
    assert (every.returncode, every.stderr) == (0, "")
    assert "not configured" in every.stdout
    asked_for = manystore("later", *config)
    assert (asked_for.returncode, len(asked_for.stderr.splitlines())) == (1, 1)
    assert "set NOT_SET" in asked_for.stderr
    wrong = manystore("sqlit", *config)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)
    assert "did you mean 'sqlite'" in wrong.stderr
