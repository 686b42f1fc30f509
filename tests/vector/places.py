"""Where the contract runs: each engine of the library in each of its forms, on the real thing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from langchain_core.embeddings import Embeddings
from pydantic import SecretStr

from app.config.settings import PostgresSettings
from app.connections.base import ConnectionManager
from app.connections.chromadb import ChromaDBConnectionManager
from app.connections.postgres import PostgresConnectionManager
from app.connections.qdrant import QdrantConnectionManager
from app.core.constants import VectorDBType
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.providers.db_provider import VectorDBRegistry
from app.db.vector.store import CollectionVectorStore

from .chroma_server import in_own_database
from .qdrant_local import LocalManager


class Place:
    """One empty engine."""

    def __init__(self, engine: VectorDBType, manager: ConnectionManager[Any]) -> None:
        self.engine = engine
        self.manager = manager

    def store(self, embeddings: Embeddings, **options: Any) -> CollectionVectorStore:
        store_class: Any = VectorDBRegistry.get(self.engine)
        store: CollectionVectorStore = store_class(self.manager, EmbeddingModel.of(embeddings), **options)
        return store


def _qdrant_embedded(request: pytest.FixtureRequest, path: Path) -> Place:
    del request
    return Place(VectorDBType.QDRANT, QdrantConnectionManager(data_dir=path))


def _qdrant_local(request: pytest.FixtureRequest, path: Path) -> Place:
    del request, path
    return Place(VectorDBType.QDRANT, LocalManager())


def _pgvector(request: pytest.FixtureRequest, path: Path) -> Place:
    """A schema of its own, which goes with the server: fixtures of any scope have one."""
    del path
    server: str = request.getfixturevalue("postgres_server")
    schema = f"vectors_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    url = SecretStr(f"{server}&options={quote(f'-c search_path={schema} -c synchronous_commit=off', safe='')}")
    return Place(VectorDBType.PGVECTOR, PostgresConnectionManager(PostgresSettings(url=url)))


def _chroma_directory(request: pytest.FixtureRequest, path: Path) -> Place:
    del request
    return Place(VectorDBType.CHROMADB, ChromaDBConnectionManager(data_dir=path))


def _chroma_http(request: pytest.FixtureRequest, path: Path) -> Place:
    del path
    return Place(VectorDBType.CHROMADB, in_own_database(request.getfixturevalue("chroma_server")))


PLACES: Mapping[str, Callable[[pytest.FixtureRequest, Path], Place]] = {
    "chroma-directory": _chroma_directory,
    "chroma-http": _chroma_http,
    "pgvector": _pgvector,
    "qdrant-embedded": _qdrant_embedded,
    "qdrant-local": _qdrant_local,
}
