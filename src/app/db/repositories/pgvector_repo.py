"""The specification's repository of vectors that are made elsewhere: any number of collections on one PostgreSQL."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ...connections import ConnectionFactory, ConnectionManager
from ...core.constants import ConnectionType, Distance
from ...core.errors import ConfigurationError, DimensionMismatchError, InvalidChangeError
from ..models.values import utc_now
from ..query import Filter
from ..vector.base import DocumentMetadata
from ..vector.contract import CollectionContract
from ..vector.payload import row_of
from ..vector.pgvector import PgVectorStore
from ..vector.similarity import directed

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.documents import Document
    from numpy.typing import NDArray
    from psycopg_pool import AsyncConnectionPool

    from ...connections.postgres import PostgresConnectionManager
    from ..vector.pgvector_index import IndexKind


class PgVectorRepository:
    """Collections of documents whose vectors the caller brings.

    `connection` is a manager, psycopg's `AsyncConnectionPool` or a url; without it, the PostgreSQL connection of the
    current DataLayer. What was passed in is never closed here. A collection is what `PgVectorStore` has, so both may
    use it.
    """

    def __init__(self, connection: "ConnectionManager[Any] | AsyncConnectionPool[Any] | str | None" = None) -> None:
        self._given = connection
        self._stores: dict[str, _GivenVectors] = {}

    @property
    def connection(self) -> "PostgresConnectionManager":
        if self._given is None:
            manager: Any = ConnectionFactory.get_connection_manager(ConnectionType.POSTGRES)
            return cast("PostgresConnectionManager", manager)
        if not isinstance(self._given, ConnectionManager):
            from ...connections.postgres import PostgresConnectionManager  # noqa: PLC0415 - as the connection itself

            self._given = PostgresConnectionManager.around(self._given)
        if self._given.connection_type != ConnectionType.POSTGRES:
            raise ConfigurationError(f"PgVectorRepository needs a PostgreSQL connection, and not {self._given.name!r}")
        return cast("PostgresConnectionManager", self._given)

    async def create_collection(
        self,
        collection_name: str,
        embedding_dimension: int,
        *,
        distance: Distance = Distance.COSINE,
        index: str | None = None,
        lists: int | None = None,
    ) -> None:
        """Make a collection unless it is there; DimensionMismatchError where it is there with another dimension.

        `index` builds one now, `hnsw` or `ivfflat` (of so many `lists`, which wants rows to be there); by itself an
        HNSW index is built once there are 5,000 rows.
        """
        if index not in (None, "hnsw", "ivfflat"):
            raise ConfigurationError(f"an index of vectors is 'hnsw' or 'ivfflat', and not {index!r}")
        store = self._opened(collection_name, distance)
        await store.engine.make(embedding_dimension)
        self._stores[collection_name] = store
        if index is not None:
            await store.engine.create_index(cast("IndexKind", index), lists)

    async def add_documents(
        self,
        collection_name: str,
        documents: "Sequence[Document]",
        embeddings: "Sequence[Sequence[float]] | NDArray[np.float32]",
        ids: Sequence[str] | None = None,
    ) -> list[str]:
        """Store documents with their vectors, in the place of rows with the same ids; return the ids."""
        if ids is not None:
            if len(ids) != len(documents):
                raise InvalidChangeError(f"{len(documents)} documents and {len(ids)} ids: one is needed for each")
            documents = [_with_id(document, row_id) for document, row_id in zip(documents, ids, strict=True)]
        if len(embeddings) != len(documents):
            raise InvalidChangeError(
                f"{len(documents)} documents and {len(embeddings)} embeddings: one is needed for each"
            )
        return await (await self._store(collection_name)).add_vectors(documents, _array(embeddings))

    async def update_document(
        self, collection_name: str, document_id: str, document: "Document", embedding: Sequence[float]
    ) -> bool:
        """Replace all rows of a document by one; False where there is none. Both in one transaction."""
        return await (await self._store(collection_name)).replace(document_id, document, _array([embedding]))

    async def delete_document(self, collection_name: str, document_id: str) -> bool:
        return await (await self._store(collection_name)).delete_by_document_id(document_id)

    async def search_similar(
        self, collection_name: str, query_embedding: Sequence[float], k: int = 5, filter_criteria: Filter = None
    ) -> "list[Document]":
        """The k nearest documents whose metadata meets the filter, best first."""
        found = await self.search_with_scores(collection_name, query_embedding, k, filter_criteria)
        return [document for document, _ in found]

    async def search_with_scores(
        self, collection_name: str, query_embedding: Sequence[float], k: int = 5, filter_criteria: Filter = None
    ) -> "list[tuple[Document, float]]":
        return await (await self._store(collection_name)).search_by_vector(query_embedding, k, filter_criteria)

    async def get_document_metadata(self, collection_name: str, document_id: str) -> DocumentMetadata | None:
        return await (await self._store(collection_name)).get_document_metadata(document_id)

    async def _store(self, collection_name: str) -> "_GivenVectors":
        store = self._stores.get(collection_name)
        if store is None:
            known = await _GivenVectors(self.connection, collection=collection_name).engine.contract()
            if known is None:
                raise ConfigurationError(f"there is no collection {collection_name!r}: make it with create_collection")
            store = self._stores[collection_name] = self._opened(collection_name, known.distance)
        return store

    def _opened(self, collection_name: str, distance: Distance) -> "_GivenVectors":
        return _GivenVectors(self.connection, collection=collection_name, distance=distance)


class _GivenVectors(PgVectorStore):
    """A collection whose embedding nobody here knows."""

    async def replace(self, document_id: str, document: "Document", vector: "NDArray[np.float32]") -> bool:
        row = row_of(document_id, document, row_id=document_id)
        vectors = directed(self.distance, vector)
        return await self.engine.replace(document_id, [row], vectors, utc_now().isoformat(), only_present=True)

    async def _contract(self, dimension: int | None = None) -> CollectionContract:
        return CollectionContract(None, None, dimension, self.distance)


def _array(vectors: Any) -> "NDArray[np.float32]":
    import numpy as np  # noqa: PLC0415 - only those who bring vectors need it

    lengths = {len(each) for each in vectors}
    if len(lengths) > 1:
        raise DimensionMismatchError(f"the embeddings have different lengths: {', '.join(map(str, sorted(lengths)))}")
    return np.asarray(vectors, dtype=np.float32)


def _with_id(document: "Document", row_id: str) -> "Document":
    from langchain_core.documents import Document  # noqa: PLC0415 - 0.2 s that only those who add pay

    return Document(id=row_id, page_content=document.page_content, metadata=dict(document.metadata or {}))
