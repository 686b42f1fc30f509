"""LangChain's own suites for embeddings, on the default provider."""

from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from app.db.vector.embeddings.wordllama import WordLlamaEmbeddings


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return WordLlamaEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"dimension": 64}


class TestIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return WordLlamaEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {}
