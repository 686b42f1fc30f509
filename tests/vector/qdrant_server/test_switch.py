"""One collection in the place of another, on a server that cannot rename."""

import asyncio
from dataclasses import replace

import pytest

from app.core.constants import Distance
from app.core.errors import (
    EmbeddingMismatchError,
)
from app.db.vector.contract import CollectionContract
from app.db.vector.qdrant import QdrantVectorStore

from ..planned import Planned, doc, store_on
from ..qdrant_local import LocalManager, LocalServer
from .killing import kill_at, quiet, rows, stage


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


async def test_whoever_looks_in_the_middle_of_a_switch_finds_one_of_the_two(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc("old", row_id="x")])
    assert await rows(other) == {"x": "old"}
    staged = await stage(store, "planned", {"x": "new"})
    seen: list[dict[str, str]] = []
    fresh = LocalManager(server)

    async def look(_: str) -> None:
        server.before = quiet
        seen.append(await rows(other))
        seen.append(await rows(store_on(fresh, Planned())))
        await other.upsert([doc("late", row_id="late")])
        server.before = look

    server.before = look
    await store.engine.replace_by(staged.collection)
    server.before = quiet
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
    await staged.engine.amend(lambda contract: replace(contract, ready="a run"))
    assert await store.drop_collection()
    assert (await server.run("get_collections")).collections == []
    assert not await store.drop_collection()


async def test_an_answer_of_the_new_collection_is_none_for_the_old_embedding(
    store: QdrantVectorStore, other: QdrantVectorStore, server: LocalServer
) -> None:
    await store.upsert([doc("old", row_id="x")])
    staged = await stage(store, "new", {"x": "new"})
    await store.engine.amend(lambda contract: replace(contract, moving_to="Planned/new"))
    server.meanwhile("query_points", lambda: store.engine.replace_by(staged.collection))
    with pytest.raises(EmbeddingMismatchError, match="embedded with Planned/new"):
        await other.search_similar("old")
