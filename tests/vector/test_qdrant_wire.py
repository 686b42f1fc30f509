"""What is sent to a Qdrant server, and what its answers become: the real client, and a small HTTP server of ours."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from app.config.settings import QdrantSettings
from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import (
    AppError,
    DeadlineExceededError,
    InvalidChangeError,
    OutcomeUnknownError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from app.db.vector.payload import make_row, read_rows
from app.db.vector.qdrant import QdrantVectorStore
from app.db.vector.qdrant_server_points import BATCH, batches, points_of

from ..servers.faults import Gate
from ..servers.http import FakeQdrant, serving
from .planned import Planned, doc, store_on

INFO = {
    "status": "green",
    "optimizer_status": "ok",
    "segments_count": 1,
    "config": {
        "params": {"vectors": {"size": 4, "distance": "Cosine"}},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
        "metadata": {"manystore": '{"provider": "Planned", "model": "planned", "dimension": 4, "distance": "cosine"}'},
    },
    "payload_schema": {name: {"data_type": "keyword", "points": 0} for name in ("doc", "terms")},
}
DONE = {"operation_id": 1, "status": "completed"}


class Answers(FakeQdrant):
    """One collection that is there, and an answer to every write."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.written: Any = DONE
        self.retry_after: str | None = None

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        method, target, _ = self.bodies[-1]
        kind = target.partition("?")[0].removeprefix("/collections/documents")
        results: dict[str, Any] = {"": INFO, "/points/query": {"points": []}, "/points": []}
        results |= {"/points/scroll": {"points": [], "next_page_offset": None}, "/points/count": {"count": 0}}
        if target == "/":
            return 200, {"title": "qdrant", "version": "1.20.0"}
        if target == "/aliases":
            return 200, {"result": {"aliases": []}, "status": "ok", "time": 0.0}
        if not target.startswith("/collections/documents"):
            return super().answer(path, headers)
        if self.status != 200 and kind != "":
            return self.status, {"status": {"error": "a secret value"}}
        return 200, {"result": self.written if method == "PUT" or kind not in results else results[kind], "time": 0.0}

    def sent(self, path: str) -> list[tuple[str, Any]]:
        """The query strings and bodies of what was sent there."""
        split = [(target.partition("?"), body) for _, target, body in self.bodies]
        return [(query, json.loads(body)) for (target, _, query), body in split if target.endswith(path)]


@pytest.fixture
def server() -> Answers:
    return Answers()


@pytest.fixture
async def gate(server: Answers) -> AsyncIterator[Gate]:
    async with Gate(serving(server)) as gate:
        yield gate


@pytest.fixture
async def store(gate: Gate) -> AsyncIterator[QdrantVectorStore]:
    settings = QdrantSettings(url=SecretStr(f"http://127.0.0.1:{gate.port}"), timeout=0.8)
    async with QdrantConnectionManager(settings) as manager:
        yield store_on(manager, Planned())


async def test_a_write_waits_until_it_is_applied_in_one_order_everywhere(
    store: QdrantVectorStore, server: Answers
) -> None:
    await store.upsert([doc(f"text {n}", {"n": n}, str(n)) for n in range(BATCH + 1)])
    await store.delete_where({"n": 1})
    sent = server.sent("/points")
    assert [(query, len(body["points"])) for query, body in sent] == [
        ("wait=true&ordering=medium", n) for n in (BATCH, 1)
    ]
    [point] = sent[1][1]["points"]
    assert point["payload"]["id"] == str(BATCH)
    assert point["vector"] == pytest.approx(np.asarray(point["vector"], np.float32).tolist(), abs=0), "no digit is lost"
    [(_, asked)] = server.sent("/points/scroll")
    assert asked["filter"] == {"must": [{"key": "terms", "match": {"value": "n=n:1.0"}}]}


async def test_a_search_reads_what_it_needs(store: QdrantVectorStore, server: Answers) -> None:
    await store.search_similar("q", 3, {"s": {"$startswith": "a"}, "n": {"$gt": 1}})
    (_, first), (_, second) = server.sent("/points/query")
    assert first["with_payload"] == ["id", "doc", "text", "metadata", "at"]
    assert first["with_vector"] is False
    assert (first["limit"], first["params"], second["params"]) == (3, {"hnsw_ef": 256}, {"exact": True})
    assert {"key": "terms", "match": {"prefix": "s=t:a"}} in json.loads(json.dumps(first["filter"]["must"][0]))["must"]
    [(_, index)] = server.sent("/index")
    assert index["field_schema"] == {"type": "integer", "lookup": False, "range": True}


async def test_meaning_and_words_are_one_request(store: QdrantVectorStore, server: Answers) -> None:
    await store.search_hybrid("q", 3, candidates=20)
    [(_, asked)] = server.sent("/points/query")
    near, with_words = asked["prefetch"]
    assert (near["limit"], near["params"]) == (20, {"hnsw_ef": 256})
    assert with_words == {"query": {"text": "q"}, "using": "text", "limit": 20}
    assert asked["query"] == {"rrf": {"k": 61}}


def test_a_request_is_never_larger_than_a_server_takes() -> None:
    rows = [make_row(str(n), "d", "é" * 2**20, {"a": "x" * 2**20}) for n in range(20)]
    parts = list(batches(rows, 1536))
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(20))
    assert all(
        len(json.dumps([row.text + row.metadata for row in rows[part]], ensure_ascii=False).encode()) < 2**25
        for part in parts
    )
    assert [part.stop - part.start for part in batches([make_row("x", "d", "t", {})] * 300, 4)] == [128, 128, 44]
    assert list(batches([], 4)) == []


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, UnsupportedOperationError, r"refuses the request \(400\)"),
        (403, StoreUnavailableError, "refused the credentials"),
        (413, InvalidChangeError, "max_request_size_mb"),
        (500, StoreUnavailableError, r"failed \(500\)"),
        (503, StoreUnavailableError, "not available"),
        (504, OutcomeUnknownError, "may or may not"),
    ],
)
async def test_what_a_server_says_is_ours(
    store: QdrantVectorStore, server: Answers, status: int, error: type[AppError], says: str
) -> None:
    server.status = status
    with pytest.raises(error, match=says) as raised:
        await store.upsert([doc("x")])
    assert "secret" not in str(raised.value)
    server.status = 200
    await store.upsert([doc("x")])


async def test_a_write_that_was_taken_and_not_applied_in_time(store: QdrantVectorStore, server: Answers) -> None:
    server.written = {"operation_id": 1, "status": "acknowledged"}
    with pytest.raises(OutcomeUnknownError, match="did not say in time"):
        await store.upsert([doc("x")])


async def test_a_server_that_is_silent_ends_each_operation_in_time(store: QdrantVectorStore, gate: Gate) -> None:
    await store.count()
    gate.mode = "silent"
    for work, error in (
        (store.count, DeadlineExceededError),
        (lambda: store.upsert([doc("x")]), DeadlineExceededError),
    ):
        start = time.monotonic()
        with pytest.raises(error):
            await work()
        assert time.monotonic() - start < 0.8 * 1.2
    await gate.open()
    assert await store.count() == 0


async def test_writing_holds_the_loop_no_longer_than_the_clients_own_call(store: QdrantVectorStore) -> None:
    store = store_on(store.connection, Planned(size=4))  # type: ignore[arg-type]  # it is one
    vectors = np.random.default_rng(1).normal(size=(8 * BATCH, 4)).astype(np.float32)
    documents = [doc("words " * 100, {"n": n}, str(n)) for n in range(len(vectors))]
    rows = await read_rows(documents)
    points = points_of(rows[:BATCH], vectors[:BATCH], "")
    manager: Any = store.connection

    async def bare() -> None:
        for _ in range(8):
            await manager.write(lambda client: client.upsert("documents", points))

    await bare()
    own = await stalled(bare())
    ours = await stalled(store.add_vectors(documents, vectors))
    assert ours < 3 * own + 0.03


async def stalled(work: Coroutine[Any, Any, Any]) -> float:
    """The seconds that the loop was held at the longest."""
    longest = 0.0
    task = asyncio.create_task(work)
    while not task.done():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - start - 0.001)
    await task
    return longest
