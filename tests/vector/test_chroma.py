"""What only Chroma does, in a directory and on a server: filters, searches and what it refuses."""

import math
import operator
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import OutcomeUnknownError, StoreUnavailableError
from app.db.query import ALL, to_predicate
from app.db.vector import chroma_collection, chroma_engine, chroma_recall
from app.db.vector.chroma_collection import ChromaCollection
from app.db.vector.chroma_filter import MOST_PARTS, compile_filter
from app.db.vector.chroma_rows import ordered
from app.db.vector.chroma_steps import Steps
from app.db.vector.chromadb import ChromaVectorStore

from .places import PLACES, Place
from .planned import Planned, doc

KINDS = [name for name in PLACES if name.startswith("chroma")]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](request, tmp_path)


@pytest.fixture
async def directory(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    place = PLACES["chroma-directory"](request, tmp_path)
    yield place
    await place.manager.close()


def engine_of(store: Any) -> chroma_engine.ChromaVectorEngine:
    assert isinstance(store, ChromaVectorStore)
    return store.engine


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    "question",
    [
        {"v": "paris"},
        {"v": {"$ne": "paris"}},
        {"v": 1},
        {"v": {"$ne": 1.5}},
        {"v": True},
        {"v": {"$in": ["a", 1, False]}},
        {"v": {"$nin": ["a", 1, False]}},
        {"v": {"$gte": 1, "$lt": 10}},
        {"v": {"$contains": 1}},
        {"$nor": [{"v": True}, {"w": "x"}]},
    ],
    ids=repr,
)
def test_the_common_filters_are_one_call_of_the_engine(question: dict[str, Any]) -> None:
    side = compile_filter(to_predicate(question))
    assert side.exact
    assert isinstance(side.where, dict)


NUMBERS = [0.1 + n / 7 for n in range(20)] + [-0.3, -1e300 / 7, 1e-300 / 3, 1e300 / 7, 5e-324, -5e-324, math.pi]
TRAPS = [
    0,
    -0.0,
    1,
    2**53 - 1,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    2**63 - 1,
    -(2**63),
    float(2**53),
    1.7976931348623157e308,
]
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$eq": operator.eq,
    "$ne": operator.ne,
}


async def test_every_number_is_compared_exactly(place: Place) -> None:
    numbers = [*NUMBERS, *TRAPS]
    store = place.store(Planned())
    rows = [doc("t", {"v": n}, str(place)) for place, n in enumerate(numbers)]
    await store.save_and_embed(None, [*rows, doc("t", {"v": True}, "true"), doc("t", {"v": "1"}, "text"), doc("t", {})])
    await place.manager.disconnect()
    for asked in numbers:
        for name, holds in COMPARED.items():
            expected = sum(holds(each, asked) for each in numbers) + 3 * (name == "$ne")
            assert await store.count({"v": {name: asked}}) == expected, (name, asked)


def test_the_order_of_floats_is_that_of_integers() -> None:
    numbers = sorted(float(each) for each in [*NUMBERS, *TRAPS])
    assert sorted(map(ordered, numbers)) == [ordered(each) for each in numbers]
    assert ordered(-0.0) == ordered(0.0)
    assert all(-(2**63) <= ordered(each) < 2**63 for each in numbers)


async def test_a_filter_that_is_too_large_to_be_asked_is_answered(place: Place) -> None:
    store = place.store(Planned())
    await store.save_and_embed(None, [doc("t", {"a": f"{n}", "n": n}, str(n)) for n in range(20)])
    many = {"a": {"$in": [str(n) for n in range(10, 40_000)]}}
    wide = {"$or": [{"n": {"$gt": n, "$lt": n + 2}} for n in range(MOST_PARTS // 2 + 1)]}
    deep: dict[str, Any] = {"n": {"$gt": 3}}
    for n in range(14):
        deep = {"$or": [{"$and": [deep, {"n": {"$ne": n}}]}, {"n": 99 + n}]}
    for question, expected in ((many, 10), (wide, 19), (deep, 6), ({"$nor": [wide]}, 1)):
        assert await store.count(question) == expected
        assert len(await store.search_similar("q", 20, question)) == expected


async def test_nothing_is_left_of_what_a_row_was(place: Place) -> None:
    """Chroma keeps the keys that a write does not name."""
    store = place.store(Planned())
    await store.save_and_embed(None, [doc("t", {"a": "x", "n": 1, "tags": ["new"], "b": True}, "1")])
    await store.save_and_embed(None, [doc("t", {"a": 5, "c": "y"}, "1"), doc("t", {}, "")])
    gone: list[dict[str, Any]] = [{"a": "x"}, {"n": 1}, {"n": {"$gt": 0}}, {"tags": {"$contains": "new"}}, {"b": True}]
    for question in gone:
        assert await store.count(question) == 0
    assert await store.update_metadata_where({"a": 5}, {"a": None, "c": ["z"]}) == 1
    for question in ({"a": 5}, {"a": {"$gte": 5}}, {"c": "y"}):
        assert await store.count(question) == 0
    assert await store.count({"c": {"$contains": "z"}}) == 1
    assert await store.get_by_ids(["", "1"]) == [doc("t", {}, ""), doc("t", {"a": None, "c": ["z"]}, "1")]


# ---------------------------------------------------------------- search


async def test_k_rows_come_whenever_k_match_and_the_index_misses_some(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.store(Planned())
    await store.save_and_embed(None, [doc(f"t {n}", {"n": n, "s": f"{n:02}"}, str(n)) for n in range(40)])
    questions: list[dict[str, Any]] = [{}, {"n": {"$lt": 20}}, {"s": {"$gte": "20"}}]
    expected = [await store.search_with_scores("q", 8, question) for question in questions]
    searched = ChromaCollection.nearest

    def partly(*given: Any, **options: Any) -> Steps[Any]:
        found = yield from searched(*given, **options)
        return found[:3]

    monkeypatch.setattr(ChromaCollection, "nearest", partly)
    for question, before in zip(questions, expected, strict=True):
        now = await store.search_with_scores("q", 8, question)
        assert [document for document, _ in now] == [document for document, _ in before]
        assert [score for _, score in now] == pytest.approx([score for _, score in before], abs=1e-6)


async def test_a_few_of_many_are_searched_by_the_index_where_chroma_cannot_say_the_filter(
    directory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = directory.store(Planned(size=3))
    await store.save_and_embed(None, [doc(f"t {n}", {"s": f"{n:04}"}, str(n)) for n in range(1500)])
    question = {"s": {"$startswith": "000"}}
    expected = [each.id for each in await directory.store(Planned(size=3), recall=1).search_similar("q", 5, question)]
    assert len(expected) == 5
    asked: list[int] = []
    searched = ChromaCollection.nearest

    def counted(self: Any, vector: Any, number: int, *given: Any, **options: Any) -> Steps[Any]:
        asked.append(number)
        return (yield from searched(self, vector, number, *given, **options))

    monkeypatch.setattr(ChromaCollection, "nearest", counted)
    assert [each.id for each in await store.search_similar("q", 5, question)] == expected
    assert asked[0] < asked[-1]
    assert [each.id for each in await store.search_similar("q", 5, {"s": {"$startswith": "9"}})] == []


async def test_the_recall_that_is_asked_for_is_found_on_hard_data(directory: Place) -> None:
    random = np.random.default_rng(5)
    vectors = random.standard_normal((3000, 256)).astype(np.float32)
    documents = [doc("t", {"bucket": n % 100}, str(n)) for n in range(len(vectors))]
    await directory.store(Planned(size=256)).add_vectors(documents, vectors)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = random.standard_normal((12, 256)).astype(np.float32)
    found: dict[float, float] = {}
    widths: dict[float, int] = {}
    for recall in (0.5, 0.99, 1):
        store = directory.store(Planned(size=256), recall=recall)
        hits = 0
        for query in queries:
            true = {str(n) for n in np.argsort(-(units @ query))[:10]}
            hits += len(true & {document.id for document, _ in await store.search_by_vector(query, 10)})
        found[recall] = hits / 10 / len(queries)
        index = engine_of(store)._index
        widths[recall] = 0 if index is None else index.width(recall, 10)
    # Its graph is made by several threads, each time another.
    assert found[0.99] > max(found[0.5], 0.95)
    assert widths[0.99] > widths[0.5]
    assert found[1] == 1
    assert widths[1] == 0, "it does not ask the index"
    for query in queries[:5]:
        best = [str(n) for n in np.argsort(-(units @ query)) if n % 100 == 7][:10]
        got = await directory.store(Planned(size=256)).search_by_vector(query, 10, {"bucket": 7})
        assert [document.id for document, _ in got] == best


async def test_the_index_is_measured_again_when_there_is_more_of_it(
    directory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_recall, "WIDTHS", (10, 20, 40))
    store = directory.store(Planned())
    engine = engine_of(store)
    sizes: list[int] = []
    for number in (15, 5, 60):
        await store.save_and_embed(None, [doc(f"t {n} {number}") for n in range(number)])
        assert len(await store.search_similar("q", 3)) == 3
        assert engine._index is not None
        sizes.append(engine._index.rows)
    assert sizes == [15, 15, 80]


async def test_words_are_found_as_they_are_spelt_and_the_rare_weigh_more(place: Place) -> None:
    store = place.store(Planned())
    texts = [
        "the cat, the dog",
        "the Cat sat",
        "concatenate the words",
        "GRÖSSE 42 (the)",
        "dog dog dog the",
        "x the",
        "zebra crossing",
    ]
    await store.save_and_embed(None, [doc(text, {"n": n, "s": text}, str(n)) for n, text in enumerate(texts)])

    async def best(text: str, where: Any = None, k: int = 9) -> list[str]:
        return [each.id for each in await store.engine.matching_text(text, k, to_predicate(where))]

    assert set(await best("CAT")) == {"0", "1"}
    assert await best("grösse") == ["3"]
    assert await best("42") == ["3"]
    assert await best("X .* ( [") == ["5"]
    assert await best("%_*") == []
    assert (await best("the dog"))[0] == "4"
    assert (await best("the zebra"))[0] == "6"
    assert (await best("the cat"))[:2] in (["0", "1"], ["1", "0"])
    assert await best("the", {"n": {"$gte": 4}}, 1) == ["5"]
    assert set(await best("cat dog", {"s": {"$startswith": "the"}})) == {"0", "1"}
    found = await store.engine.matching_text("cat dog", 9, ALL)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert all(each.score > 0 for each in found)


async def test_what_chroma_refuses_is_said_without_what_was_written(
    directory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (chroma_collection, chroma_engine):
        monkeypatch.setattr(module, "BATCH", 10_000)
    store = directory.store(Planned())
    await store.save_and_embed(None, [doc("t", row_id="x")])
    many = [doc("t secret", {"secret": "s"}, f"secret {n}") for n in range(5_462)]
    with pytest.raises((StoreUnavailableError, OutcomeUnknownError), match="refused it") as caught:
        await store.add_vectors(many, np.ones((len(many), 4), dtype=np.float32))
    assert "secret" not in str(caught.value)
    assert await store.count() == 1
