"""Every filter finds on every engine exactly what `evaluate.matches` says of the metadata."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import InvalidFilterError
from app.db.query import And, Compare, Not, Op, Or, Predicate, to_predicate
from app.db.query.evaluate import matches
from app.db.vector.store import CollectionVectorStore

from .places import PLACES
from .planned import Planned, doc

NAMES = ("a", "b", "a b", "é-x", "a=t", "a.b", "a^t", "", "numbers")
PATHS = ("a", "b", "a b", "é-x", "a.b", "b.a", "a.a b.b", "numbers")
TEXTS = (
    "",
    "1",
    "x",
    "X",
    "xy",
    "true",
    "é",
    "e\u0301",
    "😀",
    "\uffff",
    "x^t",
    "z",
    "n:1",
    "x" * 256,
    "x" * 257,
    "x" * 256 + "y",
)
NUMBERS = (
    *(0, 1, -1, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 1.0, 0.1, 1.5, float(2**53), 1e300, -1e300, 5e-324, 1.7976931348623157e308),
)

numbers = st.sampled_from(NUMBERS) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.sampled_from(TEXTS) | st.text("axX é\n", max_size=3)
scalars = st.none() | st.booleans() | numbers | texts
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
metadatas = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)

asked = (
    scalars
    | st.sampled_from([Decimal(1), Decimal("0.1"), Decimal("1e400"), Decimal("-1e400"), Decimal("1e-400")])
    | st.sampled_from([Decimal(2**53 + 1), Decimal("9007199254740992.5"), Decimal("1.0000000000000000000000000001")])
    | st.sampled_from([datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1), b"x"])
)
orderable = asked.filter(lambda value: isinstance(value, bool | int | float | Decimal | str | datetime))
paths = st.sampled_from(PATHS)
comparisons: st.SearchStrategy[Predicate] = st.one_of(
    st.builds(Compare, paths, st.sampled_from([Op.EQ, Op.CONTAINS]), asked),
    st.builds(Compare, paths, st.sampled_from([Op.LT, Op.LE, Op.GT, Op.GE]), orderable),
    st.builds(Compare, paths, st.just(Op.IN), st.lists(asked, max_size=3).map(tuple)),
    st.builds(Compare, paths, st.just(Op.STARTSWITH), texts),
)
predicates: st.SearchStrategy[Predicate] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module", params=PLACES)
def runner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, CollectionVectorStore]]:
    place = PLACES[request.param](request, tmp_path_factory.mktemp("filters"))
    with asyncio.Runner() as runner:
        yield runner, place.store(Planned())
        runner.run(place.manager.close())


async def found(store: CollectionVectorStore, predicate: Predicate) -> tuple[set[str], set[str], int]:
    scrolled = {str(document.id) async for document in store.documents(predicate)}
    searched = {str(document.id) for document in await store.search_similar("q", 100, predicate)}
    return scrolled, searched, await store.count(predicate)


async def compare_with_the_definition(
    store: CollectionVectorStore, stored: list[dict[str, Any]], asked_for: list[Predicate]
) -> None:
    await store.delete_where(None, everything=True)
    await store.save_and_embed(None, [doc(f"text {n}", metadata, str(n)) for n, metadata in enumerate(stored)])
    for predicate in asked_for:
        expected = {str(n) for n, metadata in enumerate(stored) if matches(predicate, metadata)}
        scrolled, searched, count = await found(store, predicate)
        assert (scrolled, searched, count) == (expected, expected, len(expected)), (predicate, stored)
    last = asked_for[-1]
    kept = {str(n) for n, metadata in enumerate(stored) if not matches(last, metadata)}
    assert await store.delete_where(last, everything=True) == len(stored) - len(kept)
    assert {str(document.id) async for document in store.documents()} == kept


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(metadatas, min_size=1, max_size=6), st.lists(predicates, min_size=1, max_size=6))
def test_the_engine_finds_what_the_definition_says(
    runner: tuple[asyncio.Runner, CollectionVectorStore], stored: list[dict[str, Any]], asked_for: list[Predicate]
) -> None:
    loop, store = runner
    loop.run(compare_with_the_definition(store, stored, asked_for))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(metadatas)
def test_metadata_comes_back_as_it_went_in(
    runner: tuple[asyncio.Runner, CollectionVectorStore], metadata: dict[str, Any]
) -> None:
    loop, store = runner
    loop.run(store.save_and_embed(None, [doc("text", metadata, "back")]))
    [back] = loop.run(store.get_by_ids(["back"]))
    assert json.dumps(back.metadata) == json.dumps(metadata)


TRAPS: list[dict[str, Any]] = [
    *(
        {"v": value}
        for value in (None, True, False, 0, 1, 1.0, "1", "true", [1], [True], [None], ["1"], {}, {"w": 1}, [])
    ),
    *({"v": value} for value in (2**53, 2**53 + 1, float(2**53), "paris", "Paris", "par", ["paris"], "\uffff", "😀")),
    {},
    *({"v": value} for value in ("x" * 256, "x" * 257, "x" * 256 + "y", "x" * 256 + "yz")),
    # What no path can name is found by no path.
    {"v.w": 1},
    {"v=t:par": True},
    {"v^t": "x", "v~n:1": {"0": 1}},
]
QUESTIONS: list[dict[str, Any]] = [
    *({"v": value} for value in (None, True, False, 0, 1, 1.0, "1", "paris", 2**53, 2**53 + 1)),
    *({"v": {"$ne": value}} for value in (None, True, 1, "paris")),
    *(
        {"v": {op: value}}
        for op in ("$lt", "$lte", "$gt", "$gte")
        for value in (1, 0.5, "paris", "\uffff", True, 2**53)
    ),
    *({"v": {"$in": value}} for value in ([], [None], [1, "paris"], [True])),
    *({"v": {"$contains": value}} for value in ("par", "", 1, True, None, "paris")),
    *({"v": {"$startswith": value}} for value in ("par", "", "P")),
    *({"v": {"$exists": value}} for value in (True, False)),
    {"v.w": 1},
    {"v": "par^b"},
    *({"v": value} for value in ("x" * 256, "x" * 257, "x" * 256 + "y")),
    *({"v": {"$startswith": value}} for value in ("x" * 255, "x" * 256, "x" * 257, "x" * 256 + "y")),
    {"v": {"$not": {"$gt": 1}}},
    {"$or": [{"v": 1}, {"v": {"$gt": "p"}}]},
    {"$nor": [{"v": {"$contains": "par"}}, {"v": 1}]},
]


@pytest.fixture(scope="module", params=PLACES)
def trapped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, CollectionVectorStore]]:
    place = PLACES[request.param](request, tmp_path_factory.mktemp("traps"))
    store = place.store(Planned(), collection="traps")
    with asyncio.Runner() as runner:
        documents = [doc(f"text {n}", metadata, str(n)) for n, metadata in enumerate(TRAPS)]
        runner.run(store.save_and_embed(None, documents))
        yield runner, store
        runner.run(place.manager.close())


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
def test_each_known_trap(trapped: tuple[asyncio.Runner, CollectionVectorStore], question: dict[str, Any]) -> None:
    runner, store = trapped
    predicate = to_predicate(question)
    expected = {str(n) for n, metadata in enumerate(TRAPS) if matches(predicate, metadata)}
    assert runner.run(found(store, predicate)) == (expected, expected, len(expected))


@pytest.mark.parametrize("k", [1, 3])
async def test_the_nearest_that_match_are_found_behind_nearer_ones_that_do_not(
    store: CollectionVectorStore, k: int
) -> None:
    planned = store.embedding.langchain
    assert isinstance(planned, Planned)
    for n in range(20):
        planned.vectors[f"text {n}"] = [1.0, n / 10, 0.0, 0.0]
    planned.vectors["q"] = [1.0, 0.0, 0.0, 0.0]
    rows = [doc(f"text {n}", {"n": n, "s": f"{n:02}"}, str(n)) for n in range(20)]
    await store.save_and_embed(None, rows)
    expected = [str(n) for n in range(15, 15 + k)]
    one_call, two_steps = {"n": {"$gte": 15}}, {"s": {"$gte": "15"}}
    for question in (one_call, two_steps):
        assert [each.id for each in await store.search_similar("q", k, question)] == expected


async def test_an_unknown_operator_is_refused_and_never_ignored(store: CollectionVectorStore) -> None:
    with pytest.raises(InvalidFilterError, match="regex"):
        await store.search_similar("q", filter_criteria={"v": {"$regex": "x"}})


async def test_a_changed_number_is_compared_as_it_is_now(store: CollectionVectorStore) -> None:
    await store.save_and_embed(None, [doc("text", {"n": 0.1}, "1")])
    for number in (1, 0.3, -2, 1e-7, 0):
        assert await store.update_metadata_where({"n": {"$exists": True}}, {"n": number}) == 1
        for op, met in (("$lt", 0), ("$lte", 1), ("$gt", 0), ("$gte", 1)):
            assert await store.count({"n": {op: number}}) == met, (op, number)
