"""Waking a loop from a thread, with a descriptor and without one."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config.settings import SQLiteSettings
from app.connections._wakeup import Wakeup
from app.connections.sqlite import SQLiteConnectionManager


def descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").glob("*")))


counted = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts in /proc")


def unsupported(*_: object) -> None:
    raise NotImplementedError


def exhausted(*_: object) -> int:
    raise OSError(24, "Too many open files")


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "eventfd", raising=False)


def not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", unsupported)


def no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "eventfd", exhausted, raising=False)


def as_it_is(_: pytest.MonkeyPatch) -> None:
    pass


@counted
@pytest.mark.parametrize("lacks", [as_it_is, without, not_watched, no_more])
async def test_everything_arrives_in_order_and_no_descriptor_is_left(
    monkeypatch: pytest.MonkeyPatch, lacks: Callable[[pytest.MonkeyPatch], None]
) -> None:
    lacks(monkeypatch)
    before = descriptors()
    received: list[int] = []
    done = asyncio.Event()

    def receive(item: int) -> None:
        received.append(item)
        if item == 1999:
            done.set()

    wakeup = Wakeup(asyncio.get_running_loop(), receive)

    def send(wakeup: Wakeup[int]) -> None:
        for number in range(2000):
            wakeup.send(number)
        wakeup.end()

    thread = threading.Thread(target=send, args=(wakeup,))
    thread.start()
    await asyncio.wait_for(done.wait(), 5)
    thread.join()
    await asyncio.sleep(0)
    wakeup.send(-1)
    await asyncio.sleep(0.01)
    assert received == [*range(2000), -1]
    del wakeup, thread
    assert descriptors() == before


@counted
@pytest.mark.parametrize("ends", [False, True])
def test_a_loop_that_has_ended_is_sent_to_in_vain(*, ends: bool) -> None:
    before = descriptors()

    async def make() -> Wakeup[int]:
        return Wakeup(asyncio.get_running_loop(), unsupported)

    wakeup = asyncio.run(make())
    wakeup.send(1)
    if ends:
        wakeup.end()
        wakeup.send(2)
    del wakeup
    assert descriptors() == before


@counted
def test_an_engine_of_many_loops_keeps_none_of_them(tmp_path: Path) -> None:
    manager = SQLiteConnectionManager(SQLiteSettings(path=tmp_path / "app.db"))
    keeper = asyncio.new_event_loop()
    keeper.run_until_complete(manager.execute_query("SELECT 1"))
    before = descriptors()

    async def use() -> None:
        engine = await manager.connect()
        for _ in range(3):
            engine.read("SELECT 1")  # not waited for
        assert await engine.read("SELECT 1") == [(1,)]

    for _ in range(20):
        asyncio.run(use())
    assert descriptors() <= before + 5
    keeper.run_until_complete(manager.close())
    keeper.close()
