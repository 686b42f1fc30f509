"""Chroma's own client in a thread, on a directory: `add` into an empty collection, `upsert` after that."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import chromadb
from langchain_core.documents import Document

from .data import Corpus, K, Vectors
from .side import Side


class RawChroma(Side):
    name = "raw"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "raw"
        self._width = K

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client = await self._run(lambda: chromadb.PersistentClient(str(self._path), settings))
        self._most = await self._run(self._client.get_max_batch_size)

    async def close(self) -> None:
        await self._run(self._client.close)
        self._thread.shutdown()

    async def load(self, corpus: Corpus, rows: Sequence[int]) -> None:
        space: Any = {"hnsw": {"space": "cosine"}}
        make = self._client.create_collection
        self._collection = await self._run(lambda: make("raw", configuration=space, embedding_function=None))
        await self._write(self._collection.add, corpus, rows)

    async def widen(self, width: int) -> None:
        """Ask for so many and take the best: another `ef_search` wants the collection to be opened again."""
        self._width = width

    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        await self._write(self._collection.upsert, corpus, rows)

    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[str]:
        where: Any = None if bucket is None else {"bucket": bucket}
        answer = await self._run(
            lambda: self._collection.query(query_embeddings=[vector], n_results=self._width, where=where)
        )
        ids, texts, metadatas = (answer[name][0][:K] for name in ("ids", "documents", "metadatas"))
        found = [
            Document(id=row_id, page_content=text, metadata=metadata)
            for row_id, text, metadata in zip(ids, texts, metadatas, strict=True)
        ]
        return [str(document.id) for document in found]

    async def clear(self) -> None:
        await self._run(lambda: self._client.delete_collection("raw"))

    async def _write(self, write: Any, corpus: Corpus, rows: Sequence[int]) -> None:
        for start in range(0, len(rows), self._most):
            part = slice(start, min(start + self._most, len(rows)))
            await self._run(
                lambda part=part: write(  # type: ignore[misc]
                    ids=corpus.ids[part],
                    embeddings=corpus.vectors[part],
                    documents=corpus.texts[part],
                    metadatas=corpus.metadatas[part],
                )
            )

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
