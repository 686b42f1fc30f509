"""A process that is killed at any step of a re-embedding or a copy, and run again, leaves what one run leaves."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from app.config.settings import PostgresSettings
from app.connections.chromadb import ChromaDBConnectionManager
from app.connections.postgres import PostgresConnectionManager
from app.connections.qdrant import QdrantConnectionManager
from app.core.constants import VectorDBType
from app.db.query import ALL
from app.db.vector.copy import copy
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.providers.db_provider import VectorDBRegistry
from app.db.vector.reembed import reembed
from app.db.vector.store import CollectionVectorStore

from .planned import Planned, doc

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, json, os, signal, sys
import numpy, psycopg
from app.db.vector import chroma_catalog, chroma_collection, qdrant_collection, qdrant_embedded, reembed
from app.db.vector import pgvector_engine, pgvector_session, pgvector_write
from tests.vector.test_reembed_killed import newer, opened
from app.db.vector.copy import copy

left = 0

def step():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(call):
    def counting(*given, **named):
        step()
        return call(*given, **named)
    return counting

def audit(event, given):
    writes = event == "open" and isinstance(given[1], str) and given[1] != "r"
    if (writes or event in ("os.rename", "os.remove", "os.rmdir")) and any(
        str(given[0]).startswith(place) for place in places
    ):
        step()

qdrant_collection.PAGE = qdrant_embedded.PAGE = pgvector_engine.PAGE = reembed._BLOCK = 2
for name in ("upsert", "delete"):
    setattr(qdrant_collection.QdrantCollection, name, counted(getattr(qdrant_collection.QdrantCollection, name)))
for module in (pgvector_engine, pgvector_session, pgvector_write):
    for name in {"execute", "fetch"} & vars(module).keys():
        setattr(module, name, counted(getattr(module, name)))

for module in (chroma_catalog, chroma_collection):
    module.write = counted(module.write)

async def main(action, steps):
    global left
    async with opened(places[0]) as store:
        await store.engine.contract()
        psycopg.AsyncConnection.execute = counted(psycopg.AsyncConnection.execute)
        sys.addaudithook(audit)
        left = steps
        if action == "reembed":
            await reembed.reembed(store, newer(), settles=0)
        else:
            async with opened(places[1]) as target:
                await copy(store, target)
        print(steps - left, flush=True)

# Each in a process of its own, which is forked from this one, since loading all that takes longest.
for steps, *places in json.loads(sys.argv[2]):
    child = os.fork()
    if not child:
        asyncio.run(main(sys.argv[1], steps))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
        print("killed", flush=True)
"""


def newer() -> EmbeddingModel:
    embeddings = Planned(size=6)
    embeddings.model = "newer"
    return EmbeddingModel.of(embeddings)


@asynccontextmanager
async def opened(place: str, embedding: EmbeddingModel | None = None) -> AsyncIterator[CollectionVectorStore]:
    """A store in a directory, or on a server by its url."""
    manager: ChromaDBConnectionManager | PostgresConnectionManager | QdrantConnectionManager
    if place.startswith("chroma:"):
        kind, manager = VectorDBType.CHROMADB, ChromaDBConnectionManager(data_dir=Path(place.removeprefix("chroma:")))
    elif "://" in place:
        kind, manager = VectorDBType.PGVECTOR, PostgresConnectionManager(PostgresSettings(url=SecretStr(place)))
    else:
        kind, manager = VectorDBType.QDRANT, QdrantConnectionManager(data_dir=Path(place))
    store_class: Any = VectorDBRegistry.get(kind)
    async with manager:
        yield store_class(manager, embedding or EmbeddingModel.of(Planned()))


async def fill(place: str) -> None:
    async with opened(place) as store:
        docs = [doc(f"text {n}", {"n": n, "document_id": f"d{n // 2}"}, f"row {n}") for n in range(7)]
        await store.save_and_embed(None, docs)


async def state(store: CollectionVectorStore) -> Any:
    """All that there is, with what lies beside the collection, and without the moments."""
    rows = [each async for page in store.engine.pages(ALL, vectors=True) for each in page]
    names: Any
    if isinstance(store.connection, PostgresConnectionManager):
        names = await store.connection.execute_query(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace ORDER BY 1"
        )
        names = [row[0] for row in names if not row[0].startswith("pg_toast")]
    elif isinstance(store.connection, ChromaDBConnectionManager):
        engine: Any = await store.connection.connect()
        names = await engine.read(lambda client: sorted(each.name for each in client.list_collections()))
    else:
        manager: Any = store.connection
        names = await (await manager.engine()).read(lambda each: sorted(file.name for file in each.path.iterdir()))
    content = sorted((each.id, each.document_id, each.text, each.metadata, _rounded(each.vector)) for each in rows)
    return await store.engine.contract(), content, names


def _rounded(vector: Any) -> list[float]:
    return [round(float(each), 5) for each in np.asarray(vector)]


def run(action: str, *each: tuple[int, *tuple[str, ...]]) -> list[str]:
    """What became of processes that were to be killed before a step, in some places: `killed`, or how many steps."""
    command = [sys.executable, "-c", SCRIPT, action, json.dumps(each)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout.split()


@pytest.fixture(params=["chroma-directory", "pgvector", "qdrant-embedded"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], str]:
    """An empty place for each number."""
    if request.param == "pgvector":
        schemas: Callable[[], str] = request.getfixturevalue("postgres_schemas")
        return lambda _: schemas()
    prefix = "chroma:" if request.param == "chroma-directory" else ""
    return lambda number: f"{prefix}{tmp_path / str(number)}"


async def test_a_reembedding_killed_at_any_step_is_completed_by_the_next(fresh: Callable[[int], str]) -> None:
    clean = fresh(0)
    await fill(clean)
    [steps] = map(int, run("reembed", (10**6, clean)))
    assert steps > 8
    async with opened(clean, newer()) as store:
        expected = await state(store)
    assert len(expected[1]) == 7
    places = {at: fresh(at) for at in sorted({*range(1, steps - 8, steps // 3), *range(steps - 7, steps + 1)})}
    for place in places.values():
        await fill(place)
    assert run("reembed", *places.items()) == ["killed"] * len(places)
    for killed_at, place in places.items():
        async with opened(place) as store:
            known = await store.engine.contract()
            assert known is not None
            assert await store.engine_on("documents", _asking(known)).count(ALL) == 7, "something was lost"
            await reembed(store, newer(), settles=0)
        async with opened(place, newer()) as store:
            assert await state(store) == expected, killed_at


async def test_a_copy_killed_at_any_step_is_completed_by_the_next(
    fresh: Callable[[int], str], postgres_schemas: Callable[[], str]
) -> None:
    source, clean = postgres_schemas(), fresh(0)
    await fill(source)
    [steps] = map(int, run("copy", (10**6, source, clean)))
    async with opened(clean) as store:
        expected = await state(store)
    assert len(expected[1]) == 7
    places = {at: fresh(at) for at in range(2, steps + 1, max(1, steps // 6))}
    assert run("copy", *((at, source, place) for at, place in places.items())) == ["killed"] * len(places)
    for place in places.values():
        async with opened(source) as origin, opened(place) as store:
            assert (await copy(origin, store)).problems == []
            assert await state(store) == expected


def _asking(contract: Any) -> Any:
    async def asked(_: int | None) -> Any:
        return contract

    return asked
