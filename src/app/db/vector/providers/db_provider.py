"""Which vector engines there are, and the live vector stores of one DataLayer."""

import threading
from typing import Any

from ....config.settings import Settings, VectorStoreSettings
from ....connections.closing import close_each
from ....connections.factory import ConnectionFactory
from ....core.constants import ConnectionType, VectorDBType
from ....core.current import on_current
from ....core.errors import ConfigurationError, NotRegisteredError
from ....core.registry import Registry
from ..base import VectorDB
from .embedding_provider import EmbeddingFactory

VectorDBRegistry: Registry[type[VectorDB]] = Registry(
    "vector store",
    {
        VectorDBType.CHROMADB: ".db.vector.chromadb:ChromaVectorStore",
        VectorDBType.PGVECTOR: ".db.vector.pgvector:PgVectorStore",
        VectorDBType.QDRANT: ".db.vector.qdrant:QdrantVectorStore",
    },
    entry_point_group="manystore.vector_stores",
)
"""Engines by VectorDBType. A class that a DataLayer is to build takes
`(connection, embedding, *, name, collection, distance)`, and `recall` and `filterable` where the settings have them.
"""

DEFAULT_COLLECTION = "documents"

_CONNECTIONS = {
    VectorDBType.QDRANT: ConnectionType.QDRANT,
    VectorDBType.PGVECTOR: ConnectionType.POSTGRES,
    VectorDBType.CHROMADB: ConnectionType.CHROMADB,
}
ENGINES = {connection: engine for engine, connection in _CONNECTIONS.items()}
"""What holds the vectors on a connection of each type that can."""


class VectorStoreFactory:
    """The vector stores of one DataLayer. Called on the class, each method acts on the current DataLayer's."""

    _layer_attribute = "vector_stores"

    def __init__(self, settings: Settings, connections: ConnectionFactory, embeddings: EmbeddingFactory) -> None:
        self._settings = settings
        self._connections = connections
        self._embeddings = embeddings
        self._stores: dict[str, VectorDB] = {}
        self._lock = threading.Lock()

    @on_current
    def get_vector_store(self, name: str | VectorDBType = DEFAULT_COLLECTION) -> VectorDB:
        """The store of that name under `vector_stores`: the same object at each call, not yet connected.

        A VectorDBType means the first entry on that engine, else the collection `documents` there.
        """
        entry, section = self._resolve(name)
        with self._lock:
            store = self._stores.get(entry)
            if store is None:
                store = self._stores[entry] = self._build(entry, section)
        return store

    @on_current
    def list_vector_stores(self) -> list[str]:
        return list(self._settings.vector_stores)

    @on_current
    async def close_all(self) -> None:
        """Close all stores, the youngest first."""
        stores, self._stores = dict(self._stores), {}
        close = ((name, store._close_connection) for name, store in reversed(stores.items()))  # noqa: SLF001
        await close_each(close)

    def _resolve(self, name: str) -> tuple[str, VectorStoreSettings]:
        entries = self._settings.vector_stores
        if name in entries:
            return str(name), entries[name]
        engine = _engine(name)
        if engine is None:
            raise NotRegisteredError.for_name("vector store", str(name), entries)
        for entry, section in entries.items():
            if ENGINES.get(self._settings.connections[section.connection].type) is engine:
                return entry, section
        VectorDBRegistry.get(engine)
        connection = self._connections.of_type(_CONNECTIONS[engine])
        if connection is None:
            raise NotRegisteredError.for_name(
                f"connection of type {_CONNECTIONS[engine]}, which the vector engine {engine} needs,",
                _CONNECTIONS[engine],
                self._settings.connections,
            )
        return f"{engine}:{DEFAULT_COLLECTION}", VectorStoreSettings(
            connection=connection, collection=DEFAULT_COLLECTION
        )

    def _build(self, name: str, section: VectorStoreSettings) -> VectorDB:
        kind = self._settings.connections[section.connection].type
        engine = ENGINES.get(kind)
        if engine is None:
            raise ConfigurationError(
                f"vector_stores.{name}: the connection {section.connection!r} is of type {kind}, "
                f"which holds no vectors; use one of {', '.join(ENGINES)}"
            )
        store_class: Any = VectorDBRegistry.get(engine)
        store: VectorDB = store_class(
            self._connections.get_connection_manager(section.connection),
            self._embeddings.embedding(section.embedding),
            name=name,
            collection=section.collection or name,
            distance=section.distance,
            **{option: getattr(section, option) for option in ("recall", "filterable") if getattr(section, option)},
        )
        return store


def _engine(name: str) -> VectorDBType | None:
    try:
        return VectorDBType(name)
    except ValueError:
        return None
