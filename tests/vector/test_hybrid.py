"""Search by meaning and words together, metadata changed in place, rows with their vectors, and choices that vary."""

from typing import Any

import numpy as np
import pytest

from app.core.constants import Distance
from app.core.errors import DuplicateRecordError, InvalidChangeError, InvalidFilterError
from app.db.query import Filter, to_predicate
from app.db.vector.engine import VectorEngine
from app.db.vector.similarity import diverse
from app.db.vector.store import CollectionVectorStore

from .places import Place
from .planned import Planned, doc

TEXTS = {
    "a": "the cat sat on the mat",
    "b": "dogs bark loudly",
    "c": "manual of the XK-42 engine",
    "d": "cats are animals",
}


@pytest.fixture
async def filled(store: CollectionVectorStore, planned: Planned) -> CollectionVectorStore:
    for number, (row_id, text) in enumerate(TEXTS.items()):
        planned.vectors[text] = [1.0, 0.2 * number, 0.0, 0.0]
        await store.upsert([doc(text, {"n": number, "tag": "x"}, row_id)])
    planned.vectors["XK-42"] = [1.0, 0.0, 0.0, 0.0]
    return store


async def test_words_bring_up_what_meaning_alone_has_last(filled: CollectionVectorStore) -> None:
    by_meaning = [each.id for each in await filled.search_similar("XK-42", 4)]
    assert by_meaning == ["a", "b", "c", "d"]
    found = await filled.search_hybrid("XK-42", 4)
    assert [document.id for document, _ in found] == ["c", "a", "b", "d"]
    assert found[0][1] == pytest.approx(1 / 61 + 1 / 63)
    assert found[1][1] == pytest.approx(1 / 61)


async def test_other_words_than_the_question(filled: CollectionVectorStore) -> None:
    found = await filled.search_hybrid("XK-42", 1, text="loudly")
    assert [document.id for document, _ in found] == ["b"]


async def test_a_filter_holds_for_both_searches(filled: CollectionVectorStore) -> None:
    for where in ({"n": {"$ne": 2}}, {"tag": {"$contains": "x"}, "n": {"$lt": 2}}):
        found = await filled.search_hybrid("XK-42", 4, where)
        assert "c" not in [document.id for document, _ in found]
        assert found


async def test_one_call_of_the_engine_ranks_as_two_and_our_fusion(filled: CollectionVectorStore) -> None:
    vector = np.asarray([1.0, 0.0, 0.0, 0.0], dtype=np.float32)
    for where in (None, {"n": {"$gte": 1}}):
        own = await filled.engine.hybrid(vector, "XK-42 manual", 3, to_predicate(where), candidates=10)
        ours = await VectorEngine.hybrid(filled.engine, vector, "XK-42 manual", 3, to_predicate(where), candidates=10)
        assert [each.id for each in own] == [each.id for each in ours]
        assert [each.score for each in own] == pytest.approx([each.score for each in ours])


async def test_metadata_changes_without_text_or_vector(filled: CollectionVectorStore, planned: Planned) -> None:
    planned.asked.clear()
    assert await filled.update_metadata_where({"n": {"$gte": 2}}, {"tag": "y", "new": [1, {"k": None}]}) == 2
    assert planned.asked == []
    assert await filled.count({"tag": "y"}) == 2
    assert await filled.count({"tag": "x"}) == 2
    [c] = await filled.get_by_ids(["c"])
    assert c.metadata == {"n": 2, "tag": "y", "new": [1, {"k": None}]}
    assert c.page_content == TEXTS["c"]
    assert [each.id for each in await filled.search_similar("XK-42", 4)] == ["a", "b", "c", "d"]


async def test_a_change_that_moves_rows_out_of_the_filter_meets_each_once(store: CollectionVectorStore) -> None:
    await store.upsert([doc(f"text {number}", {"n": 1}, str(number)) for number in range(1200)])
    assert await store.update_metadata_where({"n": 1}, {"n": 2}) == 1200
    assert await store.count({"n": 2}) == 1200


@pytest.mark.parametrize("changes", [{"document_id": "other"}, {"x": object()}, {"x": float("nan")}])
async def test_a_change_that_cannot_be_is_refused(filled: CollectionVectorStore, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidChangeError):
        await filled.update_metadata_where({"n": 1}, changes)


async def test_everything_has_to_be_meant(filled: CollectionVectorStore) -> None:
    empty: list[Filter] = [None, {}, {"$or": [{"$and": []}]}]
    for nothing in empty:
        with pytest.raises(InvalidFilterError):
            await filled.update_metadata_where(nothing, {"a": 1})
        with pytest.raises(InvalidFilterError):
            await filled.delete_where(nothing)
    assert await filled.update_metadata_where(None, {"a": 1}, everything=True) == 4


async def test_add_refuses_ids_that_are_taken(filled: CollectionVectorStore) -> None:
    with pytest.raises(DuplicateRecordError):
        await filled.add([doc("new", row_id="new"), doc("again", row_id="a")])
    with pytest.raises(DuplicateRecordError):
        await filled.add([doc("one", row_id="same"), doc("two", row_id="same")])
    assert await filled.count() == 4
    [own] = await filled.add([doc("without an id")])
    assert [each.page_content for each in await filled.get_by_ids([own])] == ["without an id"]


async def test_rows_leave_and_come_back_with_their_vectors(
    filled: CollectionVectorStore, planned: Planned, place: Place
) -> None:
    pages = [page async for page in filled.export()]
    documents = [document for page, _ in pages for document in page]
    vectors = np.concatenate([vectors for _, vectors in pages])
    assert vectors.dtype == np.float32
    other = place.store(planned, collection="other")
    planned.asked.clear()
    assert await other.add_vectors(documents, vectors) == [document.id for document in documents]
    assert planned.asked == []
    assert await other.search_with_scores("XK-42", 4) == await filled.search_with_scores("XK-42", 4)
    with pytest.raises(InvalidChangeError):
        await other.add_vectors(documents, vectors[:1])


async def test_a_least_similarity(filled: CollectionVectorStore) -> None:
    scores = [score for _, score in await filled.search_with_scores("XK-42", 4)]
    assert [s for _, s in await filled.search_with_scores("XK-42", 4, min_score=scores[1])] == scores[:2]
    assert await filled.search_similar("XK-42", 4, min_score=1.1) == []


def test_relevance_alone_is_nearness_and_variety_takes_what_is_unlike() -> None:
    query = np.asarray([1.0, 0.0], dtype=np.float32)
    vectors = np.asarray([[1.0, 0.01], [1.0, 0.02], [0.6, -0.8], [0.9, 0.1]], dtype=np.float32)
    for distance in Distance:
        assert diverse(distance, query, vectors[:1], 3, 0.5) == [0]
    assert diverse(Distance.COSINE, query, vectors, 4, 1.0) == [0, 1, 3, 2]
    assert diverse(Distance.COSINE, query, vectors, 2, 0.3) == [0, 2]
    assert diverse(Distance.L2, query, vectors, 2, 0.3) == [0, 2]
