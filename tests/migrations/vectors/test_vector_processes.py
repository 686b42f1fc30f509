"""Processes that migrate one server at once."""

import asyncio
from itertools import pairwise

import pytest

from app.core.errors import StoreUnavailableError
from app.db import DataLayer
from app.db.migrations.lock import Held
from app.db.migrations.stores._generations import LOCK, GenerationLock

from .conftest import SERVERS
from .places import Place, Program

MARK = """
async def mark(manager):
    from uuid import uuid4
    if manager.connection_type == "chromadb":
        there = await (await manager.connect()).get_collection("runs", embedding_function=None)
        await there.add(ids=[uuid4().hex], embeddings=[[1.0]])
    else:
        from qdrant_client.models import PointStruct
        await (await manager.connect()).upsert("runs", [PointStruct(id=str(uuid4()), vector=[1.0])])
self.run("mark", mark)
"""


@pytest.mark.parametrize("place", SERVERS, indirect=True)
async def test_eight_processes_apply_each_step_once(place: Place, data: DataLayer) -> None:
    place.write("001_runs", 'self.create_vector_collection("runs", 1, "l2")')
    with Program() as program:
        for number in range(2, 6):
            place.write(f"{number:03}_mark", MARK)
            outcomes = program.run_many(place, "up", processes=8)
            assert [each["error"] for each in outcomes] == [""] * 8
            applied = [name for each in outcomes for name in each["told"][0]]
            assert applied == (["001_runs"] if number == 2 else []) + [f"{number:03}_mark"]
    collections = await place.collections(data)
    assert len(collections["runs"]["points"]) == 4
    assert [each.state for each in await place.migrator(data).status()] == ["applied"] * 5
    assert len([name for name in await place.names(data) if name.startswith(LOCK)]) == 1


async def test_one_of_many_gets_the_lock(place: Place, data: DataLayer) -> None:
    store = place.migration_store(data)
    await store.prepare()
    held: Held | None = None
    for turn in range(3):
        runners = [Held(f"{turn}-{number}", "host", "", number, "") for number in range(12)]
        won = await asyncio.gather(*(store.swap_lock(held, each) for each in runners))
        assert sum(won) == 1
        held = runners[won.index(True)]
        assert await store.read_lock() == held
        assert not await store.swap_lock(None, runners[0])
    assert await store.swap_lock(held, None)
    assert await store.read_lock() is None


@pytest.mark.parametrize("place", SERVERS, indirect=True)
async def test_who_has_seen_a_number_long_ago_gets_no_lock_by_it(place: Place, data: DataLayer) -> None:
    """It makes the collection behind the one that it saw, since others have passed and removed that."""
    store = place.migration_store(data)
    assert isinstance(store, GenerationLock)
    owners = [Held(str(number), "host", "", number, "") for number in range(4)]
    assert await store.swap_lock(None, owners[0])

    others = store

    class Late(type(store)):  # type: ignore[misc]
        async def make_described(self, name: str, description: str) -> None:
            for old, new in pairwise(owners[:3]):
                assert await others.swap_lock(old, new)
            assert name not in await self.collection_names()
            await super().make_described(name, description)

    late = Late(data.connection(place.store))
    assert not await late.swap_lock(owners[0], owners[3])
    assert await store.read_lock() == owners[2]
    assert [name for name in await place.names(data) if name.startswith(LOCK)] == [f"{LOCK}3"]


@pytest.mark.parametrize("place", ["qdrant embedded", "chroma directory"], indirect=True)
async def test_another_process_is_told_that_the_directory_is_taken(place: Place, data: DataLayer) -> None:
    place.write("001_pictures", 'self.create_vector_collection("pictures", 3)')
    assert (await place.migrator(data).up()).applied
    with Program() as program:
        told = program.run(place, "status")
    assert told["error"].startswith(StoreUnavailableError.__name__)
    assert str(place.path) in told["error"]
