"""psycopg and pgvector by hand: binary COPY, an HNSW index after the load, prepared statements on one connection.

The table has the columns that ours has, but for the text of the metadata.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
import psycopg.types.json
from langchain_core.documents import Document
from pgvector.psycopg import register_vector_async

from app.db.vector.pgvector_index import INDEX_FROM

from .data import Corpus, K, Vectors
from .side import Side

_COLUMNS = "id, document_id, content, metadata, embedded_at, embedding"


class RawPgvector(Side):
    """The width of a search is given, so that it has the recall that ours has."""

    name = "raw"

    def __init__(self, url: str, width: int = 100) -> None:
        self._url = url
        self._width = width

    async def open(self) -> None:
        self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
        await self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await register_vector_async(self._connection)

    async def close(self) -> None:
        await self._connection.close()

    async def load(self, corpus: Corpus, rows: Sequence[int]) -> None:
        dimension = corpus.vectors.shape[1]
        await self._connection.execute(
            "CREATE TABLE raw (id text PRIMARY KEY, document_id text, content text, metadata jsonb, "
            f"embedded_at timestamptz, embedding vector({dimension}))".encode()
        )
        await self._connection.execute("CREATE INDEX ON raw USING hash (document_id)")
        await self._connection.execute("CREATE INDEX ON raw ((metadata -> 'bucket'))")
        await self._copy("raw", corpus, rows)
        if len(rows) >= INDEX_FROM:
            await self._connection.execute("CREATE INDEX ON raw USING hnsw (embedding vector_cosine_ops)")
        await self._connection.execute("SET hnsw.iterative_scan = strict_order")
        await self.widen(self._width)

    async def widen(self, width: int) -> None:
        self._width = width
        await self._connection.execute(f"SET hnsw.ef_search = {width}".encode())

    async def upsert(self, corpus: Corpus, rows: Sequence[int]) -> None:
        async with self._connection.transaction():
            await self._connection.execute(
                "CREATE TEMP TABLE staging (id text, document_id text, content text, metadata jsonb, "
                "embedded_at timestamptz, embedding vector) ON COMMIT DROP"
            )
            await self._copy("staging", corpus, rows)
            await self._connection.execute(
                f"INSERT INTO raw ({_COLUMNS}) SELECT {_COLUMNS} FROM staging ON CONFLICT (id) DO UPDATE SET "
                "document_id = excluded.document_id, content = excluded.content, metadata = excluded.metadata, "
                "embedded_at = excluded.embedded_at, embedding = excluded.embedding".encode()
            )

    async def search(self, vector: Vectors, bucket: int | None = None) -> Sequence[str]:
        where = "" if bucket is None else "WHERE metadata -> 'bucket' = to_jsonb(%(bucket)s::int) "
        cursor = await self._connection.execute(
            f"SELECT id, content, metadata, embedding <=> %(vector)s FROM raw {where}"
            f"ORDER BY embedding <=> %(vector)s LIMIT {K}".encode(),
            {"vector": vector, "bucket": bucket},
            prepare=True,
            binary=True,
        )
        found = [Document(id=row[0], page_content=row[1], metadata=row[2]) for row in await cursor.fetchall()]
        return [str(document.id) for document in found]

    async def clear(self) -> None:
        await self._connection.execute("DROP TABLE IF EXISTS raw")

    async def _copy(self, table: str, corpus: Corpus, rows: Sequence[int]) -> None:
        texts, metadatas, ids = corpus.texts, corpus.metadatas, corpus.ids
        now = datetime.now(UTC)
        cursor = self._connection.cursor()
        async with cursor.copy(f"COPY {table} ({_COLUMNS}) FROM STDIN WITH (FORMAT BINARY)".encode()) as copy:
            copy.set_types(["text", "text", "text", "jsonb", "timestamptz", "vector"])
            for n in rows:
                metadata = psycopg.types.json.Jsonb(metadatas[n])
                await copy.write_row((ids[n], ids[n], texts[n], metadata, now, corpus.vectors[n]))
