"""The index of a collection, how wide it is searched, and the indexes that serve filters and words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.connections.postgres import PostgresConnectionManager
from app.core.constants import Distance
from app.core.errors import (
    ConfigurationError,
)
from app.db.query import to_predicate
from app.db.query.evaluate import matches
from app.db.vector import pgvector_engine, pgvector_index, pgvector_sql
from app.db.vector.pgvector_index import VectorIndex

from ..planned import doc
from .stores import first, plan, rows, store_on


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
    assert index.search(0.95, 10) == index.settings(0.95, 10)
    assert [index.search(recall, 10) for recall in (0.99, 1)] == [None, None]
    large = replace(index, table_bytes=2**30)
    assert [large.search(recall, 10) for recall in (0.99, 1)] == [large.settings(0.99, 10), None]


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("compared", [0, 64 * 2**20])
async def test_where_the_widest_search_falls_short_few_rows_are_compared(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch, compared: int
) -> None:
    monkeypatch.setattr(pgvector_index, "_COMPARED", compared)
    monkeypatch.setattr(pgvector_index, "_WIDTHS", {"hnsw": (5, 10)})
    store = store_on(manager, 64)
    documents, vectors = rows(2_000, 64)
    await store.add_vectors(documents, vectors)
    assert store.engine._index is not None
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    right = by_words = 0
    for query in rows(20, 64, seed=7)[1]:
        found = [document.id for document, _ in await store.search_by_vector(query, 10)]
        truth = {str(n) for n in sorted(range(2_000), key=lambda n: -float(units[n] @ query))[:10]}
        right += len({*found} & truth)
        vector, every = query / np.linalg.norm(query), to_predicate(None)
        hybrid = await store.engine.hybrid(vector, "nothing", 10, every, candidates=10)
        by_words += len({each.id for each in hybrid} & truth)
    assert right == by_words == 200 if compared else max(right, by_words) < 180


@pytest.mark.usefixtures("early")
async def test_a_table_that_has_grown_is_not_compared(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever process: how large it is, is looked at with the index."""
    monkeypatch.setattr(pgvector_index, "_WIDTHS", {"hnsw": (5, 10)})
    monkeypatch.setattr(pgvector_engine, "_LOOK_AGAIN", 0)
    monkeypatch.setattr(pgvector_index, "_COMPARED", 2**20)
    store, (documents, vectors) = store_on(manager, 64), rows(3_000, 64)
    await store.add_vectors(documents[:600], vectors[:600])
    index = store.engine._index
    assert index is not None
    assert index.search(0.95, 10) is None
    for start in range(600, 3_000, 400):
        await store_on(manager, 64).add_vectors(documents[start : start + 400], vectors[start : start + 400])
    await store.count()
    index = store.engine._index
    assert index is not None
    assert index.rows == 600
    assert index.search(0.95, 10) == index.settings(0.95, 10)


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize(("recall", "asked"), [(0.9, 10), (0.99, 20)])
async def test_where_all_is_found_a_high_recall_takes_all_questions(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch, recall: float, asked: int
) -> None:
    """Of 100 neighbours that were found it is not known that no more than one in 100 is missed."""
    compared: list[object] = []
    neighbours = pgvector_index._neighbours

    async def seen(connection: Any, table: Any, question: Any, *, exact: bool) -> set[str]:
        compared.extend([question] * exact)
        return await neighbours(connection, table, question, exact=exact)

    monkeypatch.setattr(pgvector_index, "_neighbours", seen)
    monkeypatch.setattr(pgvector_index, "_WIDTHS", {"hnsw": (400, 1_000)})
    store = store_on(manager, 2, recall=recall)  # of two dimensions it finds all
    await store.add_vectors(*rows(1_000, 2))
    assert len(compared) == asked
    index = store.engine._index
    assert index is not None
    assert index.recalls == ((400, 0.99 if asked == 10 else 1.0),)
    assert (index.search(0.99, 10) is None) == (asked == 10)


@pytest.mark.parametrize("few", [5, 2_000])
async def test_rows_of_several_tables_are_not_taken_for_each_other(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(pgvector_engine, "_FEW", few)
    monkeypatch.setattr(pgvector_engine, "INDEX_FROM", 300)
    store, (documents, vectors) = store_on(manager, 8), rows(400, 8)
    await store.add_vectors(documents, vectors)
    await manager.execute_command("CREATE TABLE child () INHERITS (documents)")
    columns = "id, document_id, content, source, embedding"
    await manager.execute_command(
        f"INSERT INTO child ({columns}) SELECT 'c' || id, id, content, '{{\"bucket\": 999}}', embedding FROM documents"
    )
    for query in rows(10, 8, seed=3)[1]:
        found = await store.search_by_vector(query, 4, {"bucket": 7})
        assert {document.metadata["bucket"] for document, _ in found} == {7}
        assert len(found) == 4


async def test_a_path_that_cannot_be_indexed_keeps_nobody_from_writing(
    manager: PostgresConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    await store_on(manager).upsert([doc("large", {"bucket": "".join(map(chr, range(1_000, 30_000)))}, "large")])
    store = store_on(manager, filterable=("bucket",))
    for row_id in "ab":
        await store.upsert([doc("small", {"bucket": 7}, row_id)])
    assert await store.count({"bucket": 7}) == 2
    assert len([each for each in caplog.records if "no index on bucket" in each.getMessage()]) == 1


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


async def test_filterable_paths_of_a_collection_that_is_made_anew_are_indexed(
    manager: PostgresConnectionManager,
) -> None:
    store = store_on(manager, filterable=("bucket",))
    documents, vectors = rows(3, 4)
    for _ in range(2):
        await store.add_vectors(documents, vectors)
        found = await manager.execute_query("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%bucket%'")
        assert found == [(1,)]
        assert await store.drop_collection()
