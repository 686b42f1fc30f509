"""Hostile names, values, conditions, ids, numbers and options: a clear error or the exact answer, on every engine."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from app.core.errors import ConfigurationError, InvalidChangeError, InvalidFilterError
from app.db.models.values import check_text
from app.db.query import to_predicate
from app.db.query.evaluate import matches
from app.db.vector.store import CollectionVectorStore

from ..hostile import COLLECTIONS, CONDITIONS, NAMES, VALUES
from .places import PLACES, Place
from .planned import Planned, doc

STORED: dict[str, dict[str, Any]] = {
    "first": {"title": "one", "body": {"a": "x"}, "size": 1},
    "second": {"title": "two", "size": 2},
}
NO_TEXT = ["\0", "a\0b", "\ud800"]
Run = Callable[[Awaitable[Any]], Any]


def texts(metadata: dict[str, dict[str, Any]]) -> list[Any]:
    return [doc(f"text {row_id}", each, row_id) for row_id, each in metadata.items()]


@pytest.fixture(scope="module", params=PLACES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, Place, CollectionVectorStore]]:
    place = PLACES[request.param](request, tmp_path_factory.mktemp("hostile"))
    with asyncio.Runner() as runner:
        store = place.store(Planned())
        runner.run(store.save_and_embed(None, texts(STORED)))
        yield runner, place, store
        runner.run(place.manager.close())


@pytest.fixture
def run(place: tuple[asyncio.Runner, Place, CollectionVectorStore]) -> Iterator[Run]:
    """Run on the place's loop; at the end nothing may have been harmed."""
    runner, _, store = place
    yield lambda work: runner.run(_awaited(work))
    assert runner.run(_awaited(everything(store))) == STORED


@pytest.fixture
def store(place: tuple[asyncio.Runner, Place, CollectionVectorStore]) -> CollectionVectorStore:
    return place[2]


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


async def everything(store: CollectionVectorStore) -> dict[str, dict[str, Any]]:
    return {str(document.id): document.metadata async for document in store.documents()}


async def read(pages: Any) -> list[Any]:
    return [each async for each in pages]


def everywhere(store: CollectionVectorStore, where: Any) -> list[Callable[[], Awaitable[Any]]]:
    """All that takes a filter."""
    langchain = store.as_langchain()
    retriever = store.as_retriever(search_kwargs={"filter": where})
    return [
        lambda: store.search_similar("q", 9, where),
        lambda: store.search_with_scores("q", 9, where),
        lambda: store.search_by_vector([1, 0, 0, 0], 9, where),
        lambda: store.search_hybrid("q", 9, where),
        lambda: store.search_diverse("q", 9, where),
        lambda: store.count(where),
        lambda: read(store.documents(where)),
        lambda: read(store.document_ids(where)),
        lambda: read(store.export(where)),
        lambda: store.delete_where(where),
        lambda: store.update_metadata_where(where, {"size": 5}),
        lambda: langchain.asimilarity_search("q", 9, filter=where),
        lambda: langchain.asimilarity_search_with_score("q", 9, filter=where),
        lambda: langchain.asimilarity_search_by_vector([1, 0, 0, 0], 9, filter=where),
        lambda: langchain.amax_marginal_relevance_search("q", 9, filter=where),
        lambda: langchain.adelete(filter=where),
        lambda: retriever.ainvoke("q"),
    ]


async def found(store: CollectionVectorStore, where: Any) -> list[set[str]]:
    """The ids that each way to read finds, and that many."""
    searched = [
        await store.search_similar("q", 99, where),
        [document for document, _ in await store.search_hybrid("q", 99, where)],
        await store.search_diverse("q", 99, where),
        await read(store.documents(where)),
        await store.as_retriever(search_kwargs={"k": 99, "filter": where}).ainvoke("q"),
    ]
    answers = [{str(document.id) for document in each} for each in searched]
    assert await store.count(where) == len(answers[0])
    return answers


def is_path(name: str) -> bool:
    with suppress(InvalidFilterError):
        to_predicate({name: 1})
        return True
    return False


def can_be_stored(text: str) -> bool:
    with suppress(ValueError):
        check_text(text)
        return True
    return False


async def compared(store: CollectionVectorStore, more: dict[str, dict[str, Any]], conditions: list[Any]) -> None:
    """Each condition finds what the definition says of the rows, with more of them for the time being."""
    rows = {**STORED, **more}
    await store.save_and_embed(None, texts(more))
    try:
        assert await everything(store) == rows
        for number, where in enumerate(conditions):
            predicate = to_predicate(where)
            expected = {row_id for row_id, metadata in rows.items() if matches(predicate, metadata)}
            if number % 10 == 0:
                assert await found(store, where) == [expected] * 5, where
            searched = await store.search_similar("q", len(rows), where)
            assert ({str(each.id) for each in searched}, await store.count(where)) == (expected, len(expected)), where
    finally:
        await store.delete(list(more))


def test_hostile_names_are_keys_like_any_other(run: Run, store: CollectionVectorStore) -> None:
    names = [name for name in NAMES if can_be_stored(name)]
    more = {
        f"{kind} {number}": {name: value, "in": {name: value}}
        for number, name in enumerate(names)
        for kind, value in (("number", number), ("dict", {"a": 1}))
    }
    conditions = [
        condition
        for number, name in enumerate(names)
        if is_path(name) and is_path(f"in.{name}")
        for condition in ({name: number}, {name: {"$ne": 1}}, {f"in.{name}": {"$gt": 0}}, {name: None})
    ]
    assert len(conditions) > 20
    run(compared(store, more, conditions))


@pytest.mark.parametrize("name", [name for name in NAMES if not is_path(name)], ids=lambda name: ascii(name)[:30])
def test_a_hostile_name_that_is_no_path_is_an_error(run: Run, store: CollectionVectorStore, name: str) -> None:
    for where in ({name: 1}, {"$or": [{name: None}]}):
        for call in everywhere(store, where):
            with pytest.raises(InvalidFilterError):
                run(call())
    if not can_be_stored(name):
        with pytest.raises(InvalidChangeError):
            run(store.save_and_embed(None, [doc("x", {name: 1})]))
        with pytest.raises(InvalidChangeError):
            run(store.update_metadata_where({"size": 1}, {name: 1}))


def test_hostile_values_are_values_like_any_other(run: Run, store: CollectionVectorStore) -> None:
    more = {
        f"value {number}": {"title": value, "list": [value], "body": {"a": f"x{value}"}, value: value}
        for number, value in enumerate(VALUES)
    }
    every = ({"title": {operator: value}} for value in VALUES for operator in ("$eq", "$contains"))
    some = ({"title": {operator: value}} for value in VALUES[::4] for operator in ("$ne", "$startswith", "$lt"))
    lists = ({"list": {"$contains": value}, "title": {"$in": [value, "one"]}} for value in VALUES)
    conditions = [*every, *some, *lists]
    run(compared(store, more, conditions))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:30])
def test_a_hostile_id_or_text_is_one_like_any_other(run: Run, store: CollectionVectorStore, value: str) -> None:
    async def use() -> None:
        row_id, about = f"id {value}", {"document_id": value, "n": 1}
        text = value if value.strip() else f"x{value}"
        assert await store.save_and_embed(None, [doc(text, about, row_id)]) == [row_id]
        try:
            assert await store.get_by_ids([row_id, value]) == [doc(text, about, row_id)]
            assert await store.count({"document_id": value}) == 1
            assert await store.search_similar(text, 1, {"n": 1}) == [doc(text, about, row_id)]
            assert [each.id for each, _ in await store.search_hybrid(text, 1, {"n": 1})] == [row_id]
            assert len(await store.search_hybrid("q", 9, text=text)) == 3
            known = await store.get_document_metadata(value)
            assert known is not None
            assert known.custom_metadata == about
            assert await store.update_document(value, doc("new", {"n": 2}))
            assert await store.get_by_ids([value, row_id]) == [doc("new", {"n": 2}, value)]
        finally:
            assert await store.delete_by_document_id(value)
        assert not await store.delete_by_document_id(value)
        assert await store.delete([value, row_id]) == 0

    run(use())


@pytest.mark.parametrize("where", CONDITIONS, ids=lambda where: ascii(where).partition(" at 0x")[0][:40])
def test_a_hostile_condition_is_an_error(run: Run, store: CollectionVectorStore, where: Any) -> None:
    for call in everywhere(store, where):
        with pytest.raises(InvalidFilterError):
            run(call())


@pytest.mark.parametrize("text", NO_TEXT, ids=ascii)
def test_what_no_store_can_keep_is_refused_in_writing_and_absent_in_reading(
    run: Run, store: CollectionVectorStore, text: str
) -> None:
    for wrong in (doc(f"a {text}"), doc("a", row_id=text), doc("a", {"document_id": text}), doc("a", {"b": [text]})):
        for write in (store.save_and_embed(None, [doc("good"), wrong]), store.add([wrong])):
            with pytest.raises(InvalidChangeError):
                run(write)
    for write_as in (store.re_embed_document(text, [doc("a")]), store.update_document(text, doc("a"))):
        with pytest.raises(InvalidChangeError):
            run(write_as)
    with pytest.raises(InvalidChangeError):
        run(store.search_similar(f"a {text}"))
    with pytest.raises(InvalidChangeError):
        run(store.search_hybrid("a", text=f"a {text}"))
    assert run(store.get_by_ids([text, "first"])) == [doc("text first", STORED["first"], "first")]
    assert run(store.delete([text])) == 0
    assert run(store.get_document_metadata(text)) is None
    assert not run(store.delete_by_document_id(text))
    assert run(store.re_embed_document(text)) == []


@pytest.mark.parametrize("ids", ["12", b"12", [1], [None], [["1"]], {"1": 1}, 5, None], ids=repr)
def test_ids_are_a_list_of_texts(run: Run, store: CollectionVectorStore, ids: Any) -> None:
    for call in (store.get_by_ids, store.delete, store.as_langchain().aget_by_ids):
        with pytest.raises(InvalidFilterError, match="list of texts"):
            run(call(ids))


@pytest.mark.parametrize("number", [0, -1, True, 1.5, math.nan, "5", None, [3], -(2**70)], ids=repr)
def test_a_hostile_k_is_an_error(run: Run, store: CollectionVectorStore, number: Any) -> None:
    for call in (
        lambda: store.search_similar("q", number),
        lambda: store.search_by_vector([1, 0, 0, 0], number),
        lambda: store.search_hybrid("q", number),
        lambda: store.search_hybrid("q", 1, candidates=number),
        lambda: store.search_diverse("q", number),
        lambda: store.search_diverse("q", 1, candidates=number),
        lambda: store.as_retriever(search_kwargs={"k": number}).ainvoke("q"),
        lambda: store.as_retriever(search_type="mmr", search_kwargs={"fetch_k": number}).ainvoke("q"),
    ):
        with pytest.raises(InvalidFilterError, match="at least 1"):
            run(call())


def test_k_has_no_end(run: Run, store: CollectionVectorStore) -> None:
    for k in (10**6, 2**70):
        assert len(run(store.search_similar("q", k))) == 2
        assert len(run(store.search_hybrid("q", k, candidates=k))) == 2
        assert len(run(store.search_diverse("q", k, candidates=k))) == 2


@pytest.mark.parametrize("number", [math.nan, "0.5", True, [0.5]], ids=repr)
def test_a_hostile_share_is_an_error(run: Run, store: CollectionVectorStore, number: Any) -> None:
    with pytest.raises(InvalidFilterError, match="min_score"):
        run(store.search_similar("q", 5, min_score=number))
    with pytest.raises(InvalidFilterError, match="relevance"):
        run(store.search_diverse("q", 5, relevance=number))
    with pytest.raises(InvalidFilterError):
        run(store.as_langchain().amax_marginal_relevance_search("q", lambda_mult=number))


@pytest.mark.parametrize(
    "vector", [[], [1], [1] * 5, [0] * 4, [math.nan] * 4, [math.inf] * 4, ["1"] * 4, [[1, 0, 0, 0]], [None] * 4, "q"]
)
def test_a_hostile_vector_is_an_error(run: Run, store: CollectionVectorStore, vector: Any) -> None:
    for call in (store.search_by_vector, store.as_langchain().asimilarity_search_by_vector):
        with pytest.raises((ValueError, InvalidChangeError)):
            run(call(vector))


@pytest.mark.parametrize("query", ["", " \n", None, 5, b"q", ["q"]], ids=repr)
def test_a_hostile_query_is_an_error(run: Run, store: CollectionVectorStore, query: Any) -> None:
    for call in (store.search_similar, store.search_hybrid, store.search_diverse, store.as_retriever().ainvoke):
        with pytest.raises(InvalidChangeError):
            run(call(query))


OPTIONS: list[dict[str, Any]] = [
    *({"fliter": {"size": 1}}, {"where": {"size": 1}}, {"Filter": {"size": 1}}, {"filters": {"size": 1}}),
    *({"filter": {"size": 1}, "filter_criteria": {"size": 2}}, {"top_k": 1}, {"with_vectors": True}),
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_an_option_that_is_not_understood_is_refused_and_never_ignored(
    run: Run, store: CollectionVectorStore, options: dict[str, Any]
) -> None:
    """Else a misspelt filter would find everything, and delete it."""
    langchain = store.as_langchain()
    retriever = store.as_retriever()
    for call in (
        lambda: langchain.asimilarity_search("q", **options),
        lambda: langchain.asimilarity_search_with_score("q", **options),
        lambda: langchain.asimilarity_search_with_relevance_scores("q", **options),
        lambda: langchain.asimilarity_search_by_vector([1, 0, 0, 0], **options),
        lambda: langchain.amax_marginal_relevance_search("q", **options),
        lambda: langchain.amax_marginal_relevance_search_by_vector([1, 0, 0, 0], **options),
        lambda: langchain.adelete(**options, everything=True),
        lambda: langchain.aadd_texts(["x"], **options),
        lambda: langchain.aadd_documents([doc("x")], **options),
        lambda: langchain.afrom_texts(["x"], store.embedding.langchain, store=store, **options),
        lambda: retriever.ainvoke("q", **options),
    ):
        with pytest.raises(ConfigurationError):
            run(call())
    for wrong in ({"search_kwargs": options}, options):
        with pytest.raises(ConfigurationError):
            store.as_retriever(**wrong)
        with pytest.raises(ConfigurationError):
            langchain.as_retriever(**wrong)


def test_ids_and_a_filter_do_not_go_together(run: Run, store: CollectionVectorStore) -> None:
    with pytest.raises(ConfigurationError, match="ids or"):
        run(store.as_langchain().adelete(["first"], filter={"size": 2}))


@pytest.mark.parametrize("name", COLLECTIONS, ids=lambda name: ascii(name)[:30])
def test_a_hostile_collection_is_an_error_or_one_like_any_other(
    run: Run, place: tuple[asyncio.Runner, Place, CollectionVectorStore], name: str
) -> None:
    async def use(other: CollectionVectorStore) -> None:
        await other.save_and_embed(None, [doc("x", {"a": 1}, "x")])
        assert await everything(other) == {"x": {"a": 1}}
        assert await other.drop_collection()

    try:
        other = place[1].store(Planned(), collection=name)
    except ConfigurationError as error:
        assert "not a collection name" in str(error)  # noqa: PT017 - either may happen
    else:
        run(use(other))
