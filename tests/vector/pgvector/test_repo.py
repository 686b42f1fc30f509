"""The specification's repository of vectors that are made elsewhere."""

import pytest
from langchain_core.documents import Document

from app.connections.postgres import PostgresConnectionManager
from app.core.constants import Distance
from app.core.errors import ConfigurationError, DimensionMismatchError, EmbeddingMismatchError, InvalidChangeError
from app.db.repositories.pgvector_repo import PgVectorRepository
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.pgvector import PgVectorStore

from ..planned import Planned, doc

REPOSITORY = "documents"


async def test_the_specifications_repository(manager: PostgresConnectionManager) -> None:
    repo = PgVectorRepository(connection=manager)
    await repo.create_collection(collection_name=REPOSITORY, embedding_dimension=3)
    documents = [Document(page_content="content", metadata={"key": "value"}), doc("other", {"key": "no"})]
    ids = await repo.add_documents(
        collection_name=REPOSITORY, documents=documents, embeddings=[[1, 0, 0], [0, 1, 0]], ids=["doc1", "doc2"]
    )
    assert ids == ["doc1", "doc2"]
    [found] = await repo.search_similar(REPOSITORY, [1, 0.1, 0], k=5, filter_criteria={"key": "value"})
    assert (found.id, found.page_content) == ("doc1", "content")
    assert await repo.update_document(REPOSITORY, "doc1", doc("new", {"key": "value"}), [0, 0, 1])
    assert not await repo.update_document(REPOSITORY, "absent", doc("new"), [0, 0, 1])
    [(found, score)] = await repo.search_with_scores(REPOSITORY, [0, 0, 1], k=1)
    assert (found.page_content, round(score, 3)) == ("new", 1.0)
    about = await repo.get_document_metadata(REPOSITORY, "doc1")
    assert about is not None
    assert about.custom_metadata == {"key": "value"}
    assert await repo.delete_document(REPOSITORY, "doc1")
    assert not await repo.delete_document(REPOSITORY, "doc1")


async def test_the_repository_refuses_what_does_not_fit(manager: PostgresConnectionManager) -> None:
    repo = PgVectorRepository(manager)
    with pytest.raises(ConfigurationError, match="create_collection"):
        await repo.search_similar("absent", [1, 0])
    await repo.create_collection("c", 2, distance=Distance.L2)
    with pytest.raises(DimensionMismatchError, match=r"2 dimensions.*3"):
        await repo.create_collection("c", 3, distance=Distance.L2)
    for documents, embeddings, ids in (
        ([doc("a")], [[1, 0], [0, 1]], None),
        ([doc("a")], [[1, 0]], ["1", "2"]),
    ):
        with pytest.raises(InvalidChangeError, match="one is needed for each"):
            await repo.add_documents("c", documents, embeddings, ids)
    with pytest.raises(DimensionMismatchError):
        await repo.add_documents("c", [doc("a"), doc("b")], [[1, 0], [1]])
    with pytest.raises(DimensionMismatchError):
        await repo.add_documents("c", [doc("a")], [[1, 0, 0]])
    with pytest.raises(ConfigurationError, match="hnsw"):
        await repo.create_collection("d", 2, index="flat")
    # A repository that did not make it measures as it was made.
    await repo.add_documents("c", [doc("a", row_id="a")], [[3, 0]])
    [(_, score)] = await PgVectorRepository(manager).search_with_scores("c", [0, 0])
    assert score == pytest.approx(1 / 4)


async def test_an_ivfflat_index_with_the_collection(manager: PostgresConnectionManager) -> None:
    await PgVectorRepository(manager).create_collection("c", 4, index="ivfflat", lists=100)
    [[definition]] = await manager.execute_query("SELECT pg_get_indexdef('c_embedding_idx'::regclass)")
    assert "ivfflat" in definition
    assert "lists='100'" in definition


async def test_vectors_of_the_repository_get_an_embedding_with_the_first_store_that_writes(
    manager: PostgresConnectionManager,
) -> None:
    await PgVectorRepository(manager).create_collection("c", 4)
    store = PgVectorStore(manager, EmbeddingModel.of(Planned()), collection="c")
    assert await store.count() == 0
    await store.upsert([doc("x")])
    other = Planned()
    other.model = "another"
    with pytest.raises(EmbeddingMismatchError):
        await PgVectorStore(manager, EmbeddingModel.of(other), collection="c").count()
