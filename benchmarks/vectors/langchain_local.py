"""langchain-qdrant and langchain-chroma on a directory, as their pages have them."""

from itertools import count
from pathlib import Path
from typing import Any

from langchain_chroma import Chroma
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from .langchain import Known, LangChainSide


class LangChainQdrant(LangChainSide):
    """In the client's local mode, which is all that it has without a server."""

    name = "langchain-qdrant"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = count()

    async def make(self, embedding: Known, dimension: int) -> Any:
        client = QdrantClient(path=str(self._directory / f"langchain-{next(self._number)}"))
        client.create_collection("langchain", models.VectorParams(size=dimension, distance=models.Distance.COSINE))
        return QdrantVectorStore(client, "langchain", embedding, validate_collection_config=False)

    def condition(self, bucket: int) -> Any:
        match = models.FieldCondition(key="metadata.bucket", match=models.MatchValue(value=bucket))
        return models.Filter(must=[match])


class LangChainChroma(LangChainSide):
    name = "langchain-chroma"
    most = 5_000  # it hands on what it is given, and Chroma refuses more than 5,461

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = count()

    async def make(self, embedding: Known, dimension: int) -> Any:
        del dimension  # of the first vector
        path = str(self._directory / f"langchain-{next(self._number)}")
        return Chroma("langchain", embedding, persist_directory=path, collection_metadata={"hnsw:space": "cosine"})

    def condition(self, bucket: int) -> Any:
        return {"bucket": bucket}
