"""The closed sets of names that the specification fixes."""

from enum import StrEnum


class ConnectionType(StrEnum):
    """A kind of store that a connection manager serves."""

    MONGODB = "mongodb"
    REDIS = "redis"
    POSTGRES = "postgres"
    SQLITE = "sqlite"
    QDRANT = "qdrant"
    CHROMADB = "chromadb"


class VectorDBType(StrEnum):
    """A kind of vector engine. CHROMA is an alias of CHROMADB."""

    QDRANT = "qdrant"
    PGVECTOR = "pgvector"
    CHROMADB = "chroma"
    CHROMA = "chroma"


class EmbeddingType(StrEnum):
    """A provider of embeddings that the library knows by name; any other string may be registered."""

    OPENAI = "openai"
    HUGGINGFACE = "huggingface"
    INSTRUCTOR = "instructor"
    COHERE = "cohere"
    WORDLLAMA = "wordllama"


class Distance(StrEnum):
    """How near two vectors are. Fixed when a collection is made."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"
