"""Vectors in Qdrant, inside this process or on a server."""

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

    @staticmethod
    def check_collection(name: str) -> str:
        return check_collection_name(name)

    def _engine(self, manager: QdrantConnectionManager) -> VectorEngine:
        if manager.address is None:
            from .qdrant_embedded import QdrantEdgeEngine  # noqa: PLC0415 - an optional package

            return QdrantEdgeEngine(manager, self.collection, self.distance, self._contract, filterable=self.filterable)
        from .qdrant_server import QdrantServerEngine  # noqa: PLC0415 - as above

        return QdrantServerEngine(manager, self.collection, self.distance, self._contract, recall=self.recall)
