"""What only a Qdrant server does: others make the collection, versions differ, its graph may miss some."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from qdrant_client import models

from app.core.constants import Distance
from app.core.errors import (
    DimensionMismatchError,
    EmbeddingMismatchError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from app.db.vector import qdrant_server_access
from app.db.vector.contract import CollectionContract
from app.db.vector.qdrant import QdrantVectorStore
from app.db.vector.qdrant_server_rows import number_field

from ..planned import Planned, doc, store_on
from ..qdrant_local import LocalManager, LocalServer
from .killing import rows


async def schema(server: LocalServer, name: str = "documents") -> set[str]:
    return set((await server.run("get_collection", name)).payload_schema)


async def make_bare(server: LocalServer, metadata: dict[str, Any] | None = None) -> None:
    params = models.VectorParams(size=4, distance=models.Distance.COSINE)
    await server.run("create_collection", "documents", vectors_config=params, metadata=metadata)


MIGRATED = {"manystore": '{"provider": null, "model": null, "dimension": 4, "distance": "cosine"}'}


async def test_reading_makes_no_collection(store: QdrantVectorStore, server: LocalServer) -> None:
    assert await store.search_similar("q") == []
    assert await store.delete_where({"a": 1}) == 0
    assert not await store.update_document("1", doc("x"))
    assert "create_collection" not in server.names()


async def test_a_migrated_collection_is_claimed_and_indexed_by_its_first_writer(
    store: QdrantVectorStore, server: LocalServer
) -> None:
    await make_bare(server, MIGRATED)
    await store.upsert([doc("x", {"a": 1}, "x")])
    assert await schema(server) == {"doc", "terms"}
    contract = await store.engine.contract()
    assert contract == CollectionContract("Planned", "planned", 4, Distance.COSINE)
    await store_on(store.connection, Planned(), collection="ours").upsert([doc("x")])  # type: ignore[arg-type]
    option = "strict_mode_config"
    for name in ("update_collection", "create_collection"):  # on Qdrant's cloud it would be off
        [allowed] = [given[option] for each, _, given in server.calls if each == name and option in given]
        assert (allowed.unindexed_filtering_update, allowed.unindexed_filtering_retrieve) == (True, True)
    another = Planned()
    another.model = "another"
    with pytest.raises(EmbeddingMismatchError, match=r"planned.*another"):
        await store_on(store.connection, another).count()  # type: ignore[arg-type]  # it is one


async def test_two_first_writers_of_a_migrated_collection_with_other_models(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await make_bare(server, MIGRATED)
    assert isinstance(other.embedding.langchain, Planned)
    other.embedding.langchain.model = "another"
    other = store_on(other.connection, other.embedding.langchain)  # type: ignore[arg-type]  # it is one
    server.meanwhile("update_collection", lambda: other.upsert([doc("y", row_id="y")]))
    for _ in range(2):
        with pytest.raises(EmbeddingMismatchError):
            await store.upsert([doc("x", row_id="x")])
    assert await rows(other) == {"y": "y"}


async def test_a_collection_of_somebody_elses_is_left_alone(store: QdrantVectorStore, server: LocalServer) -> None:
    await make_bare(server)
    with pytest.raises(StoreUnavailableError, match="another `collection`"):
        await store.upsert([doc("x")])
    assert "upsert" not in server.names()


async def test_of_several_first_writers_one_makes_the_collection(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    server.meanwhile("create_collection", lambda: other.upsert([doc("y", row_id="y")]))
    await store.upsert([doc("x", row_id="x")])
    assert await rows(store) == {"x": "x", "y": "y"}
    longer = store_on(store.connection, Planned(size=5), collection="more")  # type: ignore[arg-type]  # it is one
    shorter = store_on(other.connection, Planned(), collection="more")  # type: ignore[arg-type]
    server.meanwhile("create_collection", lambda: shorter.upsert([doc("y")]))
    with pytest.raises(DimensionMismatchError):
        await longer.upsert([doc("x")])


async def test_what_a_killed_first_writer_did_not_index_is_indexed_by_the_next(
    store: QdrantVectorStore, server: LocalServer
) -> None:
    server.meanwhile("create_payload_index", _fail)
    with pytest.raises(RuntimeError):
        await store.upsert([doc("x")])
    assert await schema(server) == set()
    await store.upsert([doc("x")])
    assert await schema(server) == {"doc", "terms"}
    assert server._indexes["documents"]["terms"].prefix


async def _fail() -> None:
    raise RuntimeError("killed here")


@pytest.mark.parametrize("most", [0, qdrant_server_access.MAX_INDEXES])
async def test_numbers_are_indexed_when_they_are_first_compared(
    store: QdrantVectorStore, server: LocalServer, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(qdrant_server_access, "MAX_INDEXES", most)
    await store.upsert([doc(f"text {n}", {"a b": n}) for n in range(10)])
    for _ in range(2):
        assert await store.count({"a b": {"$gt": 3}}) == 6
        assert len(await store.search_similar("q", 9, {"a b": {"$gt": 3}})) == 6
    assert await schema(server) - {"doc", "terms"} == ({number_field("a b")} if most else set())
    assert server.names().count("create_payload_index") == (3 if most else 2)


async def test_who_may_only_read_reads_without_an_index(store: QdrantVectorStore, server: LocalServer) -> None:
    await store.upsert([doc("x", {"n": 1})])

    async def refused() -> None:
        raise StoreUnavailableError("refused the credentials (403)")

    server.meanwhile("create_payload_index", refused)
    assert await store.count({"n": {"$gt": 0}}) == 1


@pytest.mark.parametrize(("version", "asks_for_prefixes"), [("1.18.2", False), ("1.19.0", True)])
async def test_an_older_server_finds_how_a_text_begins_as_well(
    store: QdrantVectorStore, server: LocalServer, version: str, asks_for_prefixes: bool
) -> None:
    server.version = version
    await store.upsert([doc(f"text {n}", {"s": f"{n:03}"}, str(n)) for n in range(20)])
    assert await store.count({"s": {"$startswith": "01"}}) == 10
    found = await store.search_similar("q", 20, {"s": {"$startswith": "01"}})
    assert {each.metadata["s"][:2] for each in found} == {"01"}
    assert ("MatchPrefix" in repr(server.calls)) is asks_for_prefixes
    assert bool(server._indexes["documents"]["terms"].prefix) is asks_for_prefixes


async def test_what_an_older_server_cannot_do_is_said(store: QdrantVectorStore, server: LocalServer) -> None:
    server.version = "1.19.3-dev"
    await store.upsert([doc("x")])
    with pytest.raises(UnsupportedOperationError, match=r"Qdrant 1\.19: to search by words needs 1\.20"):
        await store.search_hybrid("x")
    server.version = "1.15.4"
    old = store_on(store.connection, Planned(), collection="other")  # type: ignore[arg-type]  # it is one
    with pytest.raises(UnsupportedOperationError, match=r"needs 1\.16"):
        await old.upsert([doc("x")])
    assert server.names().count("create_collection") == 1


async def test_where_the_graph_misses_some_all_that_match_are_compared(
    store: QdrantVectorStore, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.upsert([doc(f"text {n}", {"n": n % 2}, str(n)) for n in range(20)])
    real = server._engine.query_points

    async def lossy(*given: Any, **options: Any) -> Any:
        answer = await real(*given, **options)
        if not options["search_params"].exact:
            answer.points = answer.points[1::2]
        return answer

    monkeypatch.setattr(server._engine, "query_points", lossy)
    assert len(await store.search_similar("q", 10, {"n": 1})) == 10
    assert len(await store.search_similar("q", 20)) == 10, "the test means nothing otherwise"


@pytest.mark.parametrize(("recall", "k", "width"), [(0.8, 5, 64), (0.95, 5, 256), (0.95, 300, 300), (0.999, 5, 4096)])
async def test_recall_is_how_wide_the_search_is(
    manager: LocalManager, server: LocalServer, recall: float, k: int, width: int
) -> None:
    store = store_on(manager, Planned(), recall=recall)
    await store.upsert([doc("x")])
    await store.search_similar("q", k)
    [(_, _, asked)] = [call for call in server.calls if call[0] == "query_points"]
    assert asked["search_params"] == models.SearchParams(hnsw_ef=width)
    exact = store_on(manager, Planned(), recall=1)
    await exact.search_similar("q", k)
    assert server.calls[-1][2]["search_params"].exact


async def test_meaning_and_words_are_one_request(store: QdrantVectorStore, server: LocalServer) -> None:
    await store.upsert([doc(f"word{n} here", {"n": n}) for n in range(5)])
    await store.search_hybrid("word3")
    before = len(server.calls)
    await store.search_hybrid("word3", filter_criteria={"n": 3})
    assert server.names()[before:] == ["query_points"]
    assert server._indexes["documents"]["text"].ascii_folding


async def test_many_ids_are_searched_some_at_a_time(store: QdrantVectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.vector.qdrant_server._IDS", 7)
    for distance in Distance:
        each = store_on(store.connection, Planned(), collection=str(distance), distance=distance)  # type: ignore[arg-type]
        await each.upsert([doc(f"text {n}", {"s": f"x{n}"}, str(n)) for n in range(30)])
        expected = await each.search_with_scores("q", 10)
        assert await each.search_with_scores("q", 10, {"s": {"$contains": "x"}}) == expected


async def test_of_many_who_search_at_once_one_looks_again_at_the_collection(
    store: QdrantVectorStore, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.upsert([doc("x")])
    await store.count()
    before = server.names().count("get_collection")
    later = time.monotonic() + 10
    monkeypatch.setattr(qdrant_server_access, "time", SimpleNamespace(monotonic=lambda: later))
    server.before = lambda _: asyncio.sleep(0.01)
    await asyncio.gather(*(store.search_similar("q") for _ in range(50)))
    assert server.names().count("get_collection") - before == 1
