"""Vectors in Qdrant: a collection of documents, its contract, and exact filters."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...connections._qdrant_embedded import Collections, check_collection_name
from ...connections.factory import ConnectionFactory
from ...connections.qdrant import QdrantConnectionManager
from ...core.constants import ConnectionType, Distance, VectorDBType
from ...core.errors import DimensionMismatchError, EmbeddingMismatchError, InvalidChangeError, InvalidFilterError
from ..models.values import utc_now
from ..query import ALL, Filter, Predicate, to_predicate
from ..query.evaluate import matches
from .base import DocumentMetadata, VectorDB
from .contract import CollectionContract
from .embeddings.model import EmbeddingModel
from .payload import read_rows, row_of
from .providers.db_provider import VectorDBRegistry
from .providers.embedding_provider import EmbeddingFactory
from .qdrant_collection import BATCH, PAGE, Found, QdrantCollection, similarity
from .qdrant_filter import Compiled, compile_filter, document_is, has_ids

if TYPE_CHECKING:
    import uuid

    import numpy as np
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStoreRetriever
    from numpy.typing import NDArray

    from ...connections._qdrant_embedded import QdrantEngine
    from .langchain import LangChainVectorStore

R = TypeVar("R")

_MOST = 1_000_000

_NO_ROWS: list[Found] = []
_NO_PAGE: tuple[list[Found], "uuid.UUID | None"] = (_NO_ROWS, None)


@VectorDBRegistry.register(VectorDBType.QDRANT)
class QdrantVectorStore(VectorDB):
    """One collection. It is made by the first write; until then reading finds nothing.

    Without a connection or an embedding they are the current DataLayer's. A vector of zeros has no direction, so
    under cosine it is refused.
    """

    def __init__(
        self,
        connection: QdrantConnectionManager | None = None,
        embedding: "EmbeddingModel | Embeddings | None" = None,
        *,
        name: str | None = None,
        collection: str = "documents",
        distance: Distance = Distance.COSINE,
    ) -> None:
        self.name = name or collection
        self.collection = check_collection_name(collection)
        self.distance = Distance(distance)
        if connection is not None:
            connection.refuse_a_server()
        self._connection = connection
        self._embedding = embedding if isinstance(embedding, EmbeddingModel | None) else EmbeddingModel.of(embedding)

    @property
    def connection(self) -> QdrantConnectionManager:
        if self._connection is None:
            manager = ConnectionFactory.get_connection_manager(ConnectionType.QDRANT)
            self._connection = cast("QdrantConnectionManager", manager)
        return self._connection

    @property
    def embedding(self) -> EmbeddingModel:
        if self._embedding is None:
            self._embedding = EmbeddingFactory.embedding("default")
        return self._embedding

    def get_vector_db_config(self) -> dict[str, Any]:
        return {
            "type": str(VectorDBType.QDRANT),
            "name": self.name,
            "collection": self.collection,
            "distance": str(self.distance),
            "connection": self.connection.get_connection_info(),
            "embedding": self.embedding.name,
            "provider": self.embedding.provider,
        }

    async def _create_connection(self) -> None:
        """Connect, and check the collection's contract where it exists."""
        await self._read(lambda _: None, None)

    async def _close_connection(self) -> None:
        """Let go of this loop's client; the next operation connects again."""
        if self._connection is not None:
            await self._connection.disconnect()

    async def save_and_embed(self, embedding_type: str | None, docs: "Sequence[Document]") -> list[str]:
        self._check_embedding(embedding_type)
        if not docs:
            return []
        rows = await read_rows(docs)
        vectors = self._directed(await self.embedding.array([row.text for row in rows]))
        embedded_at = utc_now().isoformat()
        for start in range(0, len(rows), BATCH):
            part, part_vectors = rows[start : start + BATCH], vectors[start : start + BATCH]
            await self._write(part_vectors, lambda c, r=part, v=part_vectors: c.upsert(r, v, embedded_at))  # type: ignore[misc]
        return [row.id for row in rows]

    async def update_document(
        self, document_id: str, updated_doc: "Document", embedding_type: str | None = None
    ) -> bool:
        self._check_embedding(embedding_type)
        row = row_of(document_id, updated_doc, row_id=document_id)
        its_rows = document_is(document_id)
        if not await self._read(lambda collection: collection.count(its_rows), 0):
            return False
        vectors = self._directed(await self.embedding.array([row.text]))
        embedded_at = utc_now().isoformat()

        def replace(collection: QdrantCollection) -> bool:
            if not collection.count(its_rows):
                return False
            collection.replace(document_id, [row], vectors, embedded_at)
            return True

        return await self._write(vectors, replace)

    async def re_embed_document(
        self, document_id: str, docs: "Sequence[Document] | None" = None, embedding_type: str | None = None
    ) -> list[str]:
        self._check_embedding(embedding_type)
        if docs is None:
            return await self._embed_anew(document_id)
        if not docs:
            raise InvalidChangeError("there is nothing to replace the document by; use delete_by_document_id")
        rows = await read_rows(docs, document_id)
        vectors = self._directed(await self.embedding.array([row.text for row in rows]))
        embedded_at = utc_now().isoformat()
        await self._write(vectors, lambda collection: collection.replace(document_id, rows, vectors, embedded_at))
        return [row.id for row in rows]

    async def delete_by_document_id(self, document_id: str) -> bool:
        return bool(await self._change(lambda collection: collection.delete_where(document_is(document_id)), 0))

    async def get_document_metadata(self, document_id: str) -> DocumentMetadata | None:
        rows, _ = await self._read(lambda collection: collection.page(document_is(document_id)), _NO_PAGE)
        if not rows:
            return None
        first = min(rows, key=_chunk_index)
        source = str(first.metadata.get("source_path") or first.metadata.get("source") or "")
        return DocumentMetadata(
            document_id=document_id,
            source_path=source,
            file_type=str(first.metadata.get("file_type") or PurePath(source).suffix.removeprefix(".")),
            embedded_at=datetime.fromisoformat(first.embedded_at),
            custom_metadata=first.metadata,
        )

    async def search_similar(self, query: str, k: int = 5, filter_criteria: Filter = None) -> "list[Document]":
        return [document for document, _ in await self.search_with_scores(query, k, filter_criteria)]

    async def search_with_scores(
        self, query: str, k: int = 5, filter_criteria: Filter = None
    ) -> "list[tuple[Document, float]]":
        _check_k(k)
        predicate = to_predicate(filter_criteria)
        return await self._nearest(await self.embedding.query_array(query), k, predicate)

    async def search_by_vector(
        self, vector: Sequence[float], k: int = 5, filter_criteria: Filter = None
    ) -> "list[tuple[Document, float]]":
        _check_k(k)
        predicate = to_predicate(filter_criteria)
        import numpy as np  # noqa: PLC0415 - only those who search need it

        return await self._nearest(np.asarray(vector, dtype=np.float32), k, predicate)

    async def search_diverse(
        self, query: str, k: int = 5, filter_criteria: Filter = None, *, candidates: int = 20, relevance: float = 0.5
    ) -> "list[Document]":
        _check_k(k)
        if not 0 <= relevance <= 1:
            raise InvalidFilterError("relevance lies between 0 and 1")
        predicate = to_predicate(filter_criteria)
        array = await self.embedding.query_array(query)

        def choose(collection: QdrantCollection, vector: list[float], condition: Any) -> list[Found]:
            return collection.search_diverse(
                vector, k, condition, candidates=min(max(candidates, k), _MOST), relevance=relevance
            )

        return [_document(found) for found in await self._search(array, predicate, choose)]

    async def get_by_ids(self, ids: Sequence[str]) -> "list[Document]":
        wanted = list(ids)
        found = await self._read(lambda collection: collection.retrieve(wanted), _NO_ROWS)
        return [_document(each) for each in found]

    async def delete(self, ids: Sequence[str]) -> int:
        wanted = list(ids)
        return await self._change(lambda collection: collection.delete(wanted), 0)

    async def delete_where(self, filter_criteria: Filter, *, everything: bool = False) -> int:
        predicate = to_predicate(filter_criteria)
        if predicate == ALL and not everything:
            raise InvalidFilterError("an empty filter would delete every document; pass everything=True to mean that")
        compiled = compile_filter(predicate)
        if compiled.exact:
            return await self._change(lambda collection: collection.delete_where(compiled.condition), 0, compiled)
        total = 0
        ids = [found.id async for found in self._matching(predicate, compiled)]
        for start in range(0, len(ids), PAGE):
            part = ids[start : start + PAGE]
            total += await self._change(lambda collection, p=part: collection.delete(p, predicate), 0)  # type: ignore[misc]
        return total

    async def count(self, filter_criteria: Filter = None) -> int:
        predicate = to_predicate(filter_criteria)
        compiled = compile_filter(predicate)
        if compiled.exact:
            return await self._read(lambda collection: collection.count(compiled.condition), 0, compiled)
        return len([found async for found in self._matching(predicate, compiled)])

    async def documents(self, filter_criteria: Filter = None) -> "AsyncIterator[Document]":
        predicate = to_predicate(filter_criteria)
        async for found in self._matching(predicate, compile_filter(predicate)):
            yield _document(found)

    async def document_ids(self, filter_criteria: Filter = None) -> AsyncIterator[str]:
        predicate = to_predicate(filter_criteria)
        seen: set[str] = set()
        async for found in self._matching(predicate, compile_filter(predicate)):
            if found.document_id not in seen:
                seen.add(found.document_id)
                yield found.document_id

    async def drop_collection(self) -> bool:
        """Delete the collection with its contract; the next write makes another. False when there is none."""
        engine = await self._connected()
        return await engine.write(lambda collections: collections.drop(self.collection))

    def as_langchain(self) -> "LangChainVectorStore":
        from .langchain import LangChainVectorStore  # noqa: PLC0415 - loads a second of LangChain

        return LangChainVectorStore(self)

    def as_retriever(self, search_kwargs: Mapping[str, Any] | None = None, **options: Any) -> "VectorStoreRetriever":
        return self.as_langchain().as_retriever(search_kwargs=dict(search_kwargs or {}), **options)

    async def _connected(self) -> "QdrantEngine":
        return await self.connection.engine()

    async def _contract(self, dimension: int | None = None) -> CollectionContract:
        await self.embedding.load()
        embedding = self.embedding
        return CollectionContract(embedding.provider, embedding.model, dimension or embedding.dimension, self.distance)

    async def _read(
        self,
        work: Callable[[QdrantCollection], R],
        absent: R,
        compiled: Compiled | None = None,
        *,
        write: bool = False,
    ) -> R:
        contract = await self._contract()
        engine = await self._connected()

        def job(collections: Collections) -> R:
            collection = QdrantCollection.find(collections, self.collection, contract)
            if collection is None:
                return absent
            if compiled is not None:
                collection.index(compiled.ranges)
            return work(collection)

        return await (engine.write(job) if write else engine.read(job))

    async def _change(self, work: Callable[[QdrantCollection], R], absent: R, compiled: Compiled | None = None) -> R:
        """Change what is there; a collection that does not exist has nothing to change."""
        return await self._read(work, absent, compiled, write=True)

    async def _write(self, vectors: "NDArray[np.float32]", work: Callable[[QdrantCollection], R]) -> R:
        contract = await self._contract(vectors.shape[1])
        engine = await self._connected()
        return await engine.write(
            lambda collections: work(QdrantCollection.find_or_make(collections, self.collection, contract))
        )

    async def _nearest(
        self, array: "NDArray[np.float32]", k: int, predicate: Predicate
    ) -> "list[tuple[Document, float]]":
        k = min(k, _MOST)
        found = await self._search(array, predicate, lambda collection, vector, c: collection.search(vector, k, c))
        return [(_document(each), similarity(self.distance, each.score)) for each in found]

    async def _search(
        self,
        array: "NDArray[np.float32]",
        predicate: Predicate,
        search: Callable[[QdrantCollection, list[float], Any], list[Found]],
    ) -> list[Found]:
        """Search within what meets the predicate; where the engine cannot say it, within the rows that do."""
        vector: list[float] = self._directed(array.reshape(1, -1))[0].tolist()
        compiled = compile_filter(predicate)
        condition = compiled.condition
        if not compiled.exact:
            points = {found.point async for found in self._matching(predicate, compiled)}
            if not points:
                return []
            condition = has_ids(points)

        def job(collection: QdrantCollection) -> list[Found]:
            if collection.dimension != len(vector):
                raise DimensionMismatchError(
                    f"the collection {self.collection!r} has vectors of {collection.dimension} dimensions, "
                    f"and the query has {len(vector)}: search with the embedding it was made with"
                )
            found = search(collection, vector, condition)
            if compiled.exact:
                return found
            # Between the two steps another caller may have changed a row.
            return [each for each in found if matches(predicate, each.metadata)]

        return await self._read(job, _NO_ROWS, compiled)

    async def _matching(self, predicate: Predicate, compiled: Compiled) -> AsyncIterator[Found]:
        after: uuid.UUID | None = None
        while True:
            rows, after = await self._read(
                lambda collection, start=after: collection.page(compiled.condition, start),  # type: ignore[misc]
                _NO_PAGE,
                compiled,
            )
            for found in rows:
                if compiled.exact or matches(predicate, found.metadata):
                    yield found
            if after is None:
                return

    async def _embed_anew(self, document_id: str) -> list[str]:
        whole = Compiled(document_is(document_id), exact=True)
        texts = {found.id: found.text async for found in self._matching(ALL, whole)}
        if not texts:
            return []
        vectors = self._directed(await self.embedding.array(list(texts.values())))
        embedded_at = utc_now().isoformat()
        return await self._write(vectors, lambda collection: collection.re_embed(texts, vectors, embedded_at))

    def _check_embedding(self, embedding_type: str | None) -> None:
        own = self.embedding
        if embedding_type is not None and embedding_type not in (own.provider, own.name):
            raise EmbeddingMismatchError(
                f"the store {self.name!r} embeds with {own.provider!r}, and not with {str(embedding_type)!r}: "
                "pass None, or name a store that uses it"
            )

    def _directed(self, array: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Under cosine, unit vectors. The engine leaves short ones as they are, and ranks them wrong."""
        import numpy as np  # noqa: PLC0415 - only those who embed need it

        if not np.isfinite(array).all():
            raise InvalidChangeError("a vector has a number that is not finite")
        if self.distance != Distance.COSINE:
            return array
        lengths = np.linalg.norm(array.astype(np.float64), axis=1, keepdims=True)
        if not (lengths > 0).all():
            raise InvalidChangeError(
                f"vector {int(np.argmin(lengths > 0))} is all zeros, which has no direction for cosine to compare; "
                "leave it out, or use the distance l2"
            )
        directed: NDArray[np.float32] = (array / lengths).astype(np.float32)
        return directed


def _document(found: Found) -> "Document":
    from langchain_core.documents import Document  # noqa: PLC0415 - 0.2 s that only results need

    return Document(id=found.id, page_content=found.text, metadata=found.metadata)


def _chunk_index(found: Found) -> int:
    index = found.metadata.get("chunk_index")
    return index if isinstance(index, int) else 0


def _check_k(k: int) -> None:
    if k < 1:
        raise InvalidFilterError(f"k is the number of documents wanted, at least 1, and not {k}")
