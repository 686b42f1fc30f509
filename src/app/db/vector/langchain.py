"""A vector store of ours as LangChain's: one object with sync and async methods."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from ...core.errors import ConfigurationError
from ..query import Filter
from .base import VectorDB
from .portal import wait

_FILTERS: Final = frozenset({"filter", "filter_criteria"})
_SEARCH: Final = _FILTERS | {"k", "score_threshold", "fetch_k", "lambda_mult"}
_RETRIEVER: Final = frozenset({"search_type", "search_kwargs", "tags", "metadata", "name"})


class LangChainVectorStore(VectorStore):
    """LangChain's interface over any VectorDB.

    The sync methods run on a loop of their own in another thread, so they may be called from anywhere, also from
    inside a running loop (which they block, as every sync method does). `filter` (or `filter_criteria`) takes the
    filter language, `score_threshold` a similarity. What is no option is refused: a misspelt filter would find all.
    """

    def __init__(self, store: VectorDB) -> None:
        self.store = store

    @property
    def embeddings(self) -> Embeddings | None:
        model = getattr(self.store, "embedding", None)
        return getattr(model, "langchain", None)

    # Async: the real ones.

    async def aadd_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        _check(kwargs, {"ids", "batch_size"})  # LangChain's indexing gives its own batch size
        return await self.store.save_and_embed(None, _with_ids(documents, kwargs.get("ids")))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        return await self.aadd_documents(_documents(texts, metadatas), ids=ids, **kwargs)

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Delete by ids, or by `filter`; without either everything goes only when `everything=True` says so."""
        everything = kwargs.pop("everything", False)
        filter_ = _filter(kwargs)
        if ids is None:
            await self.store.delete_where(filter_, everything=everything is True)
        elif filter_ is not None or everything:
            raise ConfigurationError("pass ids or a filter, and not both")
        else:
            await self.store.delete(ids)
        return True

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return await self.store.get_by_ids(ids)

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        if "score_threshold" not in kwargs:
            return await self.store.search_similar(query, k, _filter(kwargs))
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Scores are similarities in [0, 1], the same as LangChain's relevance scores."""
        least = kwargs.pop("score_threshold", None)
        return await self.store.search_with_scores(query, k, _filter(kwargs), min_score=least)

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        least = kwargs.pop("score_threshold", None)
        found = await self.store.search_by_vector(embedding, k, _filter(kwargs), min_score=least)
        return [document for document, _ in found]

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return await self.store.search_diverse(query, k, _filter(kwargs), candidates=fetch_k, relevance=lambda_mult)

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return await self.store.search_diverse_by_vector(
            embedding, k, _filter(kwargs), candidates=fetch_k, relevance=lambda_mult
        )

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return await self.asimilarity_search_with_score(query, k, **kwargs)

    # Sync: the same on another thread.

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        return wait(self.aadd_documents(documents, **kwargs))

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        return wait(self.aadd_texts(texts, metadatas, ids=ids, **kwargs))

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        return wait(self.adelete(ids, **kwargs))

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return wait(self.aget_by_ids(ids))

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return wait(self.asimilarity_search(query, k, **kwargs))

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        return wait(self.asimilarity_search_with_score(query, k, **kwargs))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return wait(self.asimilarity_search_by_vector(embedding, k, **kwargs))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return wait(self.amax_marginal_relevance_search(query, k, fetch_k, lambda_mult, **kwargs))

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return wait(self.amax_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, **kwargs))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return self.similarity_search_with_score(query, k, **kwargs)

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        _check(kwargs, _RETRIEVER)
        _check(kwargs.get("search_kwargs", {}), _SEARCH)
        _filter({name: value for name, value in kwargs.get("search_kwargs", {}).items() if name in _FILTERS})
        return super().as_retriever(**kwargs)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> "LangChainVectorStore":
        """Add texts to `store=`, which embeds with its own model; another `embedding` is refused."""
        adapter = cls._over(embedding, kwargs)
        adapter.add_texts(texts, metadatas, ids=ids)
        return adapter

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> "LangChainVectorStore":
        adapter = cls._over(embedding, kwargs)
        await adapter.aadd_texts(texts, metadatas, ids=ids)
        return adapter

    @classmethod
    def _over(cls, embedding: Embeddings, options: Mapping[str, Any]) -> "LangChainVectorStore":
        _check(options, {"store"})
        store = options.get("store")
        if not isinstance(store, VectorDB):
            raise ConfigurationError(
                "pass store=, the VectorDB that the texts go into, such as data.vector_store(name)"
            )
        adapter = cls(store)
        if embedding is not adapter.embeddings:
            raise ConfigurationError("the store embeds with its own model: pass `store.embedding.langchain`")
        return adapter


def _documents(texts: Iterable[str], metadatas: Sequence[dict[str, Any]] | None) -> list[Document]:
    texts = list(texts)
    if metadatas is not None and len(metadatas) != len(texts):
        raise ConfigurationError(f"{len(texts)} texts and {len(metadatas)} metadatas: one is needed for each")
    return [
        Document(page_content=text, metadata=metadata)
        for text, metadata in zip(texts, metadatas or [{}] * len(texts), strict=True)
    ]


def _with_ids(documents: Sequence[Document], ids: Sequence[str | None] | None) -> Sequence[Document]:
    if ids is None:
        return documents
    if len(ids) != len(documents):
        raise ConfigurationError(f"{len(documents)} documents and {len(ids)} ids: one is needed for each")
    return [
        Document(
            page_content=document.page_content, metadata=document.metadata, id=document.id if given is None else given
        )
        for document, given in zip(documents, ids, strict=True)
    ]


def _filter(options: Mapping[str, Any]) -> Filter:
    """The one filter of a search that has no other options left."""
    _check(options, _FILTERS)
    if len(options) > 1:
        raise ConfigurationError("pass filter or filter_criteria, and not both")
    given: Filter = next(iter(options.values()), None)
    return given


def _check(options: Mapping[str, Any], known: AbstractSet[str]) -> None:
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigurationError(f"there is no option {', '.join(unknown)} here, but {', '.join(sorted(known))}")
