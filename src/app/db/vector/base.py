"""What every vector store promises, and how a document is identified."""

# ruff: noqa: ARG002 - the optional methods of a store have their arguments for those who override them

import hashlib
import os
import re
import stat
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ...core.errors import UnsupportedOperationError
from ..query import Filter

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.documents import Document
    from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
    from numpy.typing import NDArray

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CHUNKS = uuid.UUID("6f1c1d5a-3a35-5c0f-9a58-0d9f4d3a7c11")


class VectorDB(ABC):
    """A collection of documents that are found by meaning. Every store connects by itself, on first use.

    A store implements the nine abstract methods; what it cannot do beyond them raises UnsupportedOperationError.
    A document is LangChain's, or anything else with `page_content` and `metadata`. Its row's id is its `id`, else a
    new UUID; the id of the document that the row is a part of is `metadata["document_id"]`, else the row's own id.
    `embedding_type` is a provider's name; None means the store's own, and any other than that is refused.
    """

    @abstractmethod
    def get_vector_db_config(self) -> dict[str, Any]:
        """How the store is set up, with no secret in it."""

    @abstractmethod
    async def _create_connection(self) -> None: ...

    @abstractmethod
    async def _close_connection(self) -> None: ...

    @abstractmethod
    async def save_and_embed(self, embedding_type: str | None, docs: "Sequence[Document]") -> list[str]:
        """Store documents, replacing rows of the same id; return one id per document. A batch in which anything is
        wrong (a value, an empty text, a vector) is refused before any of it is written.
        """

    @abstractmethod
    async def update_document(
        self, document_id: str, updated_doc: "Document", embedding_type: str | None = None
    ) -> bool:
        """Replace all rows of a document by one. The new is written before the old goes; False when absent."""

    @abstractmethod
    async def delete_by_document_id(self, document_id: str) -> bool:
        """Delete every row of a document; True only when something went."""

    @abstractmethod
    async def get_document_metadata(self, document_id: str) -> "DocumentMetadata | None": ...

    @abstractmethod
    async def search_similar(self, query: str, k: int = 5, filter_criteria: Filter = None) -> "list[Document]":
        """The k nearest documents whose metadata meets the filter, best first."""

    @abstractmethod
    def as_retriever(self, search_kwargs: Mapping[str, Any] | None = None, **options: Any) -> "VectorStoreRetriever":
        """A LangChain retriever over this store, for `invoke` and `ainvoke`."""

    async def search_with_scores(
        self, query: str, k: int = 5, filter_criteria: Filter = None, *, min_score: float | None = None
    ) -> "list[tuple[Document, float]]":
        """As `search_similar`, with similarities in [0, 1]: cosine (1 + cos) / 2, L2 1 / (1 + d), inner product
        through the logistic function.
        """
        raise self._unsupported("search_with_scores")

    async def search_by_vector(
        self,
        vector: "Sequence[float] | NDArray[np.float32]",
        k: int = 5,
        filter_criteria: Filter = None,
        *,
        min_score: float | None = None,
    ) -> "list[tuple[Document, float]]":
        raise self._unsupported("search_by_vector")

    async def search_hybrid(
        self,
        query: str,
        k: int = 5,
        filter_criteria: Filter = None,
        *,
        text: str | None = None,
        candidates: int = 50,
    ) -> "list[tuple[Document, float]]":
        """The best by meaning and by words together: of the first `candidates` of each, the k with the most reciprocal
        ranks (1 / (60 + rank), summed), which is the score. `text` are other words than the query's.
        """
        raise self._unsupported("search_hybrid")

    async def search_diverse(
        self, query: str, k: int = 5, filter_criteria: Filter = None, *, candidates: int = 20, relevance: float = 0.5
    ) -> "list[Document]":
        """Choose k of the nearest `candidates` by maximal marginal relevance: 1 is nearness alone, 0 variety alone."""
        raise self._unsupported("search_diverse")

    async def search_diverse_by_vector(
        self,
        vector: "Sequence[float] | NDArray[np.float32]",
        k: int = 5,
        filter_criteria: Filter = None,
        *,
        candidates: int = 20,
        relevance: float = 0.5,
    ) -> "list[Document]":
        raise self._unsupported("search_diverse_by_vector")

    async def add(self, docs: "Sequence[Document]") -> list[str]:
        """Store new documents; DuplicateRecordError, and none is stored, where a row has one of the ids already.

        Two that add the same id at the same moment may both succeed, and the later one stays.
        """
        raise self._unsupported("add")

    async def upsert(self, docs: "Sequence[Document]") -> list[str]:
        """As `save_and_embed`, with the store's own embedding."""
        return await self.save_and_embed(None, docs)

    async def add_vectors(self, docs: "Sequence[Document]", vectors: "NDArray[np.float32]") -> list[str]:
        """Store documents with vectors that were made before, by the store's own model; one for each."""
        raise self._unsupported("add_vectors")

    async def get_by_ids(self, ids: Sequence[str]) -> "list[Document]":
        """The rows with these ids, in the order asked, absent ones left out."""
        raise self._unsupported("get_by_ids")

    async def delete(self, ids: Sequence[str]) -> int:
        """Delete rows; return how many there were."""
        raise self._unsupported("delete")

    async def delete_where(self, filter_criteria: Filter, *, everything: bool = False) -> int:
        """Delete what matches; return how many. A filter that says nothing is refused unless `everything` is set."""
        raise self._unsupported("delete_where")

    async def update_metadata_where(
        self, filter_criteria: Filter, changes: Mapping[str, Any], *, everything: bool = False
    ) -> int:
        """Set keys of the metadata of what matches, and leave texts and vectors; return how many rows matched."""
        raise self._unsupported("update_metadata_where")

    async def count(self, filter_criteria: Filter = None) -> int:
        raise self._unsupported("count")

    def documents(self, filter_criteria: Filter = None) -> "AsyncIterator[Document]":
        """All rows that match, in no order that means anything, read in pages."""
        raise self._unsupported("documents")

    def document_ids(self, filter_criteria: Filter = None) -> AsyncIterator[str]:
        """Each document id once."""
        raise self._unsupported("document_ids")

    def export(self, filter_criteria: Filter = None) -> "AsyncIterator[tuple[list[Document], NDArray[np.float32]]]":
        """All rows that match with their vectors, in pages of some hundreds."""
        raise self._unsupported("export")

    async def re_embed_document(
        self, document_id: str, docs: "Sequence[Document] | None" = None, embedding_type: str | None = None
    ) -> list[str]:
        """Replace all rows of a document by `docs`, or embed its own texts anew. The new is written before the old
        goes; return the ids, which are none when there was nothing to embed.
        """
        raise self._unsupported("re_embed_document")

    async def drop_collection(self) -> bool:
        """Delete the collection with all it holds and its contract; False when there is none."""
        raise self._unsupported("drop_collection")

    def as_langchain(self) -> "VectorStore":
        """This store as a LangChain VectorStore: one object with sync and async methods."""
        raise self._unsupported("as_langchain")

    async def __aenter__(self) -> Self:
        await self._create_connection()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close_connection()

    def _unsupported(self, operation: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(f"{type(self).__name__} cannot do {operation}")


@dataclass
class DocumentMetadata:
    """What is known of a document in a store, and the rules by which documents and their changes are recognised."""

    document_id: str
    source_path: str
    file_type: str
    embedded_at: datetime
    custom_metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create_hash(cls, content: str) -> str:
        """SHA-256 in hex."""
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    @classmethod
    def generate_document_id(cls, source_path: str | os.PathLike[str]) -> str:
        """32 hex digits; the same for every spelling of one path."""
        return cls.create_hash(cls._normalize_source_path(source_path))[:32]

    @classmethod
    def generate_chunk_id(cls, source_path: str | os.PathLike[str], chunk_index: int = 0) -> str:
        """A UUID for the n-th part of a source."""
        return str(uuid.uuid5(_CHUNKS, f"{chunk_index}:{cls.generate_document_id(source_path)}"))

    @classmethod
    def _normalize_source_path(cls, source_path: str | os.PathLike[str]) -> str:
        """URLs and absolute normal paths are themselves; any other path counts from the working directory."""
        source = os.fspath(source_path)
        return source if _URL.match(source) else os.path.abspath(source)  # noqa: PTH100 - pathlib keeps `..`

    @classmethod
    def get_change_detection_info(cls, source_path: str | os.PathLike[str]) -> dict[str, Any]:
        """Facts that differ when a source may have changed, without reading it. `modified_time` and `creation_time`
        are epoch seconds; a missing file has no facts, and is no error.
        """
        source = cls._normalize_source_path(source_path)
        is_url = bool(_URL.match(source))
        info: dict[str, Any] = {
            "source_path": source,
            "source_type": "url" if is_url else "local_file",
            "timestamp": datetime.now(UTC).isoformat(),
        }
        if is_url:
            return info
        try:
            status = os.stat(source)  # noqa: PTH116 - the string is all there is
        except (OSError, ValueError):
            return info
        if stat.S_ISREG(status.st_mode):
            info |= {
                "file_size": status.st_size,
                "modified_time": status.st_mtime,
                "creation_time": getattr(status, "st_birthtime", status.st_ctime),
                "inode": status.st_ino,
            }
        return info

    @classmethod
    def has_changed(cls, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        """Whether two answers of `get_change_detection_info` differ in more than when they were asked."""
        return {**old, "timestamp": None} != {**new, "timestamp": None}
