"""qdrant-edge by hand: points in batches, in a thread of their own, as an asynchronous application has to.

It keeps what ours keeps: which document a row is of, and when it was embedded; and can be filtered by any key.
"""

import asyncio
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import qdrant_edge as engine
from langchain_core.documents import Document

from .data import Corpus, K, Vectors
from .side import Side

_BATCH = 64  # more at a time hold the interpreter's lock for longer than a server can stand still
_FLUSH_AFTER = 1_000  # rows, or a killed process has them all to write again when it starts: a second for each 20,000


class RawQdrantEdge(Side):
    name = "raw"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "raw"
        self._number = 0
        self._unflushed = 0

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    async def close(self) -> None:
        await self._run(self._shard.close)
        self._thread.shutdown()

    async def load(self, corpus: Corpus, rows: Sequence[int]) -> None:
        self._number += 1
        self._unflushed = 0
        path = self._path / str(self._number)
        path.mkdir(parents=True)
        vectors = engine.EdgeVectorParams(size=corpus.vectors.shape[1], distance=engine.Distance.Cosine)
        self._shard = await self._run(lambda: engine.EdgeShard.create(str(path), engine.EdgeConfig(vectors=vectors)))
        keys = {f"metadata.{key}": value for key, value in corpus.metadatas[0].items()}
        for key, value in {"document_id": "", **keys}.items():
            kind = engine.PayloadSchemaType.Integer if isinstance(value, int) else engine.PayloadSchemaType.Keyword
            index = engine.UpdateOperation.create_field_index(key, kind)
            await self._run(lambda index=index: self._shard.update(index))  # type: ignore[misc]
        await self.upsert(corpus, rows)

    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        texts, metadatas, ids = corpus.texts, corpus.metadatas, corpus.ids
        now = datetime.now(UTC).isoformat()

        def write(part: Sequence[int]) -> None:
            points = [
                engine.Point(
                    uuid.uuid5(uuid.NAMESPACE_URL, ids[n]),
                    corpus.vectors[n].tolist(),
                    {
                        "id": ids[n],
                        "document_id": ids[n],
                        "text": texts[n],
                        "metadata": metadatas[n],
                        "embedded_at": now,
                    },
                )
                for n in part
            ]
            self._shard.update(engine.UpdateOperation.upsert_points(points))

        for start in range(0, len(rows), _BATCH):
            await self._run(lambda part=rows[start : start + _BATCH]: write(part))  # type: ignore[misc]
            self._unflushed += min(_BATCH, len(rows) - start)
            if self._unflushed >= _FLUSH_AFTER:
                await self._run(self._shard.flush)
                self._unflushed = 0

    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[str]:
        condition = None
        if bucket is not None:
            field = engine.FieldCondition("metadata.bucket", range=engine.RangeFloat(gte=bucket, lte=bucket))
            condition = engine.Filter(must=[field])

        def search() -> list[Any]:
            request = engine.SearchRequest(
                engine.Query.Nearest(vector.tolist()), K, filter=condition, with_payload=True
            )
            return list(self._shard.search(request))

        found = [
            Document(id=each.payload["id"], page_content=each.payload["text"], metadata=each.payload["metadata"])
            for each in await self._run(search)
        ]
        return [str(document.id) for document in found]

    async def clear(self) -> None:
        await self._run(self._shard.close)

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
