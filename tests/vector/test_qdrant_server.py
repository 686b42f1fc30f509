"""What only a Qdrant server does: other processes come between, versions differ, its graph may miss some."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
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
from app.db.models.values import utc_now
from app.db.query import ALL
from app.db.vector import qdrant_server_access
from app.db.vector.contract import CollectionContract, staged_name
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.ingest import ingest
from app.db.vector.qdrant import QdrantVectorStore
from app.db.vector.qdrant_payload import number_field
from app.db.vector.reembed import reembed

from .planned import Planned, doc, store_on
from .qdrant_local import LocalManager, LocalServer


@pytest.fixture
def server() -> LocalServer:
    return LocalServer()


@pytest.fixture
async def manager(server: LocalServer) -> AsyncIterator[LocalManager]:
    async with LocalManager(server) as manager:
        yield manager


@pytest.fixture
def store(manager: LocalManager) -> QdrantVectorStore:
    return store_on(manager, Planned())


@pytest.fixture
async def other(server: LocalServer) -> AsyncIterator[QdrantVectorStore]:
    """The same collection in another process."""
    async with LocalManager(server) as manager:
        yield store_on(manager, Planned())


async def rows(store: QdrantVectorStore) -> dict[str, str]:
    return {str(each.id): each.page_content async for each in store.documents()}


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


# ---------------------------------------------------------------- versions


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


# ---------------------------------------------------------------- searching


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


# ---------------------------------------------------------------- others come between


async def test_of_two_that_replace_a_document_neither_loses_what_the_other_wrote(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    chunks = [doc(f"old {n}", {"document_id": "d"}, f"c{n}") for n in range(3)]
    await store.upsert(chunks)
    new = [doc(f"new {n}", {"document_id": "d"}, f"c{n}") for n in range(3)]
    server.meanwhile("delete", lambda: other.re_embed_document("d", new))
    await store.re_embed_document("d", [doc("short", {"document_id": "d"}, "c0")])
    assert await rows(store) == {"c0": "new 0", "c1": "new 1", "c2": "new 2"}


async def test_a_row_that_changed_meanwhile_keeps_its_own_vector(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = utc_now()
    monkeypatch.setattr("app.db.vector.store.utc_now", lambda: moment)  # the clocks of processes may say the same
    await store.upsert([doc("old", {"document_id": "d"}, "a"), doc("same", {"document_id": "d"}, "b")])
    server.meanwhile("batch_update_points", lambda: other.upsert([doc("new", {"document_id": "d"}, "a")]))
    assert await store.re_embed_document("d") == ["b"]
    [(found, score)] = await store.search_with_scores("new", 1)
    assert found.page_content == "new"
    assert score == pytest.approx(1)


async def test_a_row_that_goes_meanwhile_leaves_the_others_to_be_embedded(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc(f"text {n}", {"document_id": "d"}, str(n)) for n in range(3)])
    server.meanwhile("batch_update_points", lambda: other.delete(["1"]))
    assert sorted(await store.re_embed_document("d")) == ["0", "2"]


async def test_of_two_changes_of_metadata_both_are_there(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc(f"text {n}", {"n": n}, str(n)) for n in range(3)])
    server.meanwhile("batch_update_points", lambda: other.update_metadata_where({"n": {"$gt": 0}}, {"theirs": 1}))
    assert await store.update_metadata_where({"n": {"$lt": 2}}, {"ours": 1}) == 2
    found = {each.id: each.metadata for each in await store.get_by_ids(["0", "1", "2"])}
    assert found == {"0": {"n": 0, "ours": 1}, "1": {"n": 1, "theirs": 1, "ours": 1}, "2": {"n": 2, "theirs": 1}}
    assert await store.count({"ours": 1, "theirs": 1}) == 1


async def test_what_no_longer_matches_is_neither_changed_nor_deleted(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc(f"text {n}", {"s": "abc"}, str(n)) for n in range(2)])

    async def overtake() -> None:
        row = doc("text 0", {"s": "xyz"}, "0")
        await other.upsert([row])

    server.meanwhile("batch_update_points", overtake)
    assert await store.update_metadata_where({"s": "abc"}, {"ours": 1}) == 1
    await store.upsert([doc("text 0", {"s": "abc"}, "0")])
    server.meanwhile("delete", overtake)
    await store.delete_where({"s": {"$contains": "b"}})
    assert await rows(store) == {"0": "text 0"}


async def test_what_no_longer_matches_is_not_found(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc(f"text {n}", {"s": "abc"}, str(n)) for n in range(2)])
    server.meanwhile("query_points", lambda: other.upsert([doc("text 0", {"s": "xyz"}, "0")]))
    assert [each.id for each in await store.search_similar("text 0", 2, {"s": {"$contains": "b"}})] == ["1"]


async def test_a_collection_that_another_dropped_is_absent_and_made_anew(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc("x", row_id="x")])
    assert await store.count() == 1
    await other.drop_collection()
    assert await store.count() == 0, "which the server says"
    await store.upsert([doc("x", row_id="x")])
    server.meanwhile("upsert", other.drop_collection)
    await store.upsert([doc("y", row_id="y")])
    assert await rows(store) == {"y": "y"}


async def test_another_contract_is_seen_within_a_second_by_readers_and_at_once_by_writers(
    store: QdrantVectorStore, other: QdrantVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.upsert([doc("x")])
    await other.drop_collection()
    another = Planned()
    another.model = "another"
    await store_on(other.connection, another).upsert([doc("x")])  # type: ignore[arg-type]  # it is one
    with pytest.raises(EmbeddingMismatchError):
        await store.upsert([doc("y")])
    monkeypatch.setattr(qdrant_server_access, "_LOOK_AGAIN", 0)
    with pytest.raises(EmbeddingMismatchError):
        await store.count()


# ---------------------------------------------------------------- one collection in the place of another


class Killed(BaseException):
    """The process ends here."""


async def stage(store: QdrantVectorStore, model: str, texts: dict[str, str]) -> QdrantVectorStore:
    """What a re-embedding has made, complete."""
    embeddings = Planned()
    embeddings.model = model
    name = staged_name("documents")
    staged = store_on(store.connection, embeddings)  # type: ignore[arg-type]  # it is one
    staged.collection = name
    await staged.upsert([doc(text, row_id=row_id) for row_id, text in texts.items()])
    await staged.engine.amend(lambda contract: replace(contract, replaces="documents"))
    return staged


async def test_one_collection_takes_the_place_of_another_again_and_again(
    store: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc("first", row_id="x")])
    for model in ("second", "third", "fourth"):
        staged = await stage(store, model, {"x": model})
        await store.engine.replace_by(staged.collection)
        assert await staged.engine.contract() is None, "its name is free for the next"
        now = store_on(store.connection, staged.embedding.langchain)  # type: ignore[arg-type]
        assert await rows(now) == {"x": model}
        assert await now.engine.contract() == CollectionContract("Planned", model, 4, Distance.COSINE)
        await now.upsert([doc("more", row_id="y")])
        assert await now.count({"a": None}) == 2
        await now.engine.replace_by(staged.collection)
        assert await now.count() == 2, "called again it changes nothing"
        collections = (await server.run("get_collections")).collections
        assert len(collections) == 1
    assert await now.drop_collection()
    assert (await server.run("get_collections")).collections == []
    assert (await server.run("get_aliases")).aliases == []


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("first", [True, False])
async def test_a_switch_that_is_killed_anywhere_is_finished_or_undone(*, first: bool, resumed: bool) -> None:
    for number in range(1, 100):
        server = LocalServer()
        async with LocalManager(server) as manager:
            store = store_on(manager, Planned())
            await store.upsert([doc("old", row_id="x")])
            if not first:
                await store.engine.replace_by((await stage(store, "planned", {"x": "old"})).collection)
            staged = await stage(store, "new", {"x": "new"})
            killed = await kill_at(server, number, store.engine.replace_by(staged.collection))
            await manager.disconnect()
            store = store_on(manager, Planned())
            if killed and resumed:
                await store.engine.replace_by(staged.collection)
            contract = await store.engine.contract()
            assert contract is not None
            assert contract.replaces is None
            now = staged.embedding.langchain if contract.model == "new" else Planned()
            expected = {"x": "new" if contract.model == "new" else "old"}
            assert await rows(store_on(manager, now)) == expected
            if resumed or not killed:
                assert contract.model == "new"
                assert len((await server.run("get_collections")).collections) == 1
        if not killed:
            assert number > 8
            return
    raise AssertionError


async def kill_at(server: LocalServer, number: int, work: Any) -> bool:
    """Have the process die before a call, or after it: the even numbers are the times after. 0 is never."""
    left = number or 10**9

    async def count(_: str) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise Killed

    server.before = server.after = count
    try:
        await work
    except Killed:
        return True
    finally:
        server.before = server.after = _quiet
    return False


async def _quiet(_: str) -> None: ...


async def test_whoever_looks_in_the_middle_of_a_switch_finds_one_of_the_two(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc("old", row_id="x")])
    assert await rows(other) == {"x": "old"}
    staged = await stage(store, "planned", {"x": "new"})
    seen: list[dict[str, str]] = []
    fresh = LocalManager(server)

    async def look(_: str) -> None:
        server.before = _quiet
        seen.append(await rows(other))
        seen.append(await rows(store_on(fresh, Planned())))
        await other.upsert([doc("late", row_id="late")])
        server.before = look

    server.before = look
    await store.engine.replace_by(staged.collection)
    server.before = _quiet
    assert {each["x"] for each in seen} == {"old", "new"}
    assert await store.count() == 2


async def test_writes_are_refused_from_the_moment_that_a_contract_says_so(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc("x", row_id="x")])
    waiting, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        waiting.set()
        await go.wait()

    server.meanwhile("upsert", hold)
    writing = asyncio.create_task(store.upsert([doc("y", row_id="y")]))
    await waiting.wait()
    amending = asyncio.create_task(store.engine.amend(lambda contract: replace(contract, moving_to="Planned/new")))
    await asyncio.sleep(0.05)
    assert not amending.done(), "a write that had begun is waited for"
    go.set()
    await writing
    await amending
    for each in (store, other):
        with pytest.raises(EmbeddingMismatchError, match="takes no writes"):
            await each.upsert([doc("z")])
        with pytest.raises(EmbeddingMismatchError, match="takes no writes"):
            await each.delete(["x"])
        with pytest.raises(EmbeddingMismatchError, match="takes no writes"):
            await each.update_metadata_where({"a": None}, {"a": 1})
        assert await each.count() == 2
    assert store.engine.settles >= 2 * store.connection.settings.timeout
    await store.engine.amend(lambda contract: replace(contract, moving_to=None))
    await other.upsert([doc("z")])


async def test_two_who_amend_different_things_lose_nothing(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc("x")])
    server.meanwhile(
        "update_collection", lambda: other.engine.amend(lambda contract: replace(contract, chunker="words/1"))
    )
    await store.engine.amend(lambda contract: replace(contract, moving_to="Planned/new"))
    contract = await store.engine.contract()
    assert contract is not None
    assert (contract.chunker, contract.moving_to) == ("words/1", "Planned/new")


async def test_a_drop_takes_what_would_come_in_its_place(store: QdrantVectorStore, server: LocalServer) -> None:
    await store.upsert([doc("old")])
    staged = await stage(store, "new", {"x": "new"})
    await staged.engine.amend(lambda contract: replace(contract, ready=True))
    assert await store.drop_collection()
    assert (await server.run("get_collections")).collections == []
    assert not await store.drop_collection()


# ---------------------------------------------------------------- killed


OLD = {f"c{n}": f"old {n}" for n in range(4)}
NEW = {f"c{n}": f"new {n}" for n in (1, 2, 5)}


def chunks(texts: dict[str, str]) -> list[Any]:
    return [doc(text, {"document_id": "d", "n": n}, row_id) for n, (row_id, text) in enumerate(texts.items())]


@pytest.mark.parametrize("work", ["save", "update", "re-embed", "embed anew", "metadata"])
async def test_a_write_killed_at_any_call_loses_nothing_and_is_completed_by_the_next(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.vector.qdrant_server_points.BATCH", 2)
    monkeypatch.setattr("app.db.vector.qdrant_server.BATCH", 2)

    async def run(store: QdrantVectorStore) -> None:
        match work:
            case "save":
                await store.upsert(chunks(NEW))
            case "update":
                await store.update_document("d", doc("new", {"document_id": "d"}))
            case "re-embed":
                await store.re_embed_document("d", chunks(NEW))
            case "embed anew":
                assert isinstance(store.embedding.langchain, Planned)
                store.embedding.langchain.vectors |= {text: [0.0, 0.0, 1.0, 0.0] for text in OLD.values()}
                await store.re_embed_document("d")
            case "metadata":
                await store.update_metadata_where({"document_id": "d"}, {"changed": True})

    expected: Any = None
    for number in range(200):
        server = LocalServer()
        async with LocalManager(server) as manager, LocalManager(server) as next_manager:
            store = store_on(manager, Planned())
            if work != "save":
                await store.upsert(chunks(OLD))
            killed = await kill_at(server, number, run(store))
            store = store_on(next_manager, Planned())
            if number == 0:
                expected = await state(store)
                continue
            if killed:
                there = await rows(store)
                if work in ("update", "re-embed"):
                    new = NEW if work == "re-embed" else {"d": "new"}
                    assert OLD.keys() <= there.keys() or new.items() <= there.items(), "the old went first"
                elif work != "save":
                    assert there == OLD
                await run(store)
            assert await state(store) == expected, number
            if not killed:
                assert number > 5
                return


async def test_an_ingestion_killed_at_any_call_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.vector.qdrant_server_points.BATCH", 2)
    file = tmp_path / "a.md"

    def write(version: int, sections: int) -> None:
        file.write_text("".join(f"# {n}\n\n{version} {'word ' * 300}\n\n" for n in range(sections)))

    expected: Any = None
    for number in range(100):
        server = LocalServer()
        async with LocalManager(server) as manager, LocalManager(server) as next_manager:
            write(1, 5)
            await ingest(store_on(manager, Planned()), [file])
            old = await rows(store_on(manager, Planned()))
            write(2, 3)
            killed = await kill_at(server, number, ingest(store_on(manager, Planned()), [file]))
            store = store_on(next_manager, Planned())
            there = await rows(store)
            assert old.keys() <= there.keys() or expected is None or there.keys() >= {row[0] for row in expected}
            await ingest(store, [file])
            expected = expected or await state(store)
            assert await state(store) == expected, number
        if number and not killed:
            assert number > 10
            return
    raise AssertionError


async def state(store: QdrantVectorStore) -> Any:
    found = [each async for page in store.engine.pages(ALL, vectors=True) for each in page]
    assert await store.count({"n": {"$gte": 0}}) == sum("n" in each.metadata for each in found)
    return sorted(
        (
            each.id,
            each.text,
            each.metadata["document_id"],
            str(each.metadata),
            [] if each.vector is None else each.vector.tolist(),
        )
        for each in found
    )


async def test_a_reembedding_killed_at_any_call_is_completed_by_the_next() -> None:
    newer = Planned(size=6)
    newer.model = "newer"
    for number in (0, *range(1, 400, 3)):
        server = LocalServer()
        async with LocalManager(server) as manager, LocalManager(server) as next_manager:
            store = store_on(manager, Planned())
            await store.upsert(chunks(OLD))
            killed = await kill_at(server, number, reembed(store, EmbeddingModel.of(newer), settles=0))
            there = await rows(store_on(next_manager, newer if await _is_new(next_manager) else Planned()))
            assert there == OLD
            await reembed(store_on(next_manager, Planned()), EmbeddingModel.of(newer), settles=0)
            assert await rows(store_on(next_manager, newer)) == OLD
            assert len((await server.run("get_collections")).collections) == 1
        if number and not killed:
            assert number > 30
            return
    raise AssertionError


async def _is_new(manager: LocalManager) -> bool:
    contract = await store_on(manager, Planned()).engine.contract()
    assert contract is not None
    return contract.model == "newer"
