"""Migrations of Qdrant: of the collections inside this process, or on a server."""

from collections.abc import Mapping
from typing import Any

from ....connections.base import ConnectionManager
from ....connections.qdrant import QdrantConnectionManager
from ...backends.base import CollectionSchema
from ..store import MigrationStore


def migration_store(manager: ConnectionManager[Any], schemas: Mapping[str, CollectionSchema]) -> MigrationStore:
    del schemas  # those of records
    assert isinstance(manager, QdrantConnectionManager)  # noqa: S101 - by the registry
    if manager.address is None:
        from ._qdrant_embedded import QdrantEmbeddedStore  # noqa: PLC0415 - needs an engine that the other does not

        return QdrantEmbeddedStore(manager)
    from ._qdrant_server import QdrantServerStore  # noqa: PLC0415 - as above

    return QdrantServerStore(manager)
