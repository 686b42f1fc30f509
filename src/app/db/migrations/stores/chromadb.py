"""Migrations of Chroma: of a directory in this process, or on a server over HTTP."""

from collections.abc import Mapping
from typing import Any

from ....connections.base import ConnectionManager
from ....connections.chromadb import ChromaDBConnectionManager
from ...backends.base import CollectionSchema
from ..store import MigrationStore
from ._chroma_directory import ChromaDirectoryStore
from ._chroma_server import ChromaServerStore


def migration_store(manager: ConnectionManager[Any], schemas: Mapping[str, CollectionSchema]) -> MigrationStore:
    del schemas  # those of records
    assert isinstance(manager, ChromaDBConnectionManager)  # noqa: S101 - by the registry
    return ChromaDirectoryStore(manager) if manager.address is None else ChromaServerStore(manager)
