"""Vectors in PostgreSQL, with the extension pgvector."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...core.constants import ConnectionType, VectorDBType
from .providers.db_provider import VectorDBRegistry
from .store import CollectionVectorStore

if TYPE_CHECKING:
    from .pgvector_engine import PgVectorEngine


@VectorDBRegistry.register(VectorDBType.PGVECTOR)
class PgVectorStore(CollectionVectorStore):
    """A collection is a table of its name. With 5,000 rows it gets an HNSW index, and the index is measured: a search
    is as wide as it takes to find `recall` of what comparing with every row would find; with 1 it compares with every
    row. A vector of more than 2,000 dimensions is kept with half the precision, one of more than 4,000 is not indexed.
    """

    engine_type = VectorDBType.PGVECTOR
    connection_type = ConnectionType.POSTGRES

    @staticmethod
    def check_collection(name: str) -> str:
        from .pgvector_table import check_collection_name  # noqa: PLC0415 - an optional package

        return check_collection_name(name)

    @cached_property
    def engine(self) -> "PgVectorEngine":
        return self._engine(self.connection)

    def _engine(self, manager: Any) -> "PgVectorEngine":
        from .pgvector_engine import PgVectorEngine  # noqa: PLC0415 - an optional package

        return PgVectorEngine(
            manager, self.collection, self.distance, self._contract, recall=self.recall, filterable=self.filterable
        )
