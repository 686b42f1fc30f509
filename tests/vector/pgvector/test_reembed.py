"""What a re-embedded table keeps on PostgreSQL, and whom it waits for."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest

from app.connections.postgres import PostgresConnectionManager
from app.core.constants import Distance
from app.core.errors import AppError, UnsupportedOperationError
from app.db.models.values import utc_now
from app.db.vector import pgvector_engine, pgvector_index
from app.db.vector.contract import CollectionContract, staged_name
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.payload import to_row
from app.db.vector.pgvector import PgVectorStore
from app.db.vector.pgvector_engine import PgVectorEngine
from app.db.vector.reembed import reembed

from ..planned import Planned, doc


def newer() -> EmbeddingModel:
    embeddings = Planned(size=6)
    embeddings.model = "newer"
    return EmbeddingModel.of(embeddings)


async def indexes(manager: PostgresConnectionManager) -> list[Any]:
    return await manager.execute_query(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1"
    )


async def test_a_table_has_the_indexes_and_privileges_of_the_one_it_replaces(
    manager: PostgresConnectionManager, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgvector_engine, "INDEX_FROM", 20)
    built: list[str] = []
    build = pgvector_index.build_index

    async def counted(connection: Any, table: Any, recall: float, **options: Any) -> Any:
        built.append(table.name)
        return await build(connection, table, recall, **options)

    monkeypatch.setattr(pgvector_engine, "build_index", counted)
    store = PgVectorStore(manager, EmbeddingModel.of(Planned()), filterable=("n",))
    await store.save_and_embed(None, [doc(f"text {n}", {"n": n}) for n in range(50)])
    before = await indexes(manager)
    assert len(before) == 4
    role = f"role_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role}".encode())
        try:
            connection.execute(f"GRANT SELECT, DELETE ON documents TO {role}".encode())
            built.clear()
            await reembed(store, newer(), settles=0)
            assert built == ["documents__reembed"]
            privileges = "SELECT array_agg(has_table_privilege(%s, 'documents', p)) FROM unnest(%s::text[]) p"
            asked = ["SELECT", "DELETE", "INSERT"]
            assert connection.execute(privileges, (role, asked)).fetchone() == ([True, True, False],)
        finally:
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())
    assert await indexes(manager) == before
    after = PgVectorStore(manager, newer(), filterable=("n",))
    assert (await after.search_similar("text 7", k=1))[0].metadata == {"n": 7}
    assert after.engine._index is not None
    await after.drop_collection()
    assert await indexes(manager) == []


async def test_writers_that_have_begun_are_waited_for(manager: PostgresConnectionManager, url: str) -> None:
    store = PgVectorStore(manager, EmbeddingModel.of(Planned()))
    await store.save_and_embed(None, [doc("text 1", row_id="row 1"), doc("text 2", row_id="row 2")])
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("DELETE FROM documents WHERE id = 'row 1'")
        work = asyncio.create_task(reembed(store, newer(), settles=0))
        await asyncio.sleep(0.5)
        assert not work.done()
        await connection.commit()
    assert (await work).rows == 1
    assert await PgVectorStore(manager, newer()).count() == 1


async def test_one_that_the_database_refuses_leaves_the_old_one_writable(manager: PostgresConnectionManager) -> None:
    store = PgVectorStore(manager, EmbeddingModel.of(Planned()))
    await store.upsert([doc("one", row_id="1")])
    await manager.execute_command("CREATE VIEW texts AS SELECT content FROM documents")
    with pytest.raises(UnsupportedOperationError, match="a view"):
        await reembed(store, newer(), settles=0)
    await store.engine.open()
    await store.upsert([doc("two", row_id="2")])
    await manager.execute_command("DROP VIEW texts")
    report = await reembed(store, newer(), settles=0)
    assert (report.rows, report.embedded) == (2, 1)


async def test_a_switch_that_stood_still_does_not_put_the_beginnings_of_another_in_place(
    manager: PostgresConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PgVectorStore(manager, EmbeddingModel.of(Planned()))
    await store.upsert([doc("one", row_id="1"), doc("two", row_id="2")])
    staged = store.engine_on(staged_name(store.collection), asked)
    replace_by = PgVectorEngine.replace_by

    async def after_another_began(self: PgVectorEngine, name: str, run: str | None = None) -> None:
        await staged.drop()
        await self.amend(lambda each: replace(each, moving_to=None))
        await staged.upsert([to_row(doc("one", row_id="1"))], np.ones((1, 5), np.float32), utc_now().isoformat())
        await replace_by(self, name, run)

    monkeypatch.setattr(PgVectorEngine, "replace_by", after_another_began)
    with pytest.raises(AppError, match="not replaced"):
        await reembed(store, newer(), settles=0)
    assert await store.count() == 2


async def asked(_: int | None) -> CollectionContract:
    return CollectionContract("Planned", "third", 5, Distance.COSINE, replaces="documents")
