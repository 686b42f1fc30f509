"""Ctrl-C amid `manystore ingest`, `vectors copy` or `vectors reembed`: it ends soon, and the next run completes it."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.db import DataLayer
from app.db.vector.store import CollectionVectorStore

from .stepped import NEVER, Stepped, fill, register, state

SOON = 5.0
"""Seconds; it takes a tenth of that where nothing else runs."""
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "ingest": (("ingest", "files"), "documents"),
    "copy": (("vectors", "copy", "--from", "documents", "--to", "copied"), "copied"),
    "reembed": (("vectors", "reembed", "--to", "second", "--yes"), "again"),
}
"""What is run, and the store that has what it makes."""


def configured(place: str) -> dict[str, Any]:
    register()
    kind, url = "postgres", {"url": place}
    if "://" not in place:
        kind = "chromadb" if place.startswith("chroma:") else "qdrant"
        url = {"url": "embedded", "path": place.removeprefix("chroma:")}
    return {
        "connections": {kind: url},
        "vector_stores": {
            "documents": {"connection": kind, "embedding": "first"},
            "again": {"connection": kind, "embedding": "second", "collection": "documents"},
            "copied": {"connection": kind, "embedding": "first", "collection": "copied"},
        },
        "embeddings": {
            "first": {"provider": "stepped", "dimension": 4},
            "second": {"provider": "stepped", "dimension": 6},
        },
    }


async def prepared(command: str, place: str) -> None:
    if command != "ingest":
        async with DataLayer.from_config(configured(place)) as data:
            await fill(store_of(data, "documents"))


def store_of(data: DataLayer, name: str) -> CollectionVectorStore:
    store = data.vector_store(name)
    assert isinstance(store, CollectionVectorStore)
    return store


async def made(command: str, place: str) -> Any:
    async with DataLayer.from_config(configured(place)) as data:
        return await state(store_of(data, COMMANDS[command][1]))


def sessions(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'manystore'")
        return int((cursor.fetchone() or (0,))[0])


@pytest.mark.parametrize("command", COMMANDS)
async def test_it_ends_soon_and_is_completed_by_the_next(
    command: str, stepped: Stepped, fresh: Callable[[int], str], tmp_path: Path
) -> None:
    arguments, _ = COMMANDS[command]
    files = tmp_path / "files"
    files.mkdir()
    for name in ("bread", "ships"):
        parts = (f"# {name} {n}\n\n{name} {'and more ' * 90}{n}\n\n" for n in range(3))
        (files / f"{name}.md").write_text("".join(parts))
    arguments = tuple(str(files) if each == "files" else each for each in arguments)

    def run(at: int, place: str) -> Any:
        file = tmp_path / "config.yaml"
        file.write_text(json.dumps(configured(place)))
        return stepped.interrupted(at, place, *arguments, "--config", str(file))

    clean = fresh(0)
    await prepared(command, clean)
    done = run(NEVER, clean)
    assert (done.status, done.errors) == (0, "")
    expected = await made(command, clean)
    assert len(expected[1]) >= 6
    last = range(done.steps - 7, done.steps, 2) if command == "reembed" else [done.steps - 1]  # when it switches
    points = {done.steps // 4 or 1, done.steps * 2 // 3, *last}
    interrupted = 0
    for at in sorted(points):
        place = fresh(at)
        await prepared(command, place)
        ended = run(at, place)
        if ended.status or ended.errors:  # else it was done by then
            assert ended.seconds < SOON
            assert (ended.status, ended.errors.count("\n")) == (130, 1), ended.errors
            assert ended.errors.startswith("error: interrupted"), ended.errors
            interrupted += 1
        if "://" in place:
            deadline = time.monotonic() + SOON
            while sessions(place):
                assert time.monotonic() < deadline, "the server still works for it"
                await asyncio.sleep(0.02)
        if command == "reembed":
            async with DataLayer.from_config(configured(place)) as data:
                known = await store_of(data, "documents").engine.contract()
                assert known is not None
                assert known.moving_to is None, f"it was left closed to writes at {at} of {done.steps}"
        again = run(NEVER, place)
        assert (again.status, again.errors) == (0, "")
        assert await made(command, place) == expected, at
    assert interrupted > len(points) // 2
