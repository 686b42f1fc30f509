"""The specification's other place for `EmbeddingFactory`."""

from ..providers.embedding_provider import EmbeddingFactory

__all__ = ["EmbeddingFactory"]
