"""Caching: what is read after a write is what was written, and a broken cache is only slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from ...core.errors import DuplicateRecordError
from ...db.backends.base import Capability, Index
from ...db.cache.policy import CachePolicy
from ...db.query import Find
from ...db.repositories.base import Repository
from ...db.repositories.cached import cached
from ..models import Draft
from .base import Contract, Place


class Kept(Draft):
    """A draft that is kept in a cache."""


class KeptDrafts(Repository[Kept]):
    COLLECTION_NAME = "kept_drafts"
    indexes = (Index("title", unique=True), Index("body"))
    cache = CachePolicy(ttl=60)
    calls: ClassVar[int] = 0

    @cached(ttl=60)
    async def titles(self, beginning: str = "") -> list[str]:
        type(self).calls += 1
        return [each.title for each in await self.find({"title": {"$startswith": beginning}})]

    @cached(ttl=60)
    async def longest(self) -> Kept | None:
        found = await self.all()
        return max(found, key=lambda each: len(each.body), default=None)


@asynccontextmanager
async def reads(drafts: KeptDrafts) -> AsyncIterator[list[Find]]:
    """The finds that reach the store meanwhile."""
    backend = drafts._binding.backend
    found: list[Find] = []
    original = backend.find

    async def find(operation: Find) -> list[dict[str, Any]]:
        found.append(operation)
        return await original(operation)

    drafts._binding.handlers  # noqa: B018 - bound before it is watched
    backend.find = find  # type: ignore[method-assign]
    drafts._bound = drafts._binding.seeing(drafts._visibility)
    try:
        yield found
    finally:
        del backend.find
        drafts._bound = None


class CachingContract(Contract):
    @pytest.fixture
    def drafts(self, place: Place) -> KeptDrafts:
        drafts: KeptDrafts = place(KeptDrafts)
        KeptDrafts.calls = 0
        return drafts

    async def test_a_record_is_read_once(self, drafts: KeptDrafts) -> None:
        created = await drafts.create(Kept(id="1", title="a"))
        async with reads(drafts) as found:
            for _ in range(5):
                assert await drafts.get("1") == created
            assert len(found) == 1
            for _ in range(5):
                assert await drafts.find_one({"title": "a"}) == created
            assert len(found) == 2
            for _ in range(5):
                assert await drafts.get("none") is None
                assert await drafts.find_one({"title": "none"}) is None
            assert len(found) == 4
            assert await drafts.find({"title": "a"}) == [created]
            assert await drafts.find_one({"body": ""}) == created
            assert len(found) == 6

    async def test_what_a_caller_does_with_a_record_stays_with_it(self, drafts: KeptDrafts) -> None:
        await drafts.create(Kept(id="1", title="a"))
        first = await drafts.get_or_raise("1")
        first.body = "mine"
        assert (await drafts.get_or_raise("1")).body == ""

    async def test_every_write_is_seen_at_once(self, drafts: KeptDrafts) -> None:
        async def seen() -> tuple[str, int] | None:
            by_id, by_title = await drafts.get("1"), await drafts.find_one({"title": "a"})
            assert by_id == by_title
            return None if by_id is None else (by_id.body, by_id.views)

        assert await seen() is None
        await drafts.create(Kept(id="1", title="a"))
        assert await seen() == ("", 0)
        await drafts.update("1", {"body": "b"})
        assert await seen() == ("b", 0)
        await drafts.increment("1", "views")
        assert await seen() == ("b", 1)
        await drafts.update_many({"title": "a"}, {"body": "c"})
        assert await seen() == ("c", 1)
        assert await drafts.compare_and_set("1", {"body": "c"}, {"body": "d"})
        assert await seen() == ("d", 1)
        await drafts.upsert(Kept(id="1", title="a", body="e"))
        assert await seen() == ("e", 0)
        await drafts.upsert(Kept(title="a", body="f"), on="title")
        assert await seen() == ("f", 0)
        await drafts.upsert_many([Kept(id="1", title="a", body="g")])
        assert await seen() == ("g", 0)
        draft = await drafts.get_or_raise("1")
        draft.body = "h"
        await drafts.save(draft)
        assert await seen() == ("h", 0)
        assert await drafts.query().where("title", "=", "a").update({"body": "i"}) == 1
        assert await seen() == ("i", 0)
        await drafts.delete("1")
        assert await seen() is None
        await drafts.restore("1")
        assert await seen() == ("i", 0)
        await drafts.delete_many({"title": "a"})
        assert await seen() is None
        assert await drafts.put_if_absent(Kept(id="2", title="a")) is True
        assert await drafts.find_one({"title": "a"}) == await drafts.get("2")
        await drafts.with_deleted().update_many({"body": "i"}, {"views": 5})
        assert await drafts.get("1") is None

    async def test_a_value_that_moves_to_another_record(self, drafts: KeptDrafts) -> None:
        await drafts.create_many([Kept(id="1", title="a"), Kept(id="2", title="b")])
        assert await drafts.find_one({"title": "c"}) is None
        assert (await drafts.find_one({"title": "a"}) or Kept(title="")).id == "1"
        await drafts.update("1", {"title": "c"})
        assert await drafts.find_one({"title": "a"}) is None
        assert (await drafts.find_one({"title": "c"}) or Kept(title="")).id == "1"
        await drafts.update("2", {"title": "a"})
        assert (await drafts.find_one({"title": "a"}) or Kept(title="")).id == "2"

    async def test_a_restored_record_is_found_by_its_value(self, drafts: KeptDrafts) -> None:
        await drafts.create_many([Kept(id="1", title="a"), Kept(id="2", title="b")])
        await drafts.delete("1")
        assert await drafts.find_one({"title": "a"}) is None
        await drafts.restore("1")
        assert await drafts.find_one({"title": "a"}) == await drafts.get("1")

    async def test_a_failed_write_leaves_the_cache_right(self, drafts: KeptDrafts) -> None:
        await drafts.create_many([Kept(id="1", title="a"), Kept(id="2", title="b")])
        before = await drafts.get("1")
        with pytest.raises(DuplicateRecordError):
            await drafts.update("1", {"title": "b"})
        async with reads(drafts) as found:
            assert await drafts.get("1") == before
            assert await drafts.get("1") == before
            assert len(found) == 1

    async def test_methods(self, drafts: KeptDrafts) -> None:
        assert await drafts.longest() is None
        await drafts.create_many([Kept(id="1", title="a", body="x"), Kept(id="2", title="b")])
        assert await drafts.titles() == ["a", "b"]
        assert await drafts.titles("a") == ["a"]
        assert await drafts.titles(beginning="a") == ["a"]
        assert KeptDrafts.calls == 2
        assert await drafts.longest() == await drafts.get("1")
        await drafts.create(Kept(id="3", title="c", body="xx"))
        assert await drafts.titles() == ["a", "b", "c"]
        assert await drafts.longest() == await drafts.get("3")
        assert KeptDrafts.calls == 3
        titles = await drafts.titles()
        titles.append("mine")
        assert await drafts.titles() == ["a", "b", "c"]
        assert await drafts.only_deleted().titles() == []
        assert await drafts.titles() == ["a", "b", "c"]

    async def test_many_misses_load_once(self, drafts: KeptDrafts) -> None:
        created = await drafts.create(Kept(id="1", title="a"))
        async with reads(drafts) as found:
            results = await asyncio.gather(*(drafts.get("1") for _ in range(500)))
            assert results == [created] * 500
            assert len({id(each) for each in results}) == 500
            assert len(found) == 1
        await drafts.titles()
        KeptDrafts.calls = 0
        await drafts.update("1", {"body": "x"})
        assert await asyncio.gather(*(drafts.titles() for _ in range(500))) == [["a"]] * 500
        assert KeptDrafts.calls == 1

    async def test_a_load_from_before_a_write_is_not_kept(self, drafts: KeptDrafts) -> None:
        await drafts.create(Kept(id="1", title="a", body="old"))
        loaded, go_on = asyncio.Event(), asyncio.Event()
        backend = drafts._binding.backend
        original = backend.find

        async def slow(operation: Find) -> list[dict[str, Any]]:
            result = await original(operation)
            if not loaded.is_set():
                loaded.set()
                await go_on.wait()
            return result

        backend.find = slow  # type: ignore[method-assign]
        drafts._bound = drafts._binding.seeing(drafts._visibility)
        reader = asyncio.create_task(drafts.get("1"))
        await loaded.wait()
        await drafts.update("1", {"body": "new"})
        assert (await drafts.get_or_raise("1")).body == "new"
        go_on.set()
        old = await reader
        assert old is not None
        assert old.body == "old"  # it asked before the write
        for _ in range(3):
            assert (await drafts.get_or_raise("1")).body == "new"
        del backend.find

    async def test_a_cancelled_reader_takes_nobody_with_it(self, drafts: KeptDrafts) -> None:
        created = await drafts.create(Kept(id="1", title="a"))
        for _ in range(5):
            await drafts.update("1", {"views": 0})
            created = await drafts.with_deleted().get_or_raise("1")
            readers = [asyncio.create_task(drafts.get("1")) for _ in range(20)]
            await asyncio.sleep(0)
            readers[0].cancel()
            readers[7].cancel()
            results = await asyncio.gather(*readers, return_exceptions=True)
            assert [each for i, each in enumerate(results) if i not in (0, 7)] == [created] * 18
            assert all(isinstance(results[i], asyncio.CancelledError) or results[i] == created for i in (0, 7))

    async def test_a_transaction_reads_past_it_and_drops_what_it_wrote(self, drafts: KeptDrafts) -> None:
        await drafts.create(Kept(id="1", title="a", body="old"))
        if Capability.TRANSACTIONS not in drafts.capabilities:
            return
        await drafts.get("1")
        assert await drafts.titles() == ["a"]
        async with drafts.transaction() as tx:
            await tx.update("1", {"body": "new", "title": "b"})
            assert (await tx.get_or_raise("1")).body == "new"
            assert await tx.titles() == ["b"]
            outside = await drafts.get("1")
            assert outside is not None
            assert outside.body == "old"
            assert await drafts.titles() == ["a"]
        assert (await drafts.get_or_raise("1")).body == "new"
        assert await drafts.find_one({"title": "a"}) is None
        assert await drafts.titles() == ["b"]
        with pytest.raises(RuntimeError):
            async with drafts.transaction() as tx:
                await tx.update("1", {"body": "never"})
                raise RuntimeError
        async with reads(drafts) as found:
            assert (await drafts.get_or_raise("1")).body == "new"
            assert (await drafts.get_or_raise("1")).body == "new"
            assert len(found) == 1

    async def test_a_writer_and_fifty_readers(self, drafts: KeptDrafts) -> None:
        await drafts.create(Kept(id="1", title="a"))
        written = 0
        stop = False

        async def read() -> None:
            while not stop:
                at_least = written
                draft = await drafts.get_or_raise("1")
                assert draft.views >= at_least
                assert (await drafts.find_one({"title": "a"}) or draft).views >= at_least
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(50)]
        for number in range(1, 101):
            await drafts.update("1", {"views": number})
            written = number
            await asyncio.sleep(0)
        stop = True
        await asyncio.gather(*readers)

    async def test_a_writer_and_fifty_readers_in_step(self, drafts: KeptDrafts) -> None:
        await drafts.create(Kept(id="1", title="a"))
        meeting = asyncio.Barrier(51)
        seen: list[int] = []

        async def read() -> None:
            for number in range(1, 21):
                await meeting.wait()
                seen.append((await drafts.get_or_raise("1")).views)  # while it is written
                assert seen[-1] in (number - 1, number)
                await meeting.wait()
                assert (await drafts.get_or_raise("1")).views == number  # the old value never comes back

        async def write() -> None:
            for number in range(1, 21):
                await meeting.wait()
                await drafts.update("1", {"views": number})
                await meeting.wait()

        await asyncio.gather(write(), *(read() for _ in range(50)))
        assert len(seen) == 1000
