"""A vector store, whatever the engine: documents in, rows and vectors to the engine, documents out."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ...connections.base import ConnectionManager
from ...connections.factory import ConnectionFactory
from ...core.constants import ConnectionType, Distance, VectorDBType
from ...core.errors import (
    ConfigurationError,
    DimensionMismatchError,
    DuplicateRecordError,
    InvalidChangeError,
    InvalidFilterError,
)
from ..models.values import utc_now
from ..query import ALL, Filter, Predicate, to_predicate
from ..query.predicates import always
from .arguments import check_embedding, check_ids, check_search
from .base import DocumentMetadata, VectorDB
from .contract import STAGED, CollectionContract, contract_of, staged_name
from .documents import documents_of, metadata_of, with_ids
from .embeddings.model import EmbeddingModel, check_embeddable
from .engine import Asked, Found, VectorEngine
from .payload import check_metadata, read_rows, row_of
from .providers.embedding_provider import EmbeddingFactory
from .similarity import as_array, directed, directed_one, diverse, similarities

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStoreRetriever
    from numpy.typing import NDArray

    from .langchain import LangChainVectorStore

_FEW: Final = 100_000
"""Numbers of vectors up to which a thread takes more than it frees the event loop of."""


class CollectionVectorStore(VectorDB):
    """One collection on one engine. It is made by the first write; until then reading finds nothing.

    Without a connection or an embedding they are the current DataLayer's. A vector of zeros has no direction, so
    under cosine it is refused. `recall` is the share of the true neighbours that a search should find, where the engine
    has an index that may miss some; `filterable` are paths in the metadata to be indexed for equality.
    """

    engine_type: ClassVar[VectorDBType]
    connection_type: ClassVar[ConnectionType]

    def __init__(
        self,
        connection: ConnectionManager[Any] | None = None,
        embedding: "EmbeddingModel | Embeddings | None" = None,
        *,
        name: str | None = None,
        collection: str = "documents",
        distance: Distance = Distance.COSINE,
        recall: float = 0.95,
        filterable: Sequence[str] = (),
    ) -> None:
        if not 0 < recall <= 1:
            raise ConfigurationError(f"recall is a share, above 0 and up to 1, and not {recall:g}")
        self.recall = recall
        self.filterable = tuple(filterable)
        for path in self.filterable:
            to_predicate({path: None})  # refuses what is no path
        if collection.endswith(STAGED):
            raise ConfigurationError(
                f"{collection!r}: names that end in {STAGED!r} are those of unfinished collections"
            )
        self.name = name or collection
        self.collection = self.check_collection(collection)
        self.chunker: str | None = None
        """The rules by which what is written is cut, where it is; a collection that is made remembers them."""
        self._asked: Asked | None = None
        self.distance = Distance(distance)
        self._connection = connection
        self._embedding = embedding if isinstance(embedding, EmbeddingModel | None) else EmbeddingModel.of(embedding)

    @staticmethod
    @abstractmethod
    def check_collection(name: str) -> str:
        """The name, if the engine can have a collection of it; ConfigurationError otherwise."""

    @abstractmethod
    def _engine(self, manager: Any) -> VectorEngine: ...

    @property
    def connection(self) -> ConnectionManager[Any]:
        if self._connection is None:
            self._connection = ConnectionFactory.get_connection_manager(self.connection_type)
        return self._connection

    @cached_property
    def engine(self) -> VectorEngine:
        return self._engine(self.connection)

    async def _ready(self) -> VectorEngine:
        """The engine; the first time its driver is imported off the loop, which takes up to two seconds."""
        if "engine" not in vars(self):
            await asyncio.to_thread(self._load, self.connection)
        return self.engine

    def _load(self, manager: ConnectionManager[Any]) -> None:
        from langchain_core.documents import Document  # noqa: F401, PLC0415 - what answers are made of

        self._engine(manager)

    @property
    def embedding(self) -> EmbeddingModel:
        if self._embedding is None:
            self._embedding = EmbeddingFactory.embedding("default")
        return self._embedding

    def get_vector_db_config(self) -> dict[str, Any]:
        return {
            "type": str(self.engine_type),
            "name": self.name,
            "collection": self.collection,
            "distance": str(self.distance),
            "connection": self.connection.get_connection_info(),
            "embedding": self.embedding.name,
            "provider": self.embedding.provider,
        }

    async def _create_connection(self) -> None:
        """Connect, and check the collection's contract where it exists."""
        await (await self._ready()).open()

    async def _close_connection(self) -> None:
        """Let go of this loop's client; the next operation connects again."""
        if self._connection is not None:
            await self._connection.disconnect()

    async def save_and_embed(self, embedding_type: str | None, docs: "Sequence[Document]") -> list[str]:
        check_embedding(self.embedding, embedding_type, self.name)
        if not docs:
            return []
        rows = await read_rows(docs)
        await (await self._ready()).upsert(rows, await self._embed([row.text for row in rows]), _now())
        return [row.id for row in rows]

    async def add(self, docs: "Sequence[Document]") -> list[str]:
        rows = await read_rows(docs)
        taken = await (await self._ready()).retrieve([row.id for row in rows])
        if taken or len({row.id for row in rows}) < len(rows):
            raise DuplicateRecordError(self.collection, ("id",))
        return await self.save_and_embed(None, with_ids(docs, [row.id for row in rows]))

    async def add_vectors(self, docs: "Sequence[Document]", vectors: "NDArray[np.float32]") -> list[str]:
        if len(docs) != len(vectors):
            raise InvalidChangeError(f"{len(docs)} documents and {len(vectors)} vectors: one is needed for each")
        if not docs:
            return []
        rows = await read_rows(docs)
        array = await self._directed(as_array(vectors, 2))
        asked = await self._contract()
        if asked.dimension not in (None, array.shape[1]):
            raise DimensionMismatchError(
                f"the vectors have {array.shape[1]} dimensions, and {asked.embedding} makes {asked.dimension}"
            )
        await (await self._ready()).upsert(rows, array, _now())
        return [row.id for row in rows]

    async def update_document(
        self, document_id: str, updated_doc: "Document", embedding_type: str | None = None
    ) -> bool:
        check_embedding(self.embedding, embedding_type, self.name)
        row = row_of(document_id, updated_doc, row_id=document_id)
        async for _ in (await self._ready()).pages(ALL, document_id=document_id):
            break
        else:
            return False
        return await (await self._ready()).replace(
            document_id, [row], await self._embed([row.text]), _now(), only_present=True
        )

    async def re_embed_document(
        self, document_id: str, docs: "Sequence[Document] | None" = None, embedding_type: str | None = None
    ) -> list[str]:
        check_embedding(self.embedding, embedding_type, self.name)
        if docs is None:
            return await self._embed_anew(document_id)
        if not docs:
            raise InvalidChangeError("there is nothing to replace the document by; use delete_by_document_id")
        rows = await read_rows(docs, document_id)
        await (await self._ready()).replace(document_id, rows, await self._embed([row.text for row in rows]), _now())
        return [row.id for row in rows]

    async def delete_by_document_id(self, document_id: str) -> bool:
        return bool(check_ids([document_id])) and bool(await (await self._ready()).delete_document(document_id))

    async def get_document_metadata(self, document_id: str) -> DocumentMetadata | None:
        rows = await self._rows_of(document_id)
        return metadata_of(document_id, rows) if rows else None

    async def search_similar(
        self, query: str, k: int = 5, filter_criteria: Filter = None, *, min_score: float | None = None
    ) -> "list[Document]":
        found = await self.search_with_scores(query, k, filter_criteria, min_score=min_score)
        return [document for document, _ in found]

    async def search_with_scores(
        self, query: str, k: int = 5, filter_criteria: Filter = None, *, min_score: float | None = None
    ) -> "list[tuple[Document, float]]":
        predicate = check_search(k, filter_criteria, min_score=min_score)
        return await self._nearest(await self.embedding.query_array(query), k, predicate, min_score)

    async def search_by_vector(
        self,
        vector: "Sequence[float] | NDArray[np.float32]",
        k: int = 5,
        filter_criteria: Filter = None,
        *,
        min_score: float | None = None,
    ) -> "list[tuple[Document, float]]":
        return await self._nearest(vector, k, check_search(k, filter_criteria, min_score=min_score), min_score)

    async def search_diverse(
        self, query: str, k: int = 5, filter_criteria: Filter = None, *, candidates: int = 20, relevance: float = 0.5
    ) -> "list[Document]":
        predicate = check_search(k, filter_criteria, candidates=candidates, relevance=relevance)
        vector = await self.embedding.query_array(query)
        return await self._diverse(vector, k, predicate, candidates, relevance)

    async def search_diverse_by_vector(
        self,
        vector: "Sequence[float] | NDArray[np.float32]",
        k: int = 5,
        filter_criteria: Filter = None,
        *,
        candidates: int = 20,
        relevance: float = 0.5,
    ) -> "list[Document]":
        predicate = check_search(k, filter_criteria, candidates=candidates, relevance=relevance)
        return await self._diverse(vector, k, predicate, candidates, relevance)

    async def search_hybrid(
        self,
        query: str,
        k: int = 5,
        filter_criteria: Filter = None,
        *,
        text: str | None = None,
        candidates: int = 50,
    ) -> "list[tuple[Document, float]]":
        predicate = check_search(k, filter_criteria, candidates=candidates)
        check_embeddable([query if text is None else text])
        vector = self._query(await self.embedding.query_array(query))
        engine = await self._ready()
        number = min(max(candidates, k), engine.most)
        found = await engine.hybrid(vector, text or query, min(k, number), predicate, candidates=number)
        return list(zip(documents_of(found), [each.score for each in found], strict=True))

    async def get_by_ids(self, ids: Sequence[str]) -> "list[Document]":
        return documents_of(await (await self._ready()).retrieve(check_ids(ids)))

    async def delete(self, ids: Sequence[str]) -> int:
        return await (await self._ready()).delete(list(dict.fromkeys(check_ids(ids))))

    async def delete_where(self, filter_criteria: Filter, *, everything: bool = False) -> int:
        predicate = to_predicate(filter_criteria)
        if always(predicate) and not everything:
            raise InvalidFilterError("an empty filter would delete every document; pass everything=True to mean that")
        return await (await self._ready()).delete_where(predicate)

    async def update_metadata_where(
        self, filter_criteria: Filter, changes: Mapping[str, Any], *, everything: bool = False
    ) -> int:
        predicate = to_predicate(filter_criteria)
        if always(predicate) and not everything:
            raise InvalidFilterError("an empty filter would change every document; pass everything=True to mean that")
        checked = check_metadata(changes)
        if "document_id" in checked:
            raise InvalidChangeError("document_id says which document a row is a part of, and cannot be changed")
        return await (await self._ready()).update_metadata(predicate, checked) if checked else 0

    async def count(self, filter_criteria: Filter = None) -> int:
        return await (await self._ready()).count(to_predicate(filter_criteria))

    async def documents(self, filter_criteria: Filter = None) -> "AsyncIterator[Document]":
        async for page in (await self._ready()).pages(to_predicate(filter_criteria)):
            for document in documents_of(page):
                yield document

    async def document_ids(self, filter_criteria: Filter = None) -> AsyncIterator[str]:
        seen: set[str] = set()
        async for page in (await self._ready()).pages(to_predicate(filter_criteria)):
            for found in page:
                if found.document_id not in seen:
                    seen.add(found.document_id)
                    yield found.document_id

    async def export(
        self, filter_criteria: Filter = None
    ) -> "AsyncIterator[tuple[list[Document], NDArray[np.float32]]]":
        import numpy as np  # noqa: PLC0415

        async for page in (await self._ready()).pages(to_predicate(filter_criteria), vectors=True):
            yield documents_of(page), np.stack([f.vector for f in page if f.vector is not None])

    async def drop_collection(self) -> bool:
        """Delete the collection with its contract, and one that was being made to take its place; the next write makes
        another. False when there is none.
        """
        staged = self.engine_on(staged_name(self.collection), self._contract)
        known = await staged.contract()
        if known is not None and known.replaces == self.collection:
            await staged.drop()
        return await (await self._ready()).drop()

    def as_langchain(self) -> "LangChainVectorStore":
        from .langchain import LangChainVectorStore  # noqa: PLC0415 - loads a second of LangChain

        return LangChainVectorStore(self)

    def as_retriever(self, search_kwargs: Mapping[str, Any] | None = None, **options: Any) -> "VectorStoreRetriever":
        return self.as_langchain().as_retriever(search_kwargs=dict(search_kwargs or {}), **options)

    def engine_on(self, collection: str, asked: Asked) -> VectorEngine:
        """Another engine as this store has it: on a collection of that name, which is asked for another contract."""
        other = copy(self)
        vars(other).pop("engine", None)
        other.collection, other._asked = collection, asked  # noqa: SLF001 - a copy of this
        return other.engine

    async def _contract(self, dimension: int | None = None) -> CollectionContract:
        if self._asked is not None:
            return await self._asked(dimension)
        await self.embedding.load()
        embedding = self.embedding
        return contract_of(
            embedding.provider,
            embedding.model,
            dimension or embedding.dimension,
            self.distance,
            chunker=self.chunker,
            store=self.name,
            entry=embedding.name,
        )

    async def _embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        return await self._directed(await self.embedding.array(texts))

    async def _embed_anew(self, document_id: str) -> list[str]:
        texts = {found.id: found.text for found in await self._rows_of(document_id)}
        if not texts:
            return []
        return await (await self._ready()).re_embed(texts, await self._embed(list(texts.values())), _now())

    def _query(self, vector: "Sequence[float] | NDArray[np.float32]") -> "NDArray[np.float32]":
        return directed_one(self.distance, as_array(vector, 1))

    async def _directed(self, array: "NDArray[np.float32]") -> "NDArray[np.float32]":
        if array.size <= _FEW:
            return directed(self.distance, array)
        return await asyncio.to_thread(directed, self.distance, array)

    async def _rows_of(self, document_id: str) -> list[Found]:
        if not check_ids([document_id]):
            return []
        return [found async for page in (await self._ready()).pages(ALL, document_id=document_id) for found in page]

    async def _nearest(
        self, vector: "Sequence[float] | NDArray[np.float32]", k: int, predicate: Predicate, min_score: float | None
    ) -> "list[tuple[Document, float]]":
        engine: VectorEngine = vars(self).get("engine") or await self._ready()
        found = await engine.nearest(self._query(vector), min(k, engine.most), predicate)
        scores = similarities(self.distance, [each.score for each in found])
        scored = list(zip(documents_of(found), scores, strict=True))
        return scored if min_score is None else [each for each in scored if each[1] >= min_score]

    async def _diverse(
        self,
        given: "Sequence[float] | NDArray[np.float32]",
        k: int,
        predicate: Predicate,
        candidates: int,
        relevance: float,
    ) -> "list[Document]":
        import numpy as np  # noqa: PLC0415 - only those who search need it

        vector = self._query(given)
        engine = await self._ready()
        found = await engine.nearest(vector, min(max(candidates, k), engine.most), predicate, vectors=True)
        vectors = np.array([each.vector for each in found]).reshape(-1, len(vector))
        places = diverse(self.distance, vector, vectors, k, relevance)
        return documents_of(found[place] for place in places)


def _now() -> str:
    return utc_now().isoformat()
