"""What only pgvector does: its table, and what is written there."""

import asyncio
import json
from typing import Any

import numpy as np
import psycopg
import pytest

from app.connections.postgres import PostgresConnectionManager
from app.core.constants import Distance
from app.core.errors import (
    DimensionMismatchError,
    EmbeddingMismatchError,
    InvalidChangeError,
    StoreUnavailableError,
)
from app.db import DataLayer
from app.db.vector import pgvector_engine, pgvector_sql, pgvector_write
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.pgvector import PgVectorStore
from app.db.vector.pgvector_table import VectorTable

from ..planned import Planned, doc
from .stores import rows, store_on


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
