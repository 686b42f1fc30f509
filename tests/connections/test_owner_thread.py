"""The thread and the table of engines, on the simplest resource there is: a file that only one may have."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.connections.owner_thread import OwnerThread, SharedEngines
from app.core.errors import StoreUnavailableError


class Exclusive(OwnerThread[int]):
    """Holds a file that is there while it is open; takes its time to close it."""

    def __init__(self, path: Path, *, closing: float = 0.0) -> None:
        super().__init__(f"exclusive {path}", timeout=5)
        self.path = path
        self._closing = closing

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_CREAT | os.O_EXCL)
        except OSError as error:
            raise StoreUnavailableError(str(error)) from error

    def _close(self, resource: int) -> None:
        time.sleep(self._closing)
        os.close(resource)
        self.path.unlink()


@pytest.fixture
def engines() -> SharedEngines:
    return SharedEngines()


async def acquire(engines: SharedEngines, path: Path, closing: float = 0.0) -> Exclusive:
    return await engines.acquire(Exclusive, str(path), lambda: Exclusive(path, closing=closing))


async def test_an_engine_is_shared_and_ends_with_its_last_user(engines: SharedEngines, tmp_path: Path) -> None:
    path = tmp_path / "file"
    users = [await acquire(engines, path) for _ in range(3)]
    assert len(set(map(id, users))) == 1
    for engine in users[:2]:
        await engines.release(engine)
        assert await engine.submit(lambda _: "works") == "works"
    await engines.release(users[2])
    assert not path.exists()
    with pytest.raises(StoreUnavailableError, match="is closed"):
        users[2].submit(lambda _: "")
    await engines.release(users[2])  # once more is nothing


async def test_the_next_engine_waits_until_the_one_before_has_closed(engines: SharedEngines, tmp_path: Path) -> None:
    path = tmp_path / "file"
    engines.let_go(await acquire(engines, path, closing=0.05))
    assert path.exists()
    await engines.release(await acquire(engines, path))
    assert not path.exists()


async def test_a_failed_opening_is_not_kept(engines: SharedEngines, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    outcomes = await asyncio.gather(*(acquire(engines, path) for _ in range(5)), return_exceptions=True)
    assert {type(each) for each in outcomes} == {StoreUnavailableError}
    path.unlink()
    await engines.release(await acquire(engines, path))


async def test_a_thread_that_cannot_start_leaves_nothing_to_wait_for(engines: SharedEngines, tmp_path: Path) -> None:
    class Unstarted(Exclusive):
        def start(self, after: Any = None) -> None:
            raise RuntimeError(f"can't start new thread, after {after}")

    path = tmp_path / "file"
    with pytest.raises(RuntimeError):
        await engines.acquire(Exclusive, str(path), lambda: Unstarted(path))
    await engines.release(await asyncio.wait_for(acquire(engines, path), 5))


async def test_after_release_the_thread_is_gone(engines: SharedEngines, tmp_path: Path) -> None:
    for _ in range(300):
        engine = await acquire(engines, tmp_path / "file")
        await engines.release(engine)
        assert engine.label not in [thread.name for thread in threading.enumerate()]


async def test_stop_all_ends_what_was_forgotten(engines: SharedEngines, tmp_path: Path) -> None:
    for name in "ab":
        await acquire(engines, tmp_path / name)
    await asyncio.to_thread(engines.stop_all)
    assert list(tmp_path.iterdir()) == []


async def test_a_batch_is_done_in_the_order_it_came(engines: SharedEngines, tmp_path: Path) -> None:
    engine = await acquire(engines, tmp_path / "file")
    done: list[int] = []

    def job(number: int) -> Callable[[int], None]:
        return lambda _: done.append(number)

    await asyncio.gather(*(engine.submit(job(number)) for number in range(1000)))
    assert done == list(range(1000))
    await engines.release(engine)
