"""Vectors in Qdrant, inside this process or on a server."""

from typing import Any

from ...connections._qdrant_embedded import check_collection_name
from ...connections.qdrant import QdrantConnectionManager
from ...core.constants import ConnectionType, VectorDBType
from .engine import VectorEngine
from .providers.db_provider import VectorDBRegistry
from .store import CollectionVectorStore


@VectorDBRegistry.register(VectorDBType.QDRANT)
class QdrantVectorStore(CollectionVectorStore):
    engine_type = VectorDBType.QDRANT
    connection_type = ConnectionType.QDRANT

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self._connection is not None:
            self.engine  # noqa: B018 - refuses what it cannot use

    @staticmethod
    def check_collection(name: str) -> str:
        return check_collection_name(name)

    def _engine(self, manager: QdrantConnectionManager) -> VectorEngine:
        manager.refuse_a_server()
        from .qdrant_embedded import QdrantEdgeEngine  # noqa: PLC0415 - an optional package

        return QdrantEdgeEngine(manager, self.collection, self.distance, self._contract)
