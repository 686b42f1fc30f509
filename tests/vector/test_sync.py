"""Vector stores and embeddings through the sync face."""

from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from app.core.errors import AppError
from app.db import DataLayer, F


def test_a_vector_store_without_await(tmp_path: Path) -> None:
    with DataLayer.from_config({"data_dir": str(tmp_path)}).sync() as data:
        store = data.vector_store("documents")
        documents = [
            Document(id="1", page_content="Tea is made of leaves and hot water.", metadata={"kind": "drink"}),
            Document(id="2", page_content="A savepoint is a nested part of a transaction.", metadata={"kind": "text"}),
        ]
        assert store.save_and_embed(None, documents) == ["1", "2"]
        [best] = store.search_similar("How do databases nest transactions?", k=1)
        assert best.id == "2"
        assert store.count(F.kind == "drink") == 1
        assert sorted(each.id for each in store.documents()) == ["1", "2"]
        with pytest.raises(AppError):
            store.save_and_embed(None, [Document(page_content=" ")])

        # LangChain's object has sync methods already, and is LangChain's.
        langchain = store.as_langchain()
        assert isinstance(langchain, VectorStore)
        assert [each.id for each in langchain.similarity_search("hot tea", k=1)] == ["1"]
        assert store.delete(["1"]) == 1

        model = data.embedding()
        assert (model.measure(), len(model.embed_query("tea"))) == (256, 256)
        assert model.array(["tea", "rye"]).shape == (2, 256)
        assert model.usage.texts >= 2
        assert model.langchain is data.embedding().langchain
