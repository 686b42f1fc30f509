"""What the contract says of a vector store, on every engine."""

import math
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.documents import Document

from app.core.constants import Distance, EmbeddingType
from app.core.errors import (
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingMismatchError,
    InvalidChangeError,
    InvalidFilterError,
)
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.store import CollectionVectorStore

from .places import Place
from .planned import Planned, doc

MakeDocument = Callable[[], Any]


async def ids(store: CollectionVectorStore) -> set[str]:
    return {str(document.id) async for document in store.documents()}


async def test_it_connects_by_itself_and_returns_one_id_per_document(store: CollectionVectorStore) -> None:
    first, second = await store.save_and_embed(None, [doc("one"), doc("two", row_id="2")])
    assert str(uuid.UUID(first)) == first
    assert second == "2"
    assert await store.save_and_embed(None, []) == []
    assert await store.count() == 2


async def test_reading_finds_nothing_where_nothing_was_written(store: CollectionVectorStore) -> None:
    assert await store.search_similar("q") == []
    assert await store.count() == 0
    assert await store.get_by_ids(["1"]) == []
    assert await store.delete(["1"]) == 0
    assert await store.delete_where({"a": 1}) == 0
    assert not await store.delete_by_document_id("1")
    assert not await store.update_document("1", doc("x"))
    assert await store.get_document_metadata("1") is None
    assert await store.engine.open() is None


async def test_documents_are_duck_typed(store: CollectionVectorStore) -> None:
    own = SimpleNamespace(page_content="text", metadata={"a": 1})
    [row_id] = await store.save_and_embed(None, [own])  # type: ignore[list-item]  # the point of the test
    assert await store.get_by_ids([row_id]) == [Document(page_content="text", metadata={"a": 1}, id=row_id)]
    with pytest.raises(InvalidChangeError, match="page_content"):
        await store.save_and_embed(None, ["text"])  # type: ignore[list-item]  # the point of the test


UUID_TEXT = "5c1f6a0e-6b1c-4d0c-9a0e-0f4f0f4f0f4f"


async def test_any_string_is_an_id_and_no_two_are_one(store: CollectionVectorStore) -> None:
    strings = ["", " ", "1", "01", "1.0", "a/b", "é", "e\u0301", UUID_TEXT, UUID_TEXT.upper(), f"{{{UUID_TEXT}}}"]
    strings += [
        UUID_TEXT.replace("-", ""),
        f"urn:uuid:{UUID_TEXT}",
        str(uuid.uuid5(uuid.NAMESPACE_URL, "1")),
        "x" * 5000,
    ]
    assert (
        await store.save_and_embed(None, [doc(f"text {n}", row_id=each) for n, each in enumerate(strings)]) == strings
    )
    assert await ids(store) == set(strings)
    found = await store.get_by_ids([*reversed(strings), "absent"])
    assert [each.id for each in found] == strings[::-1]
    assert [each.id for each in await store.get_by_ids(["1", "", "1"])] == ["1", "", "1"]
    assert [each.page_content for each in found] == [f"text {n}" for n in range(len(strings))][::-1]
    assert await store.delete([UUID_TEXT, UUID_TEXT, "absent"]) == 1
    assert await ids(store) == set(strings) - {UUID_TEXT}


async def test_a_row_of_the_same_id_is_replaced(store: CollectionVectorStore) -> None:
    await store.save_and_embed(None, [doc("old", {"a": 1}, "x")])
    await store.save_and_embed(None, [doc("new", {"b": 2}, "x"), doc("newer", {"c": 3}, "x")])
    assert await store.get_by_ids(["x"]) == [doc("newer", {"c": 3}, "x")]
    assert await store.count() == 1
    assert await store.count({"a": 1}) == 0


REFUSED: list[tuple[str, MakeDocument]] = [
    ("empty", lambda: doc("")),
    ("empty", lambda: doc(" \n\t ")),
    ("0000", lambda: doc("a\0b")),
    ("surrogate", lambda: SimpleNamespace(page_content="\ud800", metadata={})),
    ("0000", lambda: doc("x", row_id="a\0b")),
    ("NaN", lambda: doc("x", {"a": math.nan})),
    ("infinite", lambda: doc("x", {"a": [1, {"b": math.inf}]})),
    ("64 bits", lambda: doc("x", {"a": 2**63})),
    ("tuple", lambda: doc("x", {"a": (1, 2)})),
    ("set", lambda: doc("x", {"a": {1}})),
    ("bytes", lambda: doc("x", {"a": b"1"})),
    ("object", lambda: doc("x", {"a": {"b": [object()]}})),
    ("key", lambda: doc("x", {"a": {1: 2}})),
    ("deeper", lambda: doc("x", {"a": _nested(40)})),
    ("document_id", lambda: doc("x", {"document_id": 5})),
]


def _nested(depth: int) -> list[Any]:
    return [_nested(depth - 1)] if depth else []


@pytest.mark.parametrize(("says", "make"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
async def test_what_cannot_be_stored_is_refused_before_any_write(
    store: CollectionVectorStore, planned: Planned, says: str, make: MakeDocument
) -> None:
    with pytest.raises(ValueError, match=says):
        await store.save_and_embed(None, [doc("good", row_id="good"), make()])
    assert planned.asked == []
    assert await store.count() == 0


@pytest.mark.parametrize(
    ("vector", "error"),
    [
        ([1.0, 2.0, 3.0], DimensionMismatchError),
        ([1.0, 2.0, 3.0, 4.0, 5.0], DimensionMismatchError),
        ([1.0, math.nan, 3.0, 4.0], InvalidChangeError),
        ([1.0, -math.inf, 3.0, 4.0], InvalidChangeError),
        ([1.0, 1e39, 3.0, 4.0], InvalidChangeError),
        ([0.0, 0.0, 0.0, 0.0], InvalidChangeError),
    ],
    ids=repr,
)
async def test_a_batch_with_one_wrong_vector_writes_nothing(
    store: CollectionVectorStore, planned: Planned, vector: list[float], error: type[Exception]
) -> None:
    await store.save_and_embed(None, [doc("there", row_id="there")])
    planned.vectors["wrong"] = vector
    batch = [doc(f"good {n}") for n in range(100)]
    with pytest.raises(error, match="vector 100 "):
        await store.save_and_embed(None, [*batch, doc("wrong")])
    assert await ids(store) == {"there"}
    with pytest.raises(error):
        await store.update_document("there", doc("wrong"))
    with pytest.raises(error):
        await store.re_embed_document("there", [doc("good"), doc("wrong")])
    with pytest.raises(error):
        await store.search_similar("wrong")
    assert await store.get_by_ids(["there"]) == [doc("there", row_id="there")]


async def test_vectors_too_short_for_the_engine_still_rank_by_angle(place: Place) -> None:
    vectors = {"tiny": [1e-30, 0, 0, 0], "huge": [1e30, 1e30, 0, 0], "q": [1e-20, 1e-22, 0, 0]}
    store = place.store(Planned(vectors))
    await store.save_and_embed(None, [doc("tiny"), doc("huge")])
    [(first, near), (_, far)] = await store.search_with_scores("q")
    assert first.page_content == "tiny"
    assert near == pytest.approx(1, abs=1e-3)
    assert far == pytest.approx((1 + math.sqrt(0.5)) / 2, abs=1e-2)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (Distance.COSINE, {"same": 1.0, "right": 0.5, "opposite": 0.0}),
        (Distance.L2, {"same": 1.0, "right": 1 / (1 + math.sqrt(2)), "opposite": 1 / 3}),
        (Distance.INNER_PRODUCT, {"same": 1 / (1 + math.exp(-1)), "right": 0.5, "opposite": 1 / (1 + math.exp(1))}),
    ],
)
async def test_scores_are_similarities_best_first(place: Place, distance: Distance, expected: dict[str, float]) -> None:
    vectors = {"q": [1, 0], "same": [1, 0], "right": [0, 1], "opposite": [-1, 0]}
    store = place.store(Planned(vectors), distance=distance)
    await store.save_and_embed(None, [doc(text) for text in expected])
    found = await store.search_with_scores("q")
    assert {document.page_content: score for document, score in found} == pytest.approx(expected, abs=1e-6)
    assert [document.page_content for document, _ in found] == list(expected)


async def test_far_inner_products_do_not_overflow(place: Place) -> None:
    vectors = {"q": [1e19, 0], "near": [1e19, 0], "far": [-1e19, 0]}
    store = place.store(Planned(vectors), distance=Distance.INNER_PRODUCT)
    await store.save_and_embed(None, [doc("near"), doc("far")])
    assert [score for _, score in await store.search_with_scores("q")] == [1.0, 0.0]


async def test_k_and_filters(store: CollectionVectorStore) -> None:
    await store.save_and_embed(None, [doc(f"text {n}", {"n": n, "even": n % 2 == 0}) for n in range(10)])
    assert len(await store.search_similar("q")) == 5
    assert len(await store.search_similar("q", k=10**12)) == 10
    assert {each.metadata["n"] for each in await store.search_similar("q", 9, {"even": True})} == {0, 2, 4, 6, 8}
    for wrong in (0, -1):
        with pytest.raises(InvalidFilterError, match="at least 1"):
            await store.search_similar("q", k=wrong)
    with pytest.raises(ValueError, match="empty"):
        await store.search_similar("  ")


async def test_document_ids_group_rows(store: CollectionVectorStore) -> None:
    rows = [doc(f"text {n}", {"document_id": f"d{n // 3}", "n": n}, f"r{n}") for n in range(6)]
    await store.save_and_embed(None, [*rows, doc("alone", {"n": 6}, "alone")])
    assert sorted([each async for each in store.document_ids()]) == ["alone", "d0", "d1"]
    assert [each async for each in store.document_ids({"n": 4})] == ["d1"]
    assert await store.delete_by_document_id("d0")
    assert not await store.delete_by_document_id("d0")
    assert not await store.delete_by_document_id("r3")
    assert await store.delete_by_document_id("alone")
    assert await ids(store) == {"r3", "r4", "r5"}


async def test_a_row_may_have_the_id_of_a_document_that_it_is_no_part_of(store: CollectionVectorStore) -> None:
    await store.upsert(
        [doc("of b", {"document_id": "b"}, "a"), doc("of a", {"document_id": "a"}, "c"), doc("own", {}, "d")]
    )
    assert {each async for each in store.document_ids()} == {"a", "b", "d"}
    known = await store.get_document_metadata("a")
    assert known is not None
    assert known.custom_metadata == {"document_id": "a"}
    assert await store.delete_by_document_id("a")
    assert {each.id async for each in store.documents()} == {"a", "d"}
    await store.upsert([doc("its own", {}, "a"), doc("of a", {"document_id": "a"}, "d")])
    assert not await store.delete_by_document_id("b")
    assert {each async for each in store.document_ids()} == {"a"}
    assert await store.re_embed_document("a", [doc("one", {}, "e")]) == ["e"]
    assert {each.id async for each in store.documents()} == {"e"}


async def test_the_empty_id_is_an_id(store: CollectionVectorStore) -> None:
    await store.upsert([doc("one", {}, "")])
    assert await store.update_document("", doc("two"))
    assert [(each.id, each.page_content) async for each in store.documents()] == [("", "two")]


async def test_metadata_of_a_document(store: CollectionVectorStore) -> None:
    metadata = {"document_id": "d", "source_path": "/x/a.md", "chunk_index": 1}
    await store.save_and_embed(None, [doc("second", metadata), doc("first", {**metadata, "chunk_index": 0})])
    known = await store.get_document_metadata("d")
    assert known is not None
    assert (known.document_id, known.source_path, known.file_type) == ("d", "/x/a.md", "md")
    assert known.custom_metadata == {**metadata, "chunk_index": 0}
    assert known.embedded_at.tzinfo is not None
    assert await store.get_document_metadata("x") is None


async def test_update_replaces_every_chunk(store: CollectionVectorStore) -> None:
    await store.save_and_embed(None, [doc(f"text {n}", {"document_id": "d"}, f"r{n}") for n in range(3)])
    await store.save_and_embed(None, [doc("other", row_id="other")])
    assert await store.update_document("d", doc("new", {"v": 2}))
    assert await ids(store) == {"d", "other"}
    assert await store.get_by_ids(["d"]) == [doc("new", {"v": 2}, "d")]
    assert await store.update_document("d", doc("newer", row_id="elsewhere"))
    assert await ids(store) == {"elsewhere", "other"}
    assert await store.update_document("d", doc("newest"))
    assert not await store.update_document("absent", doc("x"))
    with pytest.raises(InvalidChangeError, match="names the document"):
        await store.update_document("d", doc("x", {"document_id": "another"}))


async def test_re_embedding_uses_the_model_as_it_is_now(store: CollectionVectorStore, planned: Planned) -> None:
    planned.vectors |= {"q": [1, 0, 0, 0], "text": [0, 1, 0, 0]}
    await store.save_and_embed(None, [doc("text", {"a": 1}, "x"), doc("other", row_id="y")])
    assert (await store.search_with_scores("q", 1, {"a": 1}))[0][1] == pytest.approx(0.5)
    planned.vectors["text"] = [1, 0, 0, 0]
    assert await store.re_embed_document("x") == ["x"]
    [(found, score)] = await store.search_with_scores("q", 1, {"a": 1})
    assert found == doc("text", {"a": 1}, "x")
    assert score == pytest.approx(1.0)
    assert await store.re_embed_document("absent") == []
    with pytest.raises(InvalidChangeError, match="delete_by_document_id"):
        await store.re_embed_document("x", [])
    many = [doc(f"text {n}", row_id=f"n{n}") for n in range(150)]
    assert await store.re_embed_document("x", many) == [f"n{n}" for n in range(150)]
    assert await store.count() == 151


async def test_counts_of_deletions_are_true(store: CollectionVectorStore) -> None:
    await store.save_and_embed(None, [doc(f"text {n}", {"n": n, "s": str(n)}) for n in range(700)])
    assert await store.delete_where({"n": {"$lt": 100}}) == 100
    assert await store.delete_where({"n": {"$lt": 100}}) == 0
    assert await store.delete_where({"s": {"$gt": "2"}}) == sum(str(n) > "2" for n in range(100, 700))
    assert await store.count() == sum(str(n) <= "2" for n in range(100, 700))
    with pytest.raises(InvalidFilterError, match="everything"):
        await store.delete_where(None)
    with pytest.raises(InvalidFilterError, match="everything"):
        await store.delete_where({})
    left = await store.count()
    assert await store.delete_where({}, everything=True) == left


async def test_pages_cover_everything_once(store: CollectionVectorStore) -> None:
    await store.save_and_embed(None, [doc(f"text {n}", {"n": n}) for n in range(1201)])
    assert sorted([each.metadata["n"] async for each in store.documents()]) == list(range(1201))


@pytest.mark.parametrize("asked", [EmbeddingType.OPENAI, "cohere"])
async def test_another_embedding_than_the_collections_is_refused(store: CollectionVectorStore, asked: str) -> None:
    with pytest.raises(EmbeddingMismatchError, match=f"'Planned'.*'{asked}'"):
        await store.save_and_embed(asked, [doc("x")])
    with pytest.raises(EmbeddingMismatchError):
        await store.update_document("x", doc("x"), asked)
    assert await store.save_and_embed("Planned", [doc("x")])


async def test_a_collection_remembers_its_contract(store: CollectionVectorStore, place: Place) -> None:
    await store.save_and_embed(None, [doc("x")])
    await place.manager.disconnect()
    other_model = Planned()
    other_model.model = "another"
    for wrong, error, says in (
        (place.store(other_model), EmbeddingMismatchError, "Planned/planned.*Planned/another"),
        (place.store(Planned(), distance=Distance.L2), EmbeddingMismatchError, "cosine.*l2"),
    ):
        for use in (
            wrong._create_connection,
            wrong.count,
            lambda w=wrong: w.search_similar("q"),
            lambda w=wrong: w.save_and_embed(None, [doc("y")]),
        ):
            with pytest.raises(error, match=f"{says}.*manystore vectors reembed"):
                await use()
    longer = place.store(Planned(size=5))
    with pytest.raises(DimensionMismatchError, match=r"4 dimensions.*5"):
        await longer.save_and_embed(None, [doc("y")])
    with pytest.raises(DimensionMismatchError, match=r"4 dimensions.*5"):
        await longer.search_similar("q")
    with pytest.raises(DimensionMismatchError, match=r"4 dimensions.*3"):
        await store.search_by_vector([1, 2, 3])
    assert await store.count() == 1
    assert await store.drop_collection()
    assert not await store.drop_collection()
    assert await place.store(Planned(size=5)).save_and_embed(None, [doc("y")])


async def test_the_same_contract_opens_again(place: Place) -> None:
    await place.store(Planned()).save_and_embed(None, [doc("x", {"a": [1, None, {"b": 1.0}]}, "x")])
    await place.manager.disconnect()
    assert await place.store(Planned()).get_by_ids(["x"]) == [doc("x", {"a": [1, None, {"b": 1.0}]}, "x")]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "..", ".new-x", "a\0b", "é", "a b", "x" * 101])
def test_a_collection_name_is_a_plain_name(place: Place, name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a collection name"):
        place.store(Planned(), collection=name)


async def test_stores_on_one_directory_are_apart(place: Place) -> None:
    one, two = (place.store(Planned(), collection=name) for name in ("one", "two"))
    await one.save_and_embed(None, [doc("x", row_id="x")])
    await two.save_and_embed(None, [doc("y", row_id="y"), doc("z", row_id="z")])
    assert (await one.count(), await two.count()) == (1, 2)
    assert await two.drop_collection()
    assert (await one.count(), await two.count()) == (1, 0)


async def test_the_configuration_says_what_it_is(store: CollectionVectorStore) -> None:
    config = store.get_vector_db_config()
    assert config["type"] == store.engine_type
    assert config["collection"] == "documents"
    assert config["distance"] == "cosine"
    assert config["provider"] == "Planned"


async def test_dimension_comes_from_the_embedder(store: CollectionVectorStore) -> None:
    assert store.embedding.dimension is None
    assert await store.embedding.measure() == 4
    assert EmbeddingModel.of(Planned(), dimension=4).dimension == 4
