"""The engines, each with a place of its own for the run, and the sides that are measured on it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.connections.embedded import postgres as embedded_postgres
from app.core.constants import VectorDBType

from .elsewhere import Elsewhere
from .langchain_local import LangChainChroma, LangChainQdrant
from .ours import Ours
from .raw_chroma import RawChroma
from .raw_pgvector import RawPgvector
from .raw_qdrant import RawQdrantEdge
from .side import Side
from .timing import Here, Timed

FILTERABLE = ("bucket",)
"""What ours is told to index, where the engine does not index all by itself."""
_POSTGRES_PEER = Path(".venv-langchain-postgres")


@dataclass(frozen=True)
class Engine:
    title: str
    ours: Ours
    raw: Side
    peers: Sequence[Timed]
    exact: bool = False
    """Whether all compare with every row."""

    @property
    def both(self) -> list[Timed]:
        return [Here(self.ours), Here(self.raw)]

    async def as_wide(self) -> None:
        """Have the raw side read as much of its index as ours does, so that both have the same recall."""
        if self.ours.width is not None:
            await self.raw.widen(self.ours.width)


@asynccontextmanager
async def pgvector(directory: Path) -> AsyncIterator[Engine]:
    lease = await embedded_postgres.acquire(directory / "postgres")
    try:
        connection = {"type": "postgres", "url": lease.url, "timeout": 600}
        peer = Elsewhere("langchain-postgres", _POSTGRES_PEER, "benchmarks.vectors.langchain_postgres", lease.url)
        ours = Ours(VectorDBType.PGVECTOR, connection, directory, FILTERABLE)
        yield Engine("pgvector", ours, RawPgvector(lease.url), [peer])
    finally:
        await lease.release()


@asynccontextmanager
async def qdrant(directory: Path) -> AsyncIterator[Engine]:
    ours = Ours(VectorDBType.QDRANT, {"type": "qdrant", "url": "embedded"}, directory, FILTERABLE)
    yield Engine("embedded Qdrant", ours, RawQdrantEdge(directory), [Here(LangChainQdrant(directory))], exact=True)


@asynccontextmanager
async def chroma(directory: Path) -> AsyncIterator[Engine]:
    ours = Ours(VectorDBType.CHROMADB, {"type": "chromadb", "path": "chroma"}, directory)
    yield Engine("Chroma", ours, RawChroma(directory), [Here(LangChainChroma(directory))])


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[Engine]]] = {
    "pgvector": pgvector,
    "qdrant": qdrant,
    "chroma": chroma,
}
