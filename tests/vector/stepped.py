"""What is done in a process that a signal ends before one of its steps, and what is there afterwards."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from langchain_core.embeddings import Embeddings
from pydantic import SecretStr

from app.config.settings import PostgresSettings
from app.connections.chromadb import ChromaDBConnectionManager
from app.connections.postgres import PostgresConnectionManager
from app.connections.qdrant import QdrantConnectionManager
from app.core.constants import VectorDBType
from app.db.query import ALL
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.providers.db_provider import VectorDBRegistry
from app.db.vector.providers.embedding_provider import EmbeddingFactory, EmbeddingRegistry
from app.db.vector.store import CollectionVectorStore

from .planned import Planned, doc

ROOT = Path(__file__).parents[2]
NEVER = 0


class Outcome(NamedTuple):
    """Of a process: its exit code, how many steps it began, the seconds since its signal, and what it complained of."""

    status: int
    steps: int
    seconds: float
    errors: str


class Stepped:
    """Runs processes, each ended by a signal before its step `at`."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.vector.stepped_program"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def killed(self, action: str, at: int, *places: str) -> Outcome:
        """A re-embedding in a place, or a copy from one to another."""
        done = self._asked(action=action, at=at, places=places, signal=signal.SIGKILL)
        assert not done.errors, done.errors
        return done

    def interrupted(self, at: int, place: str, *arguments: str) -> Outcome:
        """`manystore`, whose store is in that place; embeddings of the provider `stepped` are there."""
        return self._asked(arguments=arguments, at=at, places=[place], signal=signal.SIGINT)

    def end(self) -> None:
        self._program.communicate(timeout=10)

    def _asked(self, **asked: Any) -> Outcome:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(asked) + "\n")
        self._program.stdin.flush()
        return Outcome(*json.loads(self._program.stdout.readline()))


def register() -> None:
    """Make the embeddings `stepped` known, in each process once."""
    if "stepped" not in EmbeddingRegistry:
        EmbeddingFactory.register("stepped")(_create)


def _create(config: Mapping[str, Any]) -> Embeddings:
    return Planned(size=config["dimension"] or 4)


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


async def fill(store: CollectionVectorStore) -> None:
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
