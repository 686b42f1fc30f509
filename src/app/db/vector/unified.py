"""The specification's one interface over all vector engines."""

from typing import TYPE_CHECKING

from ...core.constants import VectorDBType
from ..query import Filter
from .base import VectorDB
from .providers.db_provider import VectorStoreFactory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.documents import Document


class UnifiedVectorStore:
    """Adds to and searches the current DataLayer's store on an engine, or of a name."""

    def __init__(self, backend: str | VectorDBType) -> None:
        self._backend = backend

    @property
    def store(self) -> VectorDB:
        return VectorStoreFactory.get_vector_store(self._backend)

    async def add(self, documents: "Sequence[Document]") -> list[str]:
        return await self.store.save_and_embed(None, documents)

    async def search(self, query: str, k: int = 5, filter_criteria: Filter = None) -> "list[Document]":
        return await self.store.search_similar(query, k, filter_criteria)

    async def delete(self, document_id: str) -> bool:
        return await self.store.delete_by_document_id(document_id)
