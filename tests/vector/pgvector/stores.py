"""Collections on pgvector, their rows and what the server makes of a statement."""

import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psycopg
from langchain_core.documents import Document

from app.connections.postgres import PostgresConnectionManager
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.pgvector import PgVectorStore

from ..planned import Planned, doc


def store_on(manager: PostgresConnectionManager, size: int = 4, **options: Any) -> PgVectorStore:
    return PgVectorStore(manager, EmbeddingModel.of(Planned(size=size)), **options)


def rows(number: int, dimension: int, *, seed: int = 1) -> tuple[list[Document], np.ndarray[Any, np.dtype[np.float32]]]:
    vectors = np.random.default_rng(seed).standard_normal((number, dimension)).astype(np.float32)
    return [doc(f"text {n}", {"n": n, "bucket": n % 100}, str(n)) for n in range(number)], vectors


async def first(documents: AsyncIterator[Document], most: int) -> list[Document]:
    """Of what may never end."""
    found: list[Document] = []
    async for document in documents:
        found.append(document)
        if len(found) == most:
            break
    return found


async def plan(manager: PostgresConnectionManager, sql: str, parameters: tuple[Any, ...]) -> str:
    async with manager.connection() as connection:
        cursor = psycopg.AsyncRawCursor(connection)
        await cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}".encode(), parameters)
        return json.dumps(await cursor.fetchall())
