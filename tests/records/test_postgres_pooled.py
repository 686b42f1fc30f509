"""Records through a pooler in transaction mode: nothing of ours needs, or leaves, anything in a session."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from langchain_core.documents import Document

from app.core.errors import AppError, ConfigurationError, StoreUnavailableError, UnsupportedOperationError
from app.db import DataLayer, Entity, Index, Repository
from app.db.models.base import Timestamped, Versioned
from app.db.repositories.pool import RepositoryPool

from ..postgres_pooler import Pooler


class Parcel(Entity, Timestamped, Versioned):
    number: int
    text: str = ""
    parts: tuple[str, ...] = ()


class Parcels(Repository[Parcel]):
    indexes = (Index("number", unique=True),)
    keeps_history = True


LEFT_BEHIND = """
    SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
           (SELECT count(*) FROM pg_listening_channels()),
           (SELECT count(*) FROM pg_settings WHERE source = 'session'),
           (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
           (SELECT count(*) FROM pg_cursors WHERE is_holdable)
"""


@pytest.fixture
async def pooler(postgres_schemas: Callable[[], str]) -> AsyncIterator[Pooler]:
    query = parse_qs(urlsplit(postgres_schemas()).query)
    socket = Path(query["host"][0]) / f".s.PGSQL.{query.get('port', ['5432'])[0]}"
    async with Pooler(socket, query["options"][0]).running() as pooler:
        yield pooler


@asynccontextmanager
async def layer(pooler: Pooler, **settings: Any) -> AsyncIterator[DataLayer]:
    section = {"url": pooler.url, "pool": {"max_size": 6}, **settings}
    async with DataLayer.from_config({"connections": {"postgres": section}}) as data:
        yield data


async def work(parcels: Parcels, task: int) -> None:
    """What applications do, each step several times, so that a driver would prepare it."""
    base = task * 1_000
    for step in range(6):
        made = await parcels.create(Parcel(number=base + step, text="é", parts=("a",)))
        assert await parcels.get(made.id) == made
        changed = await parcels.update(made.id, {"text": "b"}, version=1)
        assert changed is not None
        assert changed.version == 2
        async with parcels.transaction() as tx:
            await tx.create(Parcel(number=base + 100 + step))
            with pytest.raises(AppError):  # noqa: PT012 - the block is what is tested
                async with tx.savepoint():
                    await tx.create(Parcel(number=base + 200 + step))
                    await tx.create(Parcel(number=base + 100 + step))
            assert await tx.count({"number": base + 100 + step}) == 1
        assert not await parcels.exists({"number": base + 200 + step})
    await parcels.create_many([Parcel(number=base + 300 + n) for n in range(50)])  # COPY
    await parcels.upsert_many([Parcel(number=base + 330 + n, text="u") for n in range(40)], on="number")
    mine = {"number": {"$gte": base, "$lt": base + 1_000}}
    streamed = [each.number async for each in parcels.stream(mine, batch_size=7)]
    assert sorted(streamed) == sorted(
        [*range(base, base + 6), *range(base + 100, base + 106), *range(base + 300, base + 370)]
    )
    page = await parcels.page(mine, order_by="number", size=30)
    rest = await parcels.page(mine, order_by="number", size=100, after=page.next)
    assert [each.number for each in (*page.items, *rest.items)] == sorted(streamed)
    assert await parcels.delete_many(mine) == len(streamed)


async def test_the_main_operations_by_eight_tasks(pooler: Pooler) -> None:
    async with layer(pooler, pooled=True) as data:
        parcels = data.repository(Parcels)
        await asyncio.gather(*(work(parcels, task) for task in range(8)))
        assert pooler.transactions > 300
        assert data.connection("postgres").pooled
        await assert_nothing_is_left(data, pooler)


async def assert_nothing_is_left(data: DataLayer, pooler: Pooler) -> None:
    found: dict[int, list[int]] = {}
    while len(found) < pooler.size:
        [[pid, *left]] = await data.connection("postgres").execute_query(LEFT_BEHIND)
        found[pid] = left
    assert list(found.values()) == [[0] * 6] * pooler.size


async def test_vectors(pooler: Pooler) -> None:
    section = {"url": pooler.url, "pooled": True}
    stores = {"documents": {"connection": "postgres"}}
    async with DataLayer.from_config({"connections": {"postgres": section}, "vector_stores": stores}) as data:
        documents = data.vector_store("documents")
        await documents.save_and_embed(None, [Document(page_content=f"page {n}", id=str(n)) for n in range(30)])
        engine: Any = documents
        await engine.engine.create_index()  # how wide a search in it is, is said before each
        found = await asyncio.gather(*(documents.search_similar(f"page {n}", k=1) for n in range(12)))
        assert [each[0].id for each in found] == [str(n) for n in range(12)]
        await assert_nothing_is_left(data, pooler)


async def test_it_would_not_work_without_knowing_of_the_pooler(pooler: Pooler) -> None:
    async with layer(pooler) as data:
        with pytest.raises(AppError) as caught:
            await asyncio.gather(*(work(data.repository(Parcels), task) for task in range(4)))
    lost = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
    assert isinstance(caught.value.__cause__, lost), "a statement that was prepared in another session"


async def test_a_statement_that_takes_too_long_is_cancelled_at_its_session(pooler: Pooler) -> None:
    async with layer(pooler, pooled=True, timeout=0.5) as data:
        manager = data.connection("postgres")
        with pytest.raises(AppError, match="did not finish"):
            await manager.execute_query("SELECT pg_sleep(5)")
        assert await manager.execute_query("SELECT 1") == [(1,)]


async def test_what_needs_a_session_is_refused(pooler: Pooler) -> None:
    async with layer(pooler, pooled=True) as data:
        with pytest.raises(UnsupportedOperationError, match="connect directly"):
            async with RepositoryPool(data.connection("postgres")):
                pass
        assert data.connection("postgres").get_pool_stats()["in_use"] == 0


async def test_settings_of_sessions_are_refused(pooler: Pooler) -> None:
    async with layer(pooler, pooled=True, options={"options": "-c search_path=x"}) as data:
        with pytest.raises(ConfigurationError, match="keeps no settings of a session"):
            await data.connection("postgres").connect()
    async with layer(pooler, options={"options": "-c search_path=x"}) as data:
        with pytest.raises(StoreUnavailableError, match="takes no options"):
            await data.connection("postgres").connect()
