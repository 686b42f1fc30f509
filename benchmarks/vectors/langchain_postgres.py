"""langchain-postgres, in the environment that it needs for itself: `python -m … <url>` serves it to the benchmark."""

import asyncio
import sys
from itertools import count
from typing import Any

from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_postgres.v2.indexes import HNSWIndex

from .elsewhere import serve
from .langchain import Known, LangChainSide


class LangChainPostgres(LangChainSide):
    """With the index that its page recommends, and the filtered key in a column of its own."""

    name = "langchain-postgres"

    def __init__(self, url: str) -> None:
        self._url = url
        self._number = count()

    async def open(self) -> None:
        self._engine = PGEngine.from_connection_string(self._url.replace("postgresql:", "postgresql+asyncpg:", 1))

    async def close(self) -> None:
        await self._engine.close()

    async def make(self, embedding: Known, dimension: int) -> Any:
        self._table = table = f"langchain_{next(self._number)}"
        await self._engine.ainit_vectorstore_table(table, dimension, metadata_columns=[Column("bucket", "INTEGER")])
        return await PGVectorStore.create(self._engine, embedding, table, metadata_columns=["bucket"])

    async def made(self) -> None:
        await self._store.aapply_vector_index(HNSWIndex())

    def condition(self, bucket: int) -> Any:
        return {"bucket": bucket}

    async def clear(self) -> None:
        await self._engine.adrop_table(self._table)


if __name__ == "__main__":
    asyncio.run(serve(LangChainPostgres(sys.argv[1])))
