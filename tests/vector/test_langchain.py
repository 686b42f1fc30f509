"""LangChain's own tests over every engine, and what they do not ask."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from app.core.errors import ConfigurationError, InvalidFilterError
from app.db.vector.langchain import LangChainVectorStore
from app.db.vector.portal import wait
from app.db.vector.store import CollectionVectorStore

from .places import PLACES, Place
from .planned import Planned, doc


def leave(place: Place) -> None:
    wait(place.manager.disconnect())  # what sync methods opened; that of a test's loop closes with it
    if not place.manager.closes_with_loop:
        place.manager.abandon()


class TestLangChainsOwn(VectorStoreIntegrationTests):
    @pytest.fixture(params=PLACES)
    def vectorstore(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
        place = PLACES[request.param](request, tmp_path)
        yield place.store(self.get_embeddings()).as_langchain()
        leave(place)


class TestLangChainsOwnForRetrievers(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True, params=PLACES)
    def filled(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
        place = PLACES[request.param](request, tmp_path)
        self._store = place.store(Planned())
        self._store.as_langchain().add_texts([f"text {n}" for n in range(5)])
        yield
        leave(place)

    @property
    def retriever_constructor(self) -> Any:
        """As applications make it; a retriever over a store has k among its options for searching."""
        return lambda k=4: self._store.as_retriever(search_kwargs={"k": k})

    @property
    def retriever_query_example(self) -> str:
        return "text 3"


@pytest.fixture
async def filled(store: CollectionVectorStore) -> CollectionVectorStore:
    planned = {"east": [1, 0, 0, 0], "north": [0, 1, 0, 0], "north-east": [1, 1, 0, 0], "west": [-1, 0, 0, 0]}
    embeddings = store.embedding.langchain
    assert isinstance(embeddings, Planned)
    embeddings.vectors.update(planned)
    await store.save_and_embed(None, [doc(text, {"n": n}, text) for n, text in enumerate(planned)])
    return store


async def test_a_retriever_works_with_invoke_and_ainvoke(filled: CollectionVectorStore) -> None:
    retriever = filled.as_retriever(search_kwargs={"k": 2})
    expected = ["east", "north-east"]
    assert [each.id for each in await retriever.ainvoke("east")] == expected
    assert [each.id for each in retriever.invoke("east")] == expected
    assert [each.id for each in await asyncio.to_thread(retriever.invoke, "east")] == expected


async def test_a_retriever_filters_with_our_language(filled: CollectionVectorStore) -> None:
    retriever = filled.as_retriever(search_kwargs={"k": 4, "filter": {"n": {"$gte": 2}}})
    assert [each.id for each in await retriever.ainvoke("east")] == ["north-east", "west"]
    with pytest.raises(InvalidFilterError):
        await filled.as_retriever(search_kwargs={"filter": {"n": {"$near": 2}}}).ainvoke("east")


async def test_a_retriever_with_a_threshold_takes_our_scores(filled: CollectionVectorStore) -> None:
    retriever = filled.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"k": 4, "score_threshold": 0.8}
    )
    assert [each.id for each in await retriever.ainvoke("east")] == ["east", "north-east"]
    assert [each.id for each in retriever.invoke("east")] == ["east", "north-east"]
    adapter = filled.as_langchain()
    for found in (
        await adapter.asimilarity_search("east", score_threshold=0.8),
        await adapter.asimilarity_search_by_vector([1.0, 0.0, 0.0, 0.0], score_threshold=0.8),
        [each for each, _ in adapter.similarity_search_with_relevance_scores("east", score_threshold=0.8)],
    ):
        assert [each.id for each in found] == ["east", "north-east"]


async def test_maximal_marginal_relevance_prefers_variety(filled: CollectionVectorStore) -> None:
    retriever = filled.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 4, "lambda_mult": 0.1})
    assert [each.id for each in await retriever.ainvoke("east")] == ["east", "west"]
    assert [each.id for each in retriever.invoke("east")] == ["east", "west"]
    near = filled.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 4, "lambda_mult": 1.0})
    assert [each.id for each in await near.ainvoke("east")] == ["east", "north-east"]


@pytest.mark.parametrize("name", PLACES)
def test_sync_methods_work_from_many_threads_without_a_loop(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = PLACES[name](request, tmp_path)
    adapter = place.store(Planned()).as_langchain()
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda n: adapter.add_texts([f"text {n}"], ids=[str(n)]), range(64)))
    assert ids == [[str(n)] for n in range(64)]
    assert len(adapter.similarity_search("q", k=100)) == 64
    asyncio.run(place.manager.close())


async def test_by_vector_and_from_texts(filled: CollectionVectorStore) -> None:
    adapter = filled.as_langchain()
    assert [each.id for each in adapter.similarity_search_by_vector([0.0, 1.0, 0.0, 0.0], k=1)] == ["north"]
    nearest = adapter.max_marginal_relevance_search_by_vector([1.0, 0.1, 0.0, 0.0], k=2, fetch_k=4, lambda_mult=0.1)
    assert [each.id for each in nearest] == ["east", "west"]
    more = await LangChainVectorStore.afrom_texts(
        ["south"], filled.embedding.langchain, [{"n": 9}], ids=["south"], store=filled
    )
    assert await more.aget_by_ids(["south"]) == [Document(page_content="south", metadata={"n": 9}, id="south")]
    with pytest.raises(ConfigurationError, match="its own model"):
        LangChainVectorStore.from_texts(["x"], Planned(), store=filled)


async def test_delete_without_ids_or_filter_is_refused(filled: CollectionVectorStore) -> None:
    adapter = filled.as_langchain()
    with pytest.raises(InvalidFilterError, match="everything=True"):
        await adapter.adelete()
    await adapter.adelete(filter={"n": 0})
    assert await filled.count() == 3
    await adapter.adelete(everything=True)
    assert await filled.count() == 0


async def test_ids_and_metadatas_of_other_lengths_are_refused(filled: CollectionVectorStore) -> None:
    adapter = filled.as_langchain()
    with pytest.raises(ConfigurationError, match="2 documents and 1 ids"):
        await adapter.aadd_texts(["a", "b"], ids=["1"])
    with pytest.raises(ConfigurationError, match="2 texts and 1 metadatas"):
        await adapter.aadd_texts(["a", "b"], [{}])
    assert await filled.count() == 4
