"""The specification's samples of vector stores, on each engine of the specification and by its own names."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from langchain_core.documents import Document

from app.core.constants import EmbeddingType, VectorDBType
from app.core.errors import EmbeddingMismatchError
from app.db import DataLayer
from app.db.repositories.pgvector_repo import PgVectorRepository
from app.db.vector.base import DocumentMetadata, VectorDB
from app.db.vector.embeddings.embedding import EmbeddingFactory
from app.db.vector.providers.db_provider import VectorDBRegistry, VectorStoreFactory
from app.db.vector.unified import UnifiedVectorStore

SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    (VectorDB.get_vector_db_config, ""),
    (VectorDB._create_connection, ""),
    (VectorDB._close_connection, ""),
    (VectorDB.save_and_embed, "embedding_type docs"),
    (VectorDB.update_document, "document_id updated_doc embedding_type"),
    (VectorDB.delete_by_document_id, "document_id"),
    (VectorDB.get_document_metadata, "document_id"),
    (VectorDB.search_similar, "query k filter_criteria"),
    (VectorDB.as_retriever, "search_kwargs"),
    (PgVectorRepository, "connection"),
    (PgVectorRepository.create_collection, "collection_name embedding_dimension"),
    (PgVectorRepository.add_documents, "collection_name documents embeddings ids"),
    (PgVectorRepository.update_document, "collection_name document_id document embedding"),
    (PgVectorRepository.search_similar, "collection_name query_embedding k filter_criteria"),
    (PgVectorRepository.delete_document, "collection_name document_id"),
    (PgVectorRepository.get_document_metadata, "collection_name document_id"),
    (DocumentMetadata, "document_id source_path file_type embedded_at custom_metadata"),
    (DocumentMetadata.create_hash, "content"),
    (DocumentMetadata.get_change_detection_info, "source_path"),
    (DocumentMetadata.generate_document_id, "source_path"),
    (EmbeddingFactory.register, "name"),
    (EmbeddingFactory.get_embedding_model, "embedding_type embedding_config"),
    (UnifiedVectorStore, "backend"),
    (UnifiedVectorStore.add, "documents"),
]


@pytest.mark.parametrize(("described", "names"), SIGNATURES, ids=lambda each: getattr(each, "__qualname__", ""))
def test_arguments_have_their_names_and_order(described: Callable[..., Any], names: str) -> None:
    parameters = [name for name in inspect.signature(described).parameters if name != "self"]
    assert parameters[: len(names.split())] == names.split()


@pytest.fixture(params=list(VectorDBType), ids=str)
def engine(request: pytest.FixtureRequest) -> VectorDBType:
    return VectorDBType(request.param)


@pytest.fixture
def connections(engine: VectorDBType, request: pytest.FixtureRequest) -> dict[str, Any]:
    if engine is VectorDBType.QDRANT:
        return {"qdrant": {"url": "embedded"}}
    if engine is VectorDBType.CHROMADB:
        return {"chromadb": {}}
    server: str = request.getfixturevalue("postgres_server")
    schema = f"vectors_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return {"postgres": {"url": f"{server}&options={quote(f'-c search_path={schema}', safe='')}"}}


async def test_the_sample(engine: VectorDBType, connections: dict[str, Any], tmp_path: Path) -> None:
    async with DataLayer.from_config(
        {"data_dir": str(tmp_path), "connections": connections, "repositories": {}, "vector_stores": {}}
    ):
        vector_store = VectorStoreFactory.get_vector_store(engine)
        assert type(vector_store) is VectorDBRegistry.get(engine)
        await vector_store._create_connection()
        docs = [
            Document(page_content="Document 1", metadata={"source": "doc1.pdf"}),
            Document(page_content="Document 2", metadata={"source": "doc2.pdf"}),
        ]
        first, second = await vector_store.save_and_embed(embedding_type=EmbeddingType.WORDLLAMA, docs=docs)
        with pytest.raises(EmbeddingMismatchError):
            await vector_store.save_and_embed(embedding_type=EmbeddingType.OPENAI, docs=docs)
        results = await vector_store.search_similar(query="search query", k=5, filter_criteria={"source": "doc1.pdf"})
        assert [each.id for each in results] == [first]
        retriever = vector_store.as_retriever(search_kwargs={"k": 5})
        assert {each.id for each in await retriever.ainvoke("Document")} == {first, second}
        assert {each.id for each in retriever.invoke("Document")} == {first, second}
        known = await vector_store.get_document_metadata(first)
        assert known is not None
        assert (known.document_id, known.source_path, known.file_type) == (first, "doc1.pdf", "pdf")
        assert await vector_store.update_document(first, Document(page_content="Document 3"), EmbeddingType.WORDLLAMA)
        assert await vector_store.delete_by_document_id(second)
        assert not await vector_store.delete_by_document_id("doc_id_123")
        [third] = await UnifiedVectorStore(engine).add([docs[1]])
        assert await vector_store.count() == 2
        assert third != second
        await vector_store._close_connection()
        assert await vector_store.count() == 2
        assert vector_store.get_vector_db_config()["type"] == engine
