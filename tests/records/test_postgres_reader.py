"""Reads from a replica: where they are asked for, and nowhere else.

Another schema stands for the replica, with the records as they were before; so it shows who was asked. It takes no
writes and no locks, as a replica does.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.connections import ConnectionManager
from app.core.errors import (
    ConfigurationError,
    StaleRecordError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from app.db import CachePolicy, DataLayer, Entity, Index, Repository, cached
from app.db.models.base import SoftDeletable, Timestamped, Versioned


class Page(Entity, Timestamped, Versioned, SoftDeletable):
    text: str
    views: int = 0


class Pages(Repository[Page]):
    indexes = (Index("text", unique=True),)
    keeps_history = True


class KeptPages(Repository[Page]):
    collection = "pages"
    cache = CachePolicy(ttl=60)

    @cached(ttl=60)
    async def texts(self) -> list[str]:
        return sorted(each.text for each in await self.all())


class Unreplicated(Repository[Page]):
    collection = "unreplicated"


@asynccontextmanager
async def layer(url: str, reader: str | None = None, **repository: Any) -> AsyncIterator[DataLayer]:
    section = {"url": url, **({"reader_url": reader} if reader else {})}
    config: dict[str, Any] = {"connections": {"postgres": section}}
    if repository:
        config["repositories"] = {"pages": {"connection": "postgres", **repository}}
    async with DataLayer.from_config(config) as data:
        yield data


async def fill(url: str, text: str, kind: type[Repository[Page]]) -> None:
    async with layer(url) as data:
        await data.repository(kind).create(Page(id="1", text=text))
        await data.repository(kind).create(Page(id="2", text=f"{text}, deleted"))
        await data.repository(kind).delete("2")


@pytest.fixture
async def urls(postgres_schemas: Callable[[], str]) -> tuple[str, str]:
    """Of a writer with a record as it is, and of a reader that has it as it was."""
    writer, reader = postgres_schemas(), postgres_schemas()
    await fill(writer, "new", Pages)
    await fill(reader, "old", Pages)
    return writer, f"{reader}%20-c%20default_transaction_read_only%3Don"


def is_open(manager: ConnectionManager[Any]) -> bool:
    return manager.connected


async def test_reads_are_from_the_writer_unless_they_ask(urls: tuple[str, str]) -> None:
    async with layer(*urls) as data:
        pages = data.repository(Pages)
        assert [each.text for each in await pages.all()] == ["new"]
        reader = data.connection("postgres").reader
        assert reader is not None
        assert not is_open(reader), "it is opened on first use"
        view = pages.from_reader()
        assert (await view.get_or_raise("1")).text == "old"
        assert [each.text for each in await view.find({"views": 0})] == ["old"]
        assert await view.find_one({"text": "old"})
        assert not await view.exists({"text": "new"})
        assert await view.count() == 1
        assert [each.text async for each in view.stream()] == ["old"]
        assert [each.text for each in (await view.page(size=5)).items] == ["old"]
        assert await view.aggregate([{"$group": {"_id": "$text"}}]) == [{"_id": "old"}]
        assert await view.query().where("text", "=", "old").count() == 1
        assert (await view.query().where("id", "=", "1").explain())["index"]
        assert is_open(reader)
        assert [each.text for each in await pages.all()] == ["new"]
    assert not is_open(reader), "it closes with the writer"
    with pytest.raises(ConfigurationError, match="was closed"):
        await reader.connect()


async def test_views_of_views(urls: tuple[str, str]) -> None:
    async with layer(*urls) as data:
        pages = data.repository(Pages)
        for view in (pages.from_reader().only_deleted(), pages.only_deleted().from_reader()):
            assert [each.text for each in await view.all()] == ["old, deleted"]
            assert [each.text for each in await view.from_reader().all()] == ["old, deleted"]
            assert [each.text for each in await view.from_writer().all()] == ["new, deleted"]
        assert [each.text for each in await pages.from_writer().all()] == ["new"]


async def test_writes_and_transactions_are_the_writers(urls: tuple[str, str]) -> None:
    async with layer(*urls) as data:
        pages = data.repository(Pages)
        view = pages.from_reader()
        await view.create(Page(id="3", text="third"))
        await view.create_many([Page(text=f"many {n}") for n in range(20)])
        await view.upsert_many([Page(text=f"many {n}", views=1) for n in range(20)], on="text")
        assert await view.increment("1", "views") == 1
        changed = await view.update("1", {"text": "newer"})
        assert changed is not None
        assert (changed.text, changed.views) == ("newer", 1)
        assert await view.update_many({"views": 1}, {"views": 2}) == 21
        assert await view.delete("3")
        assert await view.restore("3")
        async with view.transaction() as tx:
            assert (await tx.get("1")).text == "newer"
            assert await tx.count() == 22
            assert (await tx.repository(Pages).get("1")).text == "newer"
        async with data.transaction("postgres") as tx:
            assert (await tx.repository(Pages).from_reader().get("1")).text == "newer"
        assert [state.entity.text for state in await view.history("1")][-1] == "newer"
        assert (await view.revert("1", 1)).text == "new"
        assert await pages.count() == 22
        assert await view.count() == 1
        with pytest.raises(StaleRecordError, match="version 5"):
            await view.update("1", {"text": "late"}, version=1)


async def test_the_settings_may_ask(urls: tuple[str, str]) -> None:
    async with layer(*urls, reads_from="reader") as data:
        pages = data.repository(Pages)
        assert [each.text for each in await pages.all()] == ["old"]
        await pages.update("1", {"text": "newer"})
        assert [each.text for each in await pages.all()] == ["old"]
        assert [each.text for each in await pages.from_writer().all()] == ["newer"]
        async with pages.transaction() as tx:
            assert (await tx.get("1")).text == "newer"


async def test_a_cache_is_passed_by_and_still_emptied(postgres_schemas: Callable[[], str]) -> None:
    writer, reader = postgres_schemas(), postgres_schemas()
    await fill(writer, "new", KeptPages)
    await fill(reader, "old", KeptPages)
    async with layer(writer, reader) as data:
        pages = data.repository(KeptPages)
        view = pages.from_reader()
        assert (await view.get_or_raise("1")).text == "old"
        assert await view.texts() == ["old"]
        assert (await pages.get_or_raise("1")).text == "new", "what the reader said is not kept"
        assert await pages.texts() == ["new"]
        assert (await view.get_or_raise("1")).text == "old", "nor is what is kept the reader's answer"
        assert await view.texts() == ["old"]
        await view.update("1", {"text": "newer"})
        assert (await pages.get_or_raise("1")).text == "newer"
        assert await pages.texts() == ["newer"]
        async with view.transaction() as tx:
            await tx.update("1", {"text": "newest"})
        assert (await pages.get_or_raise("1")).text == "newest"
    async with layer(writer, reader, reads_from="reader") as data:
        with pytest.raises(ConfigurationError, match="not kept in a cache"):
            await data.repository(KeptPages).all()


async def test_a_reader_that_is_down_is_an_error_of_its_reads_alone(urls: tuple[str, str]) -> None:
    async with layer(urls[0], "postgresql://ada@127.0.0.1:1/app") as data:
        pages = data.repository(Pages)
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1: connection refused"):
            await pages.from_reader().all()
        assert [each.text for each in await pages.all()] == ["new"]
        await pages.from_reader().update("1", {"text": "newer"})
        health = (await data.health())["postgres"]
        assert health.healthy
        assert health.detail.startswith("the reader: cannot connect")


async def test_a_writer_that_is_down_is_an_error_of_its_own_alone(urls: tuple[str, str]) -> None:
    async with layer("postgresql://ada@127.0.0.1:1/app", urls[1]) as data:
        pages = data.repository(Pages)
        assert [each.text for each in await pages.from_reader().all()] == ["old"]
        with pytest.raises(StoreUnavailableError):
            await pages.all()


async def test_a_table_that_has_not_come_to_the_reader_yet(urls: tuple[str, str]) -> None:
    async with layer(*urls) as data:
        view = data.repository(Unreplicated).from_reader()
        with pytest.raises(StoreUnavailableError, match="has not yet what its writer has"):
            await view.all()
        made = await data.connection("postgres").execute_query("SELECT to_regclass('unreplicated') IS NOT NULL")
        assert made == [(True,)], "it was made on the writer, for the reader to get it"
        assert await view.from_writer().all() == []


async def test_without_a_reader(urls: tuple[str, str], tmp_path: Path) -> None:
    async with layer(urls[0]) as data:
        with pytest.raises(ConfigurationError, match="give it a `reader_url`"):
            await data.repository(Pages).from_reader().all()
    async with DataLayer.from_config({"connections": {"sqlite": {"path": str(tmp_path / "app.db")}}}) as data:
        with pytest.raises(UnsupportedOperationError, match="has no reader"):
            await data.repository(Pages).from_reader().all()


async def test_two_databases_are_not_one(urls: tuple[str, str]) -> None:
    async with layer(*urls) as one, layer(urls[0]) as same, layer(urls[1]) as other:
        identities = [data.connection("postgres").identity for data in (one, same, other)]
    assert identities[0] == identities[1] != identities[2]
