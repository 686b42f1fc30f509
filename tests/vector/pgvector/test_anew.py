"""A collection on PostgreSQL that another process drops, makes anew or closes while it is used."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document

from app.connections.postgres import PostgresConnectionManager
from app.core.errors import EmbeddingMismatchError
from app.db.vector import pgvector_engine, pgvector_sql
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.pgvector import PgVectorStore
from app.db.vector.pgvector_session import PgVectorSession
from app.db.vector.pgvector_table import VectorTable

from ..planned import Planned, doc
from .stores import store_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def texts(number: int) -> list[Document]:
    return [doc(f"text {n}", {"n": n}, str(n)) for n in range(number)]


@pytest.mark.parametrize("number", [1, 500])
async def test_nothing_is_written_to_a_collection_that_another_made_anew_otherwise(
    manager: PostgresConnectionManager, number: int
) -> None:
    """Its vectors have the same length, so that nothing else would notice."""
    store, documents = store_on(manager), texts(number)
    await store.upsert([doc("x", row_id="x")])
    model = Planned()
    model.model = "another"
    other = PgVectorStore(manager, EmbeddingModel.of(model))
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.upsert(documents),
        lambda: store.re_embed_document("z", documents),
        lambda: store.re_embed_document("z"),
    ]
    for write in writes:
        await manager.execute_command("DROP TABLE documents")
        assert await store.count() == 0
        await store.upsert([doc("x", row_id="x")])
        await manager.execute_command("DROP TABLE documents")
        await other.upsert([doc("z", row_id="z")])
        before = [(await other.get_by_ids(["z"]))[0], await other.count()]
        with pytest.raises(EmbeddingMismatchError, match="another"):
            await write()
        assert [(await other.get_by_ids(["z"]))[0], await other.count()] == before
        await other.drop_collection()
        await store.upsert([doc("x", row_id="x")])


async def test_a_collection_that_another_dropped_is_absent_and_made_anew(manager: PostgresConnectionManager) -> None:
    store = store_on(manager)
    other = store_on(manager)
    reads = (
        store.count,
        lambda: store.search_similar("x"),
        lambda: store.search_hybrid("x"),
        lambda: store.get_by_ids(["x"]),
        lambda: store.get_document_metadata("x"),
        lambda: store.delete(["x"]),
        lambda: store.update_metadata_where({}, {"n": 1}, everything=True),
        lambda: store.re_embed_document("x"),
    )
    for read in reads:
        await store.upsert([doc("x", row_id="x")])
        await store.search_hybrid("x")
        assert await other.drop_collection()
        assert not await read()
    await store.upsert([doc("x", row_id="x")])
    await other.drop_collection()
    await store.upsert([doc("y", row_id="y")])
    assert [each.id async for each in store.documents()] == ["y"]


async def test_a_long_change_of_metadata_ends_where_the_collection_takes_no_more_writes(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(manager)
    await store.upsert(texts(3))
    monkeypatch.setattr(pgvector_engine, "AT_ONCE", 1)
    monkeypatch.setattr(pgvector_engine, "_LOOK_AGAIN", 0.0)
    other, update_sources = store_on(manager), pgvector_sql.update_sources
    closed: list[asyncio.Task[Any]] = []

    def close(table: VectorTable) -> str:
        if not closed:
            change = other.engine.amend(lambda each: replace(each, moving_to="another"))
            closed.append(asyncio.ensure_future(change))
        return update_sources(table)

    monkeypatch.setattr(pgvector_sql, "update_sources", close)
    original = PgVectorSession._write

    async def until_closed(self: PgVectorSession, work: Any) -> Any:
        done = await original(self, work)
        if self is store.engine:
            await asyncio.gather(*closed)
        return done

    monkeypatch.setattr(PgVectorSession, "_write", until_closed)
    with pytest.raises(EmbeddingMismatchError, match="takes no writes"):
        await store.update_metadata_where({}, {"changed": True}, everything=True)
    assert await store.count({"changed": True}) == 1
