"""Vectors in PostgreSQL, with the extension pgvector."""

from typing import Any

from ...connections.postgres import PostgresConnectionManager
from ...core.constants import ConnectionType, Distance, VectorDBType
from ...core.errors import ConfigurationError
from .engine import VectorEngine
from .providers.db_provider import VectorDBRegistry
from .store import CollectionVectorStore


@VectorDBRegistry.register(VectorDBType.PGVECTOR)
class PgVectorStore(CollectionVectorStore):
    """A collection is a table of its name. With 5,000 rows it gets an HNSW index, and the index is measured: a search
    is as wide as it takes to find `recall` of what comparing with every row would find; with 1 it compares with every
    row. A vector of more than 2,000 dimensions is kept with half the precision, one of more than 4,000 is not indexed.
    """

    engine_type = VectorDBType.PGVECTOR
    connection_type = ConnectionType.POSTGRES

    def __init__(
        self,
        connection: PostgresConnectionManager | None = None,
        embedding: Any = None,
        *,
        name: str | None = None,
        collection: str = "documents",
        distance: Distance = Distance.COSINE,
        recall: float = 0.95,
    ) -> None:
        super().__init__(connection, embedding, name=name, collection=collection, distance=distance)
        if not 0 < recall <= 1:
            raise ConfigurationError(f"recall is a share, above 0 and up to 1, and not {recall:g}")
        self.recall = recall

    @staticmethod
    def check_collection(name: str) -> str:
        from .pgvector_table import check_collection_name  # noqa: PLC0415 - an optional package

        return check_collection_name(name)

    def _engine(self, manager: PostgresConnectionManager) -> VectorEngine:
        from .pgvector_engine import PgVectorEngine  # noqa: PLC0415 - an optional package

        return PgVectorEngine(manager, self.collection, self.distance, self._contract, recall=self.recall)
