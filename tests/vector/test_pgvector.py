"""What only pgvector does: its table, its index and what that finds, and the specification's repository over it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psycopg
import pytest
from langchain_core.documents import Document

from app.connections.postgres import PostgresConnectionManager
from app.core.constants import Distance
from app.core.errors import (
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingMismatchError,
    InvalidChangeError,
    StoreUnavailableError,
)
from app.db import DataLayer
from app.db.query import to_predicate
from app.db.query.evaluate import matches
from app.db.vector import pgvector_engine, pgvector_sql, pgvector_write
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.pgvector import PgVectorStore
from app.db.vector.pgvector_index import VectorIndex
from app.db.vector.pgvector_table import VectorTable

from .places import PLACES, Place
from .planned import Planned, doc


@pytest.fixture
def pgvector(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    return PLACES["pgvector"](request, tmp_path)


@pytest.fixture
async def manager(pgvector: Place) -> AsyncIterator[PostgresConnectionManager]:
    manager = pgvector.manager
    assert isinstance(manager, PostgresConnectionManager)
    yield manager
    await manager.close()


def store_on(manager: PostgresConnectionManager, size: int = 4, **options: Any) -> PgVectorStore:
    return PgVectorStore(manager, EmbeddingModel.of(Planned(size=size)), **options)


def rows(number: int, dimension: int, *, seed: int = 1) -> tuple[list[Document], np.ndarray[Any, np.dtype[np.float32]]]:
    vectors = np.random.default_rng(seed).standard_normal((number, dimension)).astype(np.float32)
    return [doc(f"text {n}", {"n": n, "bucket": n % 100}, str(n)) for n in range(number)], vectors


async def first(documents: AsyncIterator[Document], most: int) -> list[Document]:
    """Of what may never end."""
    found: list[Document] = []
    async for document in documents:
        found.append(document)
        if len(found) == most:
            break
    return found


async def plan(manager: PostgresConnectionManager, sql: str, parameters: tuple[Any, ...]) -> str:
    async with manager.connection() as connection:
        cursor = psycopg.AsyncRawCursor(connection)
        await cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}".encode(), parameters)
        return json.dumps(await cursor.fetchall())


async def test_the_table_is_the_specifications(manager: PostgresConnectionManager) -> None:
    store = store_on(manager)
    await store.upsert([doc("text", {"key": "value", "a": {"b": [1, None]}}, "x")])
    columns: dict[str, str] = dict(
        await manager.execute_query(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'documents'::regclass AND attnum > 0"
        )
    )
    assert {name: columns[name] for name in ("id", "metadata", "embedded_at", "content", "document_id")} == {
        "id": "text",
        "metadata": "jsonb",
        "embedded_at": "timestamp with time zone",
        "content": "text",
        "document_id": "text",
    }
    assert columns["embedding"].endswith("vector(4)")
    assert await manager.execute_query("SELECT metadata ->> 'key' FROM documents") == [("value",)]


async def test_vectors_come_back_to_the_bit(manager: PostgresConnectionManager) -> None:
    store = store_on(manager, 33, distance=Distance.L2)
    documents, vectors = rows(500, 33)
    vectors[0] = np.float32(1e-38)
    await store.add_vectors(documents, vectors)
    await store.add_vectors(documents[:3], vectors[:3])
    found = {d.id: v for page, vs in [page async for page in store.export()] for d, v in zip(page, vs, strict=True)}
    assert all(np.array_equal(found[str(n)], vectors[n]) for n in range(500))


@pytest.mark.parametrize("number", [3, 500])
async def test_of_rows_with_one_id_the_last_stays(manager: PostgresConnectionManager, number: int) -> None:
    store = store_on(manager)
    for _ in range(2):  # into an empty table, and over what is there
        documents = [doc(f"text {n}", row_id=str(n)) for n in range(number)]
        await store.upsert([doc("first", row_id="1"), *documents, doc("last", row_id="1")])
        assert await store.count() == number
        [last] = await store.get_by_ids(["1"])
        assert last.page_content == "last"


async def test_what_another_wrote_meanwhile_is_no_error(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(manager)
    documents, vectors = rows(500, 4)
    await store.add_vectors(documents[:1], vectors[:1])
    monkeypatch.setattr(pgvector_sql, "count_of", lambda _: "SELECT 0 WHERE $1::text[] IS NOT NULL")
    await store.add_vectors(documents, vectors)
    assert await store.count() == 500


async def test_many_first_writers_make_one_collection(manager: PostgresConnectionManager) -> None:
    others = [PostgresConnectionManager(manager.settings) for _ in range(4)]
    try:
        stores = [store_on(each) for each in (*others, manager) for _ in range(4)]
        await asyncio.gather(*(store.upsert([doc(f"text {n}", row_id=str(n))]) for n, store in enumerate(stores)))
        assert await stores[0].count() == 20
    finally:
        for each in others:
            await each.close()


async def test_a_table_of_somebody_else_is_left_alone(manager: PostgresConnectionManager) -> None:
    await manager.execute_command("CREATE TABLE documents (id int)")
    for use in (store_on(manager).count, lambda: store_on(manager).upsert([doc("x")])):
        with pytest.raises(StoreUnavailableError, match="another `collection`"):
            await use()


async def test_a_collection_that_another_made_anew_is_noticed(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(manager)
    await store.upsert([doc("x")])
    other = store_on(manager, 5)
    assert await other.embedding.measure() == 5
    await manager.execute_command("DROP TABLE documents")
    await other.upsert([doc("y")])
    with pytest.raises((InvalidChangeError, StoreUnavailableError)):
        await store.search_similar("x")
    with pytest.raises(DimensionMismatchError, match=r"5 dimensions.*4"):
        await store.search_similar("x")
    model = Planned(size=5)
    model.model = "another"
    third = PgVectorStore(manager, EmbeddingModel.of(model))
    await manager.execute_command("DROP TABLE documents")
    await third.upsert([doc("z")])
    monkeypatch.setattr(pgvector_engine, "_LOOK_AGAIN", 0.0)
    with pytest.raises(EmbeddingMismatchError):
        await other.count()


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index from 500 rows on."""
    monkeypatch.setattr(pgvector_engine, "INDEX_FROM", 500)


@pytest.mark.usefixtures("early")
async def test_an_index_is_built_when_there_is_enough_and_measured(manager: PostgresConnectionManager) -> None:
    store = store_on(manager, 32)
    documents, vectors = rows(1_500, 32)
    await store.add_vectors(documents[:400], vectors[:400])
    assert not (await manager.execute_query("SELECT to_regclass('documents_embedding_idx') IS NOT NULL"))[0][0]
    await store.add_vectors(documents[400:], vectors[400:])
    index = store.engine._index
    assert index is not None
    assert (index.kind, index.rows) == ("hnsw", 1_500)
    assert [recall for _, recall in index.recalls] == sorted(recall for _, recall in index.recalls)
    table = await store.engine._found()
    assert table is not None
    text = pgvector_sql.nearest(table, 10, exact=False, vectors=False)
    sql, parameters = store.engine._wheres.statement(text, to_predicate(None), str(vectors[0].tolist()))
    assert "documents_embedding_idx" in await plan(manager, sql, parameters)
    again = store_on(manager, 32)
    await again.count()
    assert again.engine._index == index


def test_the_recall_that_is_asked_for_decides_how_wide_a_search_is() -> None:
    index = VectorIndex("hnsw", 20_000, ((40, 0.6), (100, 0.9), (250, 0.97)))
    assert [index.width(recall, 10) for recall in (0.5, 0.8, 0.95, 0.99)] == [40, 100, 250, 1_000]
    assert index.width(0.5, 300) == 300
    assert index.settings(0.85, 5) == {"hnsw.ef_search": "100", "hnsw.iterative_scan": "strict_order"}


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("few", [0, 2_000])
async def test_a_filter_that_one_in_a_hundred_meets_still_finds_k(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(pgvector_engine, "_FEW", few)
    store = store_on(manager, 16)
    documents, vectors = rows(2_000, 16)
    await store.add_vectors(documents, vectors)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    right = 0
    for query in units[:20]:
        found = [document.id for document, _ in await store.search_by_vector(query, 10, {"bucket": 7})]
        truth = sorted(range(7, 2_000, 100), key=lambda n: -float(units[n] @ query))[:10]
        assert len(found) == 10
        right += len({*found} & {str(n) for n in truth})
    assert right >= 0.95 * 200


@pytest.mark.usefixtures("early")
async def test_a_text_of_many_words_does_not_keep_others_from_being_found_by_words(
    manager: PostgresConnectionManager,
) -> None:
    store, words = store_on(manager), " ".join(hex(number * 7919**3) for number in range(120_000))
    await store.upsert([doc(words, row_id="long"), doc("a fish", row_id="short")])
    assert [found.id for found in await store.engine.matching_text("fish 0x0", 5, to_predicate(None))] == [
        "long",
        "short",
    ]
    await store.upsert([doc(words + " x", row_id="other")])
    assert len(await store.search_hybrid("fish", k=3)) == 3


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("criteria", [{"$or": [{"n": 3}, {"bucket": 4}]}, {"n": {"$gte": 5}}, {"n": {"$lt": 590}}])
async def test_of_a_filter_with_alternatives_each_counts_only_with_what_stands_beside_it(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch, criteria: dict[str, Any]
) -> None:
    """More pages than one, words, changes by id, and few that are not left to the index."""
    monkeypatch.setattr(pgvector_engine, "PAGE", 5)
    store = store_on(manager)
    documents, vectors = rows(600, 4)
    await store.add_vectors(documents, vectors)
    want = {str(each.id) for each in documents if matches(to_predicate(criteria), each.metadata)}
    found = await first(store.documents(criteria), 601)
    assert len(found) == len(want)
    assert {each.id for each in found} == want
    near = [str(each.id) for each, _ in await store.search_by_vector(vectors[0], 600, criteria)]
    assert len(near) == len(want)
    assert set(near) == want
    with_word = await store.engine.matching_text("3", 600, to_predicate(criteria))
    assert {each.id for each in with_word} == want & {"3"}
    assert await store.update_metadata_where(criteria, {"seen": True}) == len(want)


async def test_ivfflat_on_request(manager: PostgresConnectionManager) -> None:
    store = store_on(manager, 8, distance=Distance.L2, recall=0.9)
    documents, vectors = rows(500, 8)
    await store.add_vectors(documents, vectors)
    await store.engine.create_index("ivfflat", lists=10)
    assert store.engine._index is not None
    assert store.engine._index.kind == "ivfflat"
    found = await store.search_by_vector(vectors[5], 10)
    assert found[0][0].id == "5"
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    [[definition]] = await manager.execute_query("SELECT pg_get_indexdef('documents_embedding_idx'::regclass)")
    assert "ivfflat" in definition
    assert "lists='10'" in definition


@pytest.mark.parametrize(("dimension", "kind"), [(2_000, "vector"), (2_001, "halfvec"), (4_001, "vector")])
async def test_long_vectors(manager: PostgresConnectionManager, dimension: int, kind: str) -> None:
    store = store_on(manager, dimension, distance=Distance.L2)
    documents, vectors = rows(30, dimension)
    await store.add_vectors(documents, vectors)
    table = await store.engine._found()
    assert table is not None
    assert table.type.endswith(f".{kind}")
    if table.can_be_indexed:
        await store.engine.create_index()
    else:
        with pytest.raises(ConfigurationError, match="4,000"):
            await store.engine.create_index()
    [(first, score)] = await store.search_by_vector(vectors[3], 1)
    assert first.id == "3"
    assert score > 0.5
    found = {d.id: v for page, vs in [page async for page in store.export()] for d, v in zip(page, vs, strict=True)}
    assert np.allclose(found["7"], vectors[7], rtol=2e-3)


async def test_a_dimension_beyond_pgvectors_is_refused(manager: PostgresConnectionManager) -> None:
    documents, vectors = rows(1, 16_001)
    with pytest.raises(Exception, match="16000"):
        await store_on(manager, 16_001).add_vectors(documents, vectors)


async def test_filterable_paths_are_indexed_and_the_index_serves_filters(manager: PostgresConnectionManager) -> None:
    store = store_on(manager, 8, filterable=("bucket", "a.b"))
    documents, vectors = rows(3_000, 8)
    await store.add_vectors(documents, vectors)
    await manager.execute_command("ANALYZE documents")
    table = await store.engine._found()
    assert table is not None
    for where in ({"bucket": 7}, {"a.b": "x"}):
        sql, parameters = store.engine._wheres.statement(pgvector_sql.count(table), to_predicate(where))
        assert "Bitmap" in await plan(manager, sql, parameters) or "Index" in await plan(manager, sql, parameters)
    assert await store.count({"bucket": 7}) == 30
    with pytest.raises(Exception, match="path"):
        store_on(manager, filterable=("a..b",))


async def test_a_half_built_index_is_built_anew(manager: PostgresConnectionManager) -> None:
    store = store_on(manager)
    documents, vectors = rows(20, 4)
    await store.add_vectors(documents, vectors)
    await store.engine.create_index()
    # What a process that was killed in CREATE INDEX CONCURRENTLY leaves.
    await manager.execute_command(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'documents_embedding_idx'::regclass"
    )
    await store.engine.create_index()
    [[valid]] = await manager.execute_query(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'documents_embedding_idx'::regclass"
    )
    assert valid


async def test_metadata_keeps_its_order_and_its_numbers_after_a_change(manager: PostgresConnectionManager) -> None:
    store = store_on(manager)
    metadata = {"zebra": 1e300, "a": 1.0, "$datetime": "x", "nested": {"b": 1, "a": -0.0}}
    await store.upsert([doc("x", metadata, "x")])
    assert await store.update_metadata_where({"a": 1}, {"new": True, "a": 2}) == 1
    [found] = await store.get_by_ids(["x"])
    assert json.dumps(found.metadata) == json.dumps({**metadata, "a": 2, "new": True})


async def test_a_write_that_is_cancelled_is_whole_or_not_there(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(manager)
    await store.upsert([doc("there", {"document_id": "d"}, "there")])
    documents, vectors = rows(500, 4)
    copying = pgvector_write._copy

    async def slow(*given: Any) -> None:
        await copying(*given)
        await asyncio.sleep(5)

    monkeypatch.setattr(pgvector_write, "_copy", slow)
    task = asyncio.create_task(store.add_vectors(documents, vectors))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.count() == 1


async def test_by_the_data_layers_configuration(manager: PostgresConnectionManager) -> None:
    settings = {
        "connections": {"postgres": {"url": manager.settings.url.get_secret_value()}},
        "vector_stores": {"documents": {"connection": "postgres", "recall": 1, "filterable": "source, page"}},
    }
    async with DataLayer.from_config(settings) as data:
        store = data.vector_store("documents")
        assert isinstance(store, PgVectorStore)
        assert (store.recall, store.filterable) == (1.0, ("source", "page"))
        await store.upsert([doc("cats and dogs", {"source": "a"}), doc("stocks and bonds", {"source": "b"})])
        [found] = await store.search_similar("finance", 1)
        assert found.metadata == {"source": "b"}


async def test_a_server_without_pgvector_is_told_of(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(*_: Any) -> None:
        raise psycopg.errors.FeatureNotSupported('extension "vector" is not available')

    monkeypatch.setattr(VectorTable, "make", missing)
    with pytest.raises(StoreUnavailableError, match="no pgvector"):
        await store_on(manager).upsert([doc("x")])
