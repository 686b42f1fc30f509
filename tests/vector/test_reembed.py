"""Collections that are embedded anew while they are used, on every engine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from app.core.constants import Distance
from app.core.errors import AppError, ConfigurationError, EmbeddingMismatchError, TransactionError
from app.db.models.values import utc_now
from app.db.query import ALL
from app.db.vector import chroma_engine, pgvector_engine, qdrant_server_access
from app.db.vector import reembed as module
from app.db.vector.comparison import content_hash, row_from
from app.db.vector.contract import CollectionContract, staged_name
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.reembed import Estimate, estimate, reembed
from app.db.vector.store import CollectionVectorStore

from .places import Place
from .planned import Planned, doc


class Newer(Planned):
    """Another model, that has something done before it embeds for the n-th time."""

    def __init__(self, before: Callable[[int], Awaitable[Any]] | None = None, *, size: int = 6) -> None:
        super().__init__(size=size)
        self.model = "newer"
        self.dimension = size
        self.calls = 0
        self._before = before

    def embed_query(self, text: str) -> list[float]:
        return super().embed_query(f"newer {text}")

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        if self._before is not None:
            await self._before(self.calls)
        return self.embed_documents(texts)


def model(embeddings: Planned) -> EmbeddingModel:
    return EmbeddingModel.of(embeddings)


async def content(store: CollectionVectorStore) -> set[bytes]:
    return {content_hash(each) async for page in store.engine.pages(ALL) for each in page}


async def fill(store: CollectionVectorStore, number: int = 5) -> None:
    docs = [
        doc(f"text {n}", {"n": n, "document_id": f"d{n // 2}", "tags": ["a", n]}, f"row {n}") for n in range(number)
    ]
    await store.save_and_embed(None, docs)


async def closed(store: CollectionVectorStore) -> None:
    """Return once the collection takes no more writes."""
    async with asyncio.timeout(10):
        while (known := await store.engine.contract()) is None or known.moving_to is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def staged_contract(store: CollectionVectorStore) -> CollectionContract | None:
    async def asked(_: int | None) -> CollectionContract:
        raise AssertionError

    return await store.engine_on(staged_name(store.collection), asked).contract()


async def test_all_rows_are_there_with_the_vectors_of_another_model(store: CollectionVectorStore, place: Place) -> None:
    await fill(store)
    await store.engine.amend(lambda each: replace(each, chunker="2:10:1"))
    before = await content(store)
    seen: list[tuple[str, int, int]] = []
    newer = Newer()
    report = await reembed(store, model(newer), settles=0, progress=lambda *each: seen.append(each))
    assert (report.rows, report.embedded, report.removed) == (5, 5, 0)
    assert report.before == "Planned/planned, 4 dimensions, cosine"
    assert report.after == "Newer/newer, 6 dimensions, cosine"
    assert ("embedding", 5, 5) in seen
    after = place.store(Newer())
    assert await content(after) == before
    assert await after.engine.contract() == CollectionContract("Newer", "newer", 6, Distance.COSINE, chunker="2:10:1")
    assert (await after.search_similar("text 3", k=1))[0].id == "row 3"
    async for _, vectors in after.export():
        assert vectors.shape == (5, 6)
    with pytest.raises(EmbeddingMismatchError, match="manystore vectors reembed documents --to Planned"):
        await place.store(Planned()).count()
    assert await staged_contract(store) is None
    assert await after.delete_by_document_id("d0")
    await after.save_and_embed(None, [doc("one more")])
    assert await after.count() == 4


async def test_what_is_written_meanwhile_is_caught_up_with(
    store: CollectionVectorStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LITTLE", 0)
    await fill(store)

    async def write(call: int) -> None:
        if call == 1:
            await store.save_and_embed(None, [doc("another text", row_id="row 0"), doc("brand new", row_id="new")])
            await store.delete(["row 1"])
        elif call == 2:
            await store.update_metadata_where({"n": 2}, {"seen": True})
            await store.delete(["new"])

    report = await reembed(store, model(Newer(write)), settles=0)
    assert (report.rows, report.removed) == (4, 2)
    after = place.store(Newer())
    rows = {each.id: each async for page in after.engine.pages(ALL, vectors=True) for each in page}
    assert set(rows) == {"row 0", "row 2", "row 3", "row 4"}
    assert rows["row 0"].text == "another text"
    assert rows["row 2"].metadata["seen"] is True
    for each in rows.values():
        [expected] = await model(Newer()).array([each.text])
        assert each.vector is not None
        assert each.vector @ expected / (expected @ expected) ** 0.5 > 0.99999


async def test_before_the_switch_nobody_writes_and_all_search(store: CollectionVectorStore, place: Place) -> None:
    await fill(store)
    work = asyncio.create_task(reembed(store, model(Newer()), settles=0.5))
    await closed(store)
    writer = place.store(Planned())
    for write in (
        writer.save_and_embed(None, [doc("x")]),
        writer.re_embed_document("d0"),
        writer.update_document("d0", doc("y")),
        writer.delete(["row 1"]),
        writer.delete_where({"n": 1}),
        writer.delete_by_document_id("d0"),
        writer.update_metadata_where({"n": 1}, {"a": 1}),
    ):
        with pytest.raises(EmbeddingMismatchError, match="re-embedded with Newer/newer, and takes no writes"):
            await write
    assert await writer.count() == 5
    assert (await writer.search_similar("text 3", k=1))[0].id == "row 3"
    await work
    with pytest.raises(EmbeddingMismatchError, match="embedded with Newer/newer"):
        await writer.search_similar("text 3")
    assert await place.store(Newer()).count() == 5


async def test_no_write_is_lost_and_no_answer_wrong_meanwhile(
    store: CollectionVectorStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two models make vectors of one length, so that nothing but the contract tells them apart."""
    for engine in (chroma_engine, pgvector_engine, qdrant_server_access):
        monkeypatch.setattr(engine, "_LOOK_AGAIN", 0.2)
    monkeypatch.setattr(module, "_BLOCK", 10)
    await fill(store, 60)
    writer, reader = place.store(Planned()), place.store(Planned())
    written: set[str] = set()

    async def write() -> None:
        while True:
            row_id = f"new {len(written)}"
            await writer.save_and_embed(None, [doc(row_id, {"n": -1}, row_id)])
            written.add(row_id)
            await writer.update_metadata_where({"n": 3}, {"writes": len(written)})
            await asyncio.sleep(0.001)

    async def read() -> None:
        while True:
            assert [each.id for each in await reader.search_similar("text 3", k=1)] == ["row 3"]
            assert len(await reader.get_by_ids(["row 3"])) == 1
            await asyncio.sleep(0.001)

    newer = Newer(size=4)
    writing, reading = asyncio.create_task(write()), asyncio.create_task(read())
    await asyncio.sleep(0.1)
    await reembed(store, model(newer), settles=0.5)
    for task, says in ((writing, "takes no writes"), (reading, "embedded with")):
        with pytest.raises(EmbeddingMismatchError, match=says):
            await asyncio.wait_for(task, 5)
    after = place.store(newer)
    assert written
    rows = {each.id: each async for page in after.engine.pages(ALL) for each in page}
    assert set(rows) == {f"row {n}" for n in range(60)} | written
    assert rows["row 3"].metadata["writes"] in (len(written), len(written) - 1)
    assert [each.id for each in await after.search_similar("text 3", k=1)] == ["row 3"]


async def test_one_that_fails_is_written_on_and_goes_on_where_it_was(
    store: CollectionVectorStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)
    monkeypatch.setattr(store.engine, "PAGE", 2, raising=False)
    await fill(store)

    async def check(of: Any, made: CollectionContract | None) -> None:
        assert made is not None
        assert of._closed is not None
        raise AppError("the power failed")

    with monkeypatch.context() as patch:
        patch.setattr(module._Reembedding, "_check_unchanged", check)
        with pytest.raises(AppError, match="the power failed"):
            await reembed(store, model(Newer()), settles=0)
    await store.save_and_embed(None, [doc("text 7", row_id="row 7")])
    assert await estimate(store, model(Newer())) == Estimate(rows=6, texts=1, characters=6)
    other = Newer()
    other.model = "yet another"
    assert await estimate(store, model(other)) == Estimate(rows=6, texts=6, characters=36)
    report = await reembed(store, model(Newer()), settles=0)
    assert (report.rows, report.embedded) == (6, 1)
    assert await place.store(Newer()).count() == 6
    assert await estimate(place.store(Newer()), model(Newer())) == Estimate(6, 0, 0)


async def test_another_target_begins_anew_and_the_own_takes_it_back(
    store: CollectionVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)

    async def fail(*_: Any) -> None:
        raise AppError("stopped")

    monkeypatch.setattr(module._Reembedding, "_check_unchanged", fail)
    with pytest.raises(AppError, match="stopped"):
        await reembed(store, model(Newer()), settles=0)
    there = await staged_contract(store)
    assert there is not None
    assert (there.model, there.dimension, there.replaces) == ("newer", 6, "documents")
    other = Newer(size=3)
    other.model = "third"
    with pytest.raises(AppError, match="stopped"):
        await reembed(store, model(other), settles=0)
    there = await staged_contract(store)
    assert there is not None
    assert (there.model, there.dimension) == ("third", 3)
    assert await store.drop_collection()
    assert await staged_contract(store) is None
    await fill(store)
    with pytest.raises(AppError, match="stopped"):
        await reembed(store, model(other), settles=0)
    await store.engine.amend(lambda each: replace(each, moving_to="as a killed run leaves it"))
    report = await reembed(store, model(Planned()), settles=0)
    assert report.before == report.after == "Planned/planned, 4 dimensions, cosine"
    assert report.embedded == 0
    assert await staged_contract(store) is None
    await store.save_and_embed(None, [doc("x")])


async def test_what_has_read_vectors_reads_those_of_the_new(store: CollectionVectorStore, place: Place) -> None:
    await fill(store)
    for embeddings in (Newer(), Planned(), Newer(size=3)):
        for _ in range(7):  # statements are prepared once they were used some times
            assert [len(page) async for page, _ in store.export()] == [5]
        await reembed(store, model(embeddings), settles=0)
        store = place.store(embeddings)
    assert [vectors.shape async for _, vectors in store.export()] == [(5, 3)]


async def test_a_cancelled_one_lets_writers_go_on(store: CollectionVectorStore) -> None:
    await fill(store)
    work = asyncio.create_task(reembed(store, model(Newer()), settles=60))
    await closed(store)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await store.save_and_embed(None, [doc("x")])


async def test_somebody_else_is_noticed(store: CollectionVectorStore) -> None:
    await fill(store)
    work = asyncio.create_task(reembed(store, model(Newer()), settles=0.4))
    await closed(store)
    await store.engine.amend(lambda each: replace(each, moving_to="Third/third"))
    with pytest.raises(AppError, match="changed by somebody else"):
        await work
    known = await store.engine.contract()
    assert known is not None
    assert (known.provider, known.moving_to) == ("Planned", "Third/third")


@pytest.mark.parametrize("closed", [True, False])
async def test_what_another_has_begun_to_replace_stays(
    store: CollectionVectorStore, monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    await fill(store)
    replace_by = type(store.engine).replace_by

    def begun(contract: CollectionContract) -> CollectionContract:
        return replace(contract, run="another", closed_by="another", moving_to="Third/third" if closed else None)

    async def too_late(self: Any, staged: str, run: str | None = None) -> None:
        await self.amend(begun)
        await replace_by(self, staged, run)

    monkeypatch.setattr(type(store.engine), "replace_by", too_late)
    with pytest.raises(TransactionError, match="not replaced"):
        await reembed(store, model(Newer()), settles=0)
    known = await store.engine.contract()
    assert known is not None
    assert (known.provider, known.run, known.closed_by) == ("Planned", "another", "another")
    assert await store.count() == 5
    monkeypatch.undo()
    assert (await reembed(store, model(Newer()), settles=0)).rows == 5


async def test_one_that_is_under_way_is_told_that_another_has_begun(
    store: CollectionVectorStore,
) -> None:
    await fill(store)
    third = Newer(size=5)
    third.model = "third"

    async def begin_another(_: int) -> None:
        rows = [row_from(each) async for page in store.engine.pages(ALL) for each in page]
        vectors = await model(third).array([each.text for each in rows])
        await store.engine_on(staged_name(store.collection), asked).upsert(rows, vectors, utc_now().isoformat())

    async def asked(_: int | None) -> CollectionContract:
        return CollectionContract("Newer", "third", 5, Distance.COSINE, replaces=store.collection)

    with pytest.raises(AppError, match="if another re-embedding is under way"):
        await reembed(store, model(Newer(begin_another)), settles=0)


async def test_a_distance_can_change(store: CollectionVectorStore, place: Place) -> None:
    await fill(store)
    by_length = place.store(Planned(), distance=Distance.L2)
    with pytest.raises(EmbeddingMismatchError, match=r"cosine.*l2.*manystore vectors reembed"):
        await by_length.count()
    await reembed(by_length, model(Planned()), settles=0)
    assert await by_length.count() == 5


async def test_an_empty_collection_is_made_anew_by_the_next_write(store: CollectionVectorStore, place: Place) -> None:
    with pytest.raises(ConfigurationError, match="there is no collection 'documents'"):
        await reembed(store, model(Newer()), settles=0)
    await fill(store)
    await store.delete_where({}, everything=True)
    report = await reembed(store, model(Newer()), settles=0)
    assert (report.rows, report.embedded) == (0, 0)
    after = place.store(Newer())
    await fill(after)
    assert await after.count() == 5


async def test_names_of_unfinished_collections_are_kept(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="unfinished"):
        place.store(Planned(), collection=staged_name("documents"))
    long = "a" * 45
    assert len(staged_name(long)) <= 49
    assert staged_name(long) != staged_name("a" * 46)
    await fill(place.store(Planned(), collection=long))
    await reembed(place.store(Planned(), collection=long), model(Newer()), settles=0)
    assert await place.store(Newer(), collection=long).count() == 5
