"""Other processes come between the requests of one operation."""

import pytest

from app.core.errors import (
    EmbeddingMismatchError,
)
from app.db.models.values import utc_now
from app.db.vector import qdrant_server_access
from app.db.vector.qdrant import QdrantVectorStore

from ..planned import Planned, doc, store_on
from ..qdrant_local import LocalServer
from .killing import rows


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


async def test_words_are_indexed_anew_in_a_collection_that_another_made_anew(
    store: QdrantVectorStore, other: QdrantVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.upsert([doc("x y", row_id="x")])
    assert await store.search_hybrid("x")
    await other.drop_collection()
    await other.upsert([doc("x y z", row_id="z")])
    monkeypatch.setattr(qdrant_server_access, "_LOOK_AGAIN", 0.0)
    assert [each.id for each, _ in await store.search_hybrid("x")] == ["z"]


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
