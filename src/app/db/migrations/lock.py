"""One runner at a time for each store, whatever happens to the others.

The lock is an entry in the store that its owner changes every few seconds. Who waits watches it by a clock of its own,
so clocks need not agree: an entry that does not change for a lease is of a dead owner, and is taken over in one atomic
step. A dead process of this machine is seen at once.
"""

import asyncio
import contextlib
import os
import platform
import random
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ...core.errors import AppError, DeadlineExceededError, MigrationError, OutcomeUnknownError
from ...core.utils.logger import get_logger

logger = get_logger(__name__)

LEASE: Final = 15.0
"""Seconds without a change after which the owner counts as dead."""
_LOOK: Final = 0.1


class LockLostError(MigrationError):
    """Another runner took the lock over, since this one gave no sign of life for a lease."""


@dataclass(frozen=True, slots=True)
class Held:
    """The lock as it stands in the store."""

    token: str
    host: str
    space: str
    """The machine since its start, and the process namespace; empty where the system does not say."""
    process: int
    started: str
    beat: int = 0


class LockStore(ABC):
    """Where one lock is kept."""

    @abstractmethod
    async def read_lock(self) -> Held | None: ...

    @abstractmethod
    async def swap_lock(self, old: Held | None, new: Held | None) -> bool:
        """Replace the entry if it still is `old` (None: if there is none), in one atomic step; whether it was."""


class Lock:
    """Held by this process: `ensure` before each write that nobody else may do."""

    def __init__(self, store: LockStore, held: Held, lease: float) -> None:
        self._store = store
        self._held: Held = held
        self._lease = lease
        self._beaten = _now()
        self._turn = asyncio.Lock()
        self.lost: LockLostError | None = None

    async def ensure(self) -> None:
        """LockLostError where another runner has taken over."""
        if self.lost is not None:
            raise self.lost
        if _now() - self._beaten > self._lease / 3:
            await self._beat()

    async def keep(self, owner: "asyncio.Task[Any]") -> None:
        """Give signs of life; cancel the owner where that comes too late, since it may be amid a long step."""
        while True:
            await asyncio.sleep(self._lease / 5)
            try:
                await self._beat()
            except LockLostError:
                owner.cancel()
                return
            except AppError as error:  # the next one may do
                logger.debug("no sign of life: %s", error)

    async def release(self) -> None:
        async with self._turn:
            if self.lost is None and not await self._store.swap_lock(self._held, None):
                there = await self._store.read_lock()  # a beat whose answer was lost
                if there is not None and there.token == self._held.token:
                    await self._store.swap_lock(there, None)

    async def _beat(self) -> None:
        async with self._turn:
            began = _now()
            new = replace(self._held, beat=self._held.beat + 1)
            if not await self._store.swap_lock(self._held, new):
                there = await self._store.read_lock()
                if there is None or there.token != new.token:
                    self.lost = LockLostError(
                        "another runner took the lock over, since this one gave no sign of life: look at "
                        "`manystore migrate status`"
                    )
                    raise self.lost
                new = there  # an earlier beat was written, and its answer lost
            self._held, self._beaten = new, began


@asynccontextmanager
async def locked(store: LockStore, *, wait: float, lease: float = LEASE) -> AsyncIterator[Lock]:
    """Wait for the lock for at most `wait` seconds, hold it inside, and give it back."""
    mine = _mine()
    try:
        lock = Lock(store, await _acquire(store, mine, wait, lease), lease)
    except asyncio.CancelledError:
        await asyncio.shield(_forget(store, mine))
        raise
    owner = asyncio.current_task()
    assert owner is not None  # noqa: S101 - this is a coroutine
    keeping = asyncio.create_task(lock.keep(owner))
    try:
        yield lock
    except asyncio.CancelledError:
        if lock.lost is None or owner.uncancel() > 0:
            raise
        raise lock.lost from None
    finally:
        keeping.cancel()
        await asyncio.shield(_end(lock, keeping))


async def _end(lock: Lock, keeping: "asyncio.Task[None]") -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    try:
        await lock.release()
    except AppError as error:
        logger.warning("the migration lock could not be given back, and ends by itself: %s", error)


async def _forget(store: LockStore, mine: Held) -> None:
    """Give back what may just have been taken."""
    with contextlib.suppress(AppError):
        there = await store.read_lock()
        if there is not None and there.token == mine.token:
            await store.swap_lock(there, None)


async def _acquire(store: LockStore, mine: Held, wait: float, lease: float) -> Held:
    deadline = _now() + wait
    seen: Held | None = None
    since = _now()
    while True:
        there = await store.read_lock()
        if there is not None and there.token == mine.token:  # written, and the answer lost
            return there
        if there != seen:
            seen, since = there, _now()
        if there is None or is_dead(there) or _now() - since > lease:
            try:
                taken = await store.swap_lock(there, mine)
            except OutcomeUnknownError:
                continue
            if taken:
                if there is not None:
                    logger.warning("took the migration lock over from process %d on %s", there.process, there.host)
                return mine
        if there is not None and _now() > deadline:
            raise DeadlineExceededError(
                f"process {there.process} on {there.host} is migrating, and was waited for {wait:g} s: let it end, or "
                "raise migrations.wait"
            )
        await asyncio.sleep(_LOOK * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


def _now() -> float:
    """Seconds, those that the machine slept included, where it has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _mine() -> Held:
    process = os.getpid()
    return Held(secrets.token_hex(8), platform.node(), _space(), process, _started(process))


def is_dead(held: Held) -> bool:
    """Whether the owner was a process of this machine and this process namespace, and is gone."""
    return bool(held.space) and held.space == _space() and held.started != _started(held.process)


def _space() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a file
    except OSError:
        return ""


def _started(process: int) -> str:
    """When a process started, in ticks since the machine did; empty where none of that number runs."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in ("Z", "X") else rest[18]  # a zombie has ended
