"""What only embedded Qdrant does."""

from pathlib import Path
from typing import Any

import pytest

from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import OutcomeUnknownError
from app.db.query import to_predicate
from app.db.vector import qdrant_collection
from app.db.vector.qdrant_collection import QdrantCollection
from app.db.vector.qdrant_filter import compile_filter

from .planned import Planned, doc, store_on


async def test_reading_makes_no_collection(manager: QdrantConnectionManager) -> None:
    store = store_on(manager, Planned())
    assert await store.search_similar("q") == []
    assert await store.delete_where({"a": 1}) == 0
    assert not await store.update_document("1", doc("x"))
    assert await (await manager.engine()).read(lambda collections: collections.names()) == []


async def test_the_new_is_written_before_the_old_goes(
    manager: QdrantConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(manager, Planned())

    def fail(*_: Any) -> None:
        raise RuntimeError("killed here")

    await store.save_and_embed(None, [doc("old", {"document_id": "d"}, "old")])
    monkeypatch.setattr(QdrantCollection, "_delete", fail)
    with pytest.raises(RuntimeError):
        await store.update_document("d", doc("new"))
    with pytest.raises(RuntimeError):
        await store.re_embed_document("d", [doc("newer", row_id="newer")])
    assert {each.id async for each in store.documents()} == {"old", "d", "newer"}
    monkeypatch.undo()
    assert await store.update_document("d", doc("new"))
    assert {each.id async for each in store.documents()} == {"d"}


@pytest.mark.parametrize(
    "question",
    [
        {"v": "paris"},
        {"v": {"$ne": "paris"}},
        {"v": 1},
        {"v": None},
        {"v": {"$in": ["a", 1, None]}},
        {"v": {"$gte": 1, "$lt": 10}},
        {"v": {"$startswith": "p"}},
        {"v": {"$contains": 1}},
        {"$nor": [{"v": True}, {"w": {"$exists": False}}]},
    ],
    ids=repr,
)
def test_the_common_filters_are_one_call_of_the_engine(question: dict[str, Any]) -> None:
    assert compile_filter(to_predicate(question)).exact


@pytest.mark.parametrize("most", [0, qdrant_collection.MAX_INDEXES])
async def test_numbers_are_indexed_when_they_are_first_compared(
    manager: QdrantConnectionManager, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    store = store_on(manager, Planned())
    monkeypatch.setattr(qdrant_collection, "MAX_INDEXES", most)
    await store.save_and_embed(None, [doc(f"text {n}", {"a b": n, "c": -n}) for n in range(10)])
    for _ in range(2):
        assert await store.count({"a b": {"$gt": 3, "$lt": 6}, "c": {"$lte": -5}}) == 1
        await store.save_and_embed(None, [doc("late", {"a b": 100, "c": 100}, "late")])
        assert await store.count({"a b": {"$gte": 100}}) == 1
    engine = await manager.engine()
    schema = await engine.read(lambda collections: set(collections.shard("documents").info().payload_schema))
    assert len(schema - {"terms"}) == (2 if most else 0)


async def test_numbers_are_found_exactly_after_the_collection_is_opened_again(tmp_path: Path) -> None:
    numbers = [0.1 + n / 7 for n in range(50)] + [1e-300 / 3, 1e300 / 7, 2**62 + 1]
    async with QdrantConnectionManager(data_dir=tmp_path) as manager:
        await store_on(manager, Planned()).save_and_embed(None, [doc("t", {"v": n}, repr(n)) for n in numbers])
    async with QdrantConnectionManager(data_dir=tmp_path) as manager:
        store = store_on(manager, Planned())
        for number in numbers:
            [same] = [document async for document in store.documents({"v": number})]
            assert same.metadata == {"v": number}
            assert await store.count({"v": {"$gte": number, "$lte": number}}) == 1
            assert await store.count({"v": {"$lt": number}}) == sum(each < number for each in numbers)


async def test_a_collection_that_cannot_be_replaced_stays(
    manager: QdrantConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = store_on(manager, Planned()), store_on(manager, Planned(), collection="other")
    await store.save_and_embed(None, [doc("old")])
    await other.save_and_embed(None, [doc("new"), doc("newer")])
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "other":
            raise OSError("held by a virus scanner")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(OutcomeUnknownError, match="virus scanner"):
            await store.engine.replace_by("other")
    assert (await store.count(), await other.count()) == (1, 2)
    await store.engine.replace_by("other")
    await store.engine.replace_by("other")
    assert (await store.count(), await other.count()) == (2, 0)


async def test_any_of_many_numbers_is_one_condition_and_exact(manager: QdrantConnectionManager) -> None:
    store = store_on(manager, Planned())
    numbers = [n / 8 for n in range(-500, 500)] + [n / 7 for n in range(1, 50)] + [2**53 + n for n in range(3)]
    await store.save_and_embed(None, [doc("text", {"n": n}, f"{place}") for place, n in enumerate(numbers)])
    for asked in (numbers[::2], numbers[3:1_000:7], numbers[1_000:], [numbers[5]], [1e9, "1", *numbers[-2:]]):
        found = [document async for document in store.documents({"n": {"$in": asked}})]
        assert {each.metadata["n"] for each in found} == set(asked).intersection(numbers)
    compiled = compile_filter(to_predicate({"n": {"$in": list(range(1_000))}}))
    assert str(compiled.condition).count("RangeFloat") == 1
