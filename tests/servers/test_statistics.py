"""What is told of vector engines behind an address. Qdrant's answers are written here, as its documentation has them.

No wheel has its server.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.db import DataLayer
from app.db.statistics.base import IndexStatistics, StoreState, StoreStatistics

from .faults import Gate, Process, forward
from .http import FakeQdrant, serving

CONFIG = {
    "params": {"vectors": {"size": 384, "distance": "Cosine"}, "shard_number": 1, "on_disk_payload": True},
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
    "optimizer_config": {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "flush_interval_sec": 5,
    },
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
}
INFO = {
    "status": "green",
    "optimizer_status": "ok",
    "points_count": 1200,
    "indexed_vectors_count": 1000,
    "segments_count": 4,
    "config": CONFIG,
    "payload_schema": {"page": {"data_type": "integer", "points": 1100}, "doc": {"data_type": "keyword", "points": 9}},
}


class Qdrant(FakeQdrant):
    """With two collections, of which one is dropped before it is asked for, unless it is `broken`."""

    broken = False

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        names = [{"name": "dropped"}, {"name": "notes"}]
        match path:
            case "/collections":
                return 200, {"result": {"collections": names}, "status": "ok", "time": 0.0}
            case "/collections/notes" if not self.broken:
                return 200, {"result": INFO, "status": "ok", "time": 0.0}
            case "/collections/notes":
                return 500, {"status": {"error": "broken"}}
        return super().answer(path, headers)


@pytest.fixture
def server() -> Qdrant:
    return Qdrant()


@pytest.fixture
async def gate(server: Qdrant) -> AsyncIterator[Gate]:
    async with Gate(serving(server)) as gate:
        yield gate


async def told(gate: Gate) -> StoreStatistics:
    url = f"http://127.0.0.1:{gate.port}"
    async with DataLayer.from_config({"connections": {"qdrant": {"url": url}}}) as data:
        return (await data.statistics())["qdrant"]


async def test_qdrant_by_url(gate: Gate) -> None:
    found = await told(gate)
    assert found.state is StoreState.OK, found.error
    [notes] = found.collections
    assert (notes.rows, notes.exact, found.size_bytes) == (1200, False, None)
    assert notes.indexes == (
        IndexStatistics("doc", ("doc",), "keyword", unique=False),
        IndexStatistics("page", ("page",), "integer", unique=False),
    )
    assert notes.details == {"segments": 4, "indexed_vectors": 1000, "vectors": "384 cosine", "status": "green"}
    assert found.version == "1.16.0"
    assert found.pool is not None


async def test_named_vectors(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {"image": {"size": 4, "distance": "Dot"}, "text": {"size": 3, "distance": "Euclid"}}
    monkeypatch.setitem(INFO, "config", {**CONFIG, "params": {"vectors": vectors}})
    [notes] = (await told(gate)).collections
    assert notes.details["vectors"] == "image: 4 dot, text: 3 euclid"


async def test_a_qdrant_that_fails_is_unavailable(gate: Gate, server: Qdrant) -> None:
    server.broken = True
    found = await told(gate)
    assert found.state is StoreState.UNAVAILABLE
    assert found.error


async def test_a_server_that_falls_silent_ends_in_time(gate: Gate) -> None:
    async with DataLayer.from_config(
        {"connections": {"qdrant": {"url": f"http://127.0.0.1:{gate.port}", "timeout": 0.5}}}
    ) as data:
        await data.connection("qdrant").connect()
        gate.mode = "silent"
        found = (await data.statistics())["qdrant"]
        gate.mode = "open"
    assert found.state is StoreState.UNAVAILABLE
    assert "within 0.5 s" in found.error


async def test_chroma_by_url(chroma_process: Process) -> None:
    async with Gate(forward(chroma_process.port)) as gate:
        url = f"http://127.0.0.1:{gate.port}"
        async with DataLayer.from_config({"connections": {"chromadb": {"url": url, "timeout": 10}}}) as data:
            client = await data.connection("chromadb").connect()
            collection = await client.create_collection("statistics", embedding_function=None)
            try:
                await collection.upsert(ids=["1", "2"], embeddings=[[1.0, 2.0], [2.0, 1.0]])
                found = (await data.statistics())["chromadb"]
            finally:
                await client.delete_collection("statistics")
    assert found.state is StoreState.OK, found.error
    [told] = [each for each in found.collections if each.name == "statistics"]
    assert (told.rows, told.details["dimension"], found.size_bytes) == (2, 2, None)
    assert found.pool is not None
