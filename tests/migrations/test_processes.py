"""Several processes that migrate one store at once: one of them does, the others find it done."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.core.errors import DeadlineExceededError, MigrationError
from app.db import DataLayer
from app.db.migrations.lock import Held, Lock, LockLostError, locked

from .place import Place, everything, put, rows
from .processes import LOCK_LOST, Forks

COUNTED = """
async def counted(manager) -> None:
    if manager.connection_type == "redis":
        await manager.incr("runs")
    else:
        await manager.connect()
        await manager.get_database()["runs"].insert_one({})
"""


async def test_eight_processes_at_once_apply_each_step_once(place: Place, manager: Any, children: Forks) -> None:
    await put(manager, "things", *({"id": f"t{n}", "n": 0} for n in range(30)))
    for attempt in range(1, 5):
        place.write(
            f"{attempt:03}_round",
            """
            self.run("count", counted)
            self.create_index("things", "n")
            self.convert_field("things", "n", lambda value: value + 1, batch_size=10)
            """,
            before=COUNTED,
        )
        assert children.run(place, "up", 8) == [0] * 8
        assert {each["n"] for each in (await rows(manager, "things")).values()} == {attempt}
    if place.store == "redis":
        assert await manager.get("runs") == "4"
    else:
        assert await manager.get_database()["runs"].count_documents({}) == 4


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_an_owner_that_stood_still_writes_nothing_more(
    place: Place, data: DataLayer, manager: Any, children: Forks
) -> None:
    await put(manager, "things", *({"id": f"t{n}", "n": n} for n in range(60)))
    place.write(
        "001_slow",
        'self.convert_field("things", "n", slow, batch_size=1)',
        before="import time\ndef slow(value):\n    time.sleep(0.05)\n    return value + 100",
    )
    [owner] = children.start(place, "up", migrator={"lease": 1.0})

    async def has_begun() -> bool:
        return any(each["n"] >= 100 for each in (await rows(manager, "things")).values())

    try:
        await until(has_begun)
        os.kill(owner, signal.SIGSTOP)
        migrator = place.migrator(data, wait=0.1, lease=1.0)
        assert [each.state for each in await migrator.status()] == ["running"]
        with pytest.raises(DeadlineExceededError, match=f"process {owner} "):
            await migrator.repair()
        assert (await place.migrator(data, wait=20, lease=1.0).repair()).applied == ("001_slow",)
        after = await everything(manager)
    finally:
        os.kill(owner, signal.SIGCONT)
        codes = children.wait([owner])
    assert codes == [LOCK_LOST]
    assert await everything(manager) == after
    assert {name: each["n"] for name, each in (await rows(manager, "things")).items()} == {
        f"t{n}": n + 100 for n in range(60)
    }
    assert [each.state for each in await migrator.status()] == ["applied"]


@pytest.fixture
def lock_store(place: Place, data: DataLayer) -> Any:
    return place.migration_store(data)


async def test_the_lock_is_one_at_a_time_and_is_given_back(lock_store: Any) -> None:
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with locked(lock_store, wait=20):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    assert await lock_store.read_lock() is None
    with pytest.raises(ZeroDivisionError):
        async with locked(lock_store, wait=1):
            raise ZeroDivisionError
    assert await lock_store.read_lock() is None


async def test_the_lock_changes_hands_in_one_step(lock_store: Any) -> None:
    one, other = (Held(token, "host", "space", 1, "1") for token in ("one", "other"))
    assert await lock_store.swap_lock(None, one)
    for old, new in ((None, other), (other, one), (replace(one, beat=1), other), (other, None)):
        assert not await lock_store.swap_lock(old, new)
        assert await lock_store.read_lock() == one
    assert await lock_store.swap_lock(one, other)
    assert not await lock_store.swap_lock(one, None)
    assert await lock_store.swap_lock(other, None)
    assert await lock_store.read_lock() is None


async def test_waiting_for_the_lock_can_be_cancelled(lock_store: Any) -> None:
    async def wait() -> None:
        async with locked(lock_store, wait=20):
            pass

    async with locked(lock_store, wait=1):
        held = await lock_store.read_lock()
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await lock_store.read_lock()).token == held.token


async def test_whoever_is_cancelled_while_taking_the_lock_leaves_it_free(lock_store: Any) -> None:
    async def take() -> None:
        async with locked(lock_store, wait=20):
            await asyncio.sleep(60)

    await lock_store.read_lock()
    for turn in range(40):
        taking = asyncio.create_task(take())
        await asyncio.sleep(turn * 0.00005)
        while not taking.done():  # pymongo loses a cancellation now and then (`asyncio.wait_for` of Python 3.11)
            taking.cancel()
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)
    assert await lock_store.read_lock() is None


async def test_a_lock_without_a_sign_of_life_is_taken_over(lock_store: Any) -> None:
    elsewhere = Held("token", "another machine", "its boot", 1, "1")
    assert await lock_store.swap_lock(None, elsewhere)
    start = time.monotonic()
    async with locked(lock_store, wait=20, lease=0.6):
        assert time.monotonic() - start > 0.6
        lost = Lock(lock_store, elsewhere, 0.0)
        with pytest.raises(LockLostError):
            await lost.ensure()
        await lost.release()
        assert (await lock_store.read_lock()).token != "token"


async def test_a_living_owner_keeps_its_lock(lock_store: Any) -> None:
    async with locked(lock_store, wait=1, lease=0.5) as lock:
        with pytest.raises(DeadlineExceededError, match="is migrating"):
            async with locked(lock_store, wait=1.2, lease=0.5):
                pass
        await lock.ensure()


async def test_who_loses_the_lock_amid_a_step_is_stopped(lock_store: Any) -> None:
    other = Held("other", "another machine", "its boot", 1, "1")

    async def long_step() -> None:
        async with locked(lock_store, wait=1, lease=0.3):
            while not await lock_store.swap_lock(await lock_store.read_lock(), other):
                pass  # a beat came in between
            await asyncio.sleep(20)

    with pytest.raises(MigrationError, match="another runner took the lock over"):
        await long_step()
    assert await lock_store.read_lock() == other
