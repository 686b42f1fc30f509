"""The log of slow statements: each kind is in it, with its time and its connection, and never a value."""

import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from app.connections._postgres_connection import Connection
from app.core.errors import DuplicateRecordError
from app.db import DataLayer, Entity, Index, Repository

SECRET = "hunter2swordfish"
EVERYTHING = 1e-9


class Note(Entity):
    title: str
    text: str = ""


class Notes(Repository[Note]):
    indexes = (Index("title", unique=True),)


@pytest.fixture(params=["sqlite", "postgres"])
def section(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"type": "sqlite", "path": str(tmp_path / "app.db")}
    schemas: Callable[[], str] = request.getfixturevalue("postgres_schemas")
    return {"type": "postgres", "url": schemas()}


@asynccontextmanager
async def layer(section: dict[str, Any], **more: Any) -> AsyncIterator[DataLayer]:
    config = {"connections": {"books": {**section, **more}}, "repositories": {"notes": {"connection": "books"}}}
    async with DataLayer.from_config(config) as data:
        yield data


async def write_secrets(data: DataLayer) -> None:
    notes = data.repository(Notes)
    first = await notes.create(Note(title=SECRET, text=SECRET))
    await notes.create_many([Note(title=f"{SECRET}{n}") for n in range(30)])
    await notes.upsert_many([Note(title=f"{SECRET}{n}", text=SECRET) for n in range(20)], on="title")
    await notes.upsert_many([Note(title=f"{SECRET}{n}", text=SECRET) for n in range(3)], on="title")
    with pytest.raises(DuplicateRecordError):
        await notes.create(Note(title=SECRET))
    await notes.update(first.id, {"text": f"{SECRET}!"})
    assert await notes.find_one({"text": f"{SECRET}!"})
    assert await notes.count({"title": {"$contains": SECRET}}) == 31
    async with notes.transaction() as tx:
        async with tx.savepoint():
            await tx.create(Note(title=f"{SECRET}?"))
        await tx.delete(first.id)
    manager = data.connection("books")
    mark = "%s" if manager.connection_type == "postgres" else "?"
    assert await manager.execute_query(f"SELECT {mark}", (SECRET,)) == [(SECRET,)]


def slow(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.getMessage().startswith("slow query")]


async def test_every_kind_of_statement_and_no_value(section: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async with layer(section, slow_query=EVERYTHING) as data:
        await write_secrets(data)
    lines = slow(caplog)
    for line in lines:
        assert re.match(r"slow query on books: \d+\.\d{3} s: \w", line), line
    assert {each.levelno for each in caplog.records if each.getMessage() in lines} == {logging.WARNING}
    kinds = {line.partition(" s: ")[2].split()[0] for line in lines}
    expected = {"BEGIN", "SAVEPOINT", "RELEASE", "COMMIT", "CREATE", "INSERT", "UPDATE", "DELETE", "SELECT"}
    assert kinds >= expected | ({"COPY"} if section["type"] == "postgres" else set())
    assert SECRET not in caplog.text


async def test_what_is_fast_enough_is_not_logged(section: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    for threshold in (60, None):
        async with layer(section, slow_query=threshold) as data:
            await data.repository(Notes).create(Note(title=f"t{threshold}"))
    assert slow(caplog) == []


async def test_a_slow_statement_is_one_line(section: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    busy = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 150000)\n  SELECT count(*) FROM c"
    statement = "SELECT pg_sleep(0.12)" if section["type"] == "postgres" else busy
    async with layer(section, slow_query=0.02) as data:
        await data.connection("books").execute_query(statement)
    [line] = [line for line in slow(caplog) if "pg_sleep" in line or "RECURSIVE" in line]
    seconds = float(line.split(": ")[1].removesuffix(" s"))
    assert 0.02 <= seconds < 5
    assert "\n" not in line


async def test_the_statements_of_the_caller_and_literals_in_them(
    postgres_schemas: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    async with layer({"type": "postgres", "url": postgres_schemas()}, slow_query=EVERYTHING) as data:
        query = sql.SQL("SELECT {} AS {}").format(sql.Literal(SECRET), sql.Identifier("shown"))
        assert await data.connection("books").execute_query(query) == [(SECRET,)]
        async with data.connection("books").connection() as connection, connection.transaction():
            await connection.execute(b"SELECT 1 AS bytes")
            await connection.cursor().executemany("SELECT %s AS many", [(SECRET,)])
    text = "\n".join(slow(caplog))
    for each in ('SELECT … AS "shown"', "BEGIN", "SELECT 1 AS bytes", "SELECT %s AS many", "COMMIT"):
        assert each in text
    assert SECRET not in caplog.text


async def test_without_a_threshold_nothing_is_in_the_way(postgres_schemas: Callable[[], str]) -> None:
    async with (
        layer({"type": "postgres", "url": postgres_schemas()}) as data,
        data.connection("books").connection() as connection,
    ):
        assert type(connection) is Connection
        assert connection.cursor_factory is psycopg.AsyncCursor
