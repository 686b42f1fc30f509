"""How a thread wakes an event loop: by a descriptor of its own, where the system has one for that."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Wakeup(Generic[ItemT]):
    """Hands over items of a thread to one event loop, where it is made.

    The loop's own way, `call_soon_threadsafe`, makes a handle, writes to a socket and reads from it twice: a fifth of
    what it costs to ask a thread for something. It is taken where there is no better.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[ItemT], None]) -> None:
        self.loop = loop
        self._receive = receive
        self._items: deque[ItemT] = deque()
        self._lock = threading.Lock()
        """Held while the descriptor is used, since one that was closed may be another's."""
        self._descriptor = self._watched()

    def send(self, item: ItemT) -> None:
        """From the thread. What is sent to a loop that has ended is lost, as are those who wait there."""
        with self._lock:
            if self._descriptor is not None:
                self._items.append(item)
                os.eventfd_write(self._descriptor, 1)
                return
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._receive, item)

    def end(self) -> None:
        """From any thread, after the last item."""
        try:
            self.loop.call_soon_threadsafe(self._close)
        except RuntimeError:
            self._release()

    def _watched(self) -> int | None:
        if not hasattr(os, "eventfd"):
            return None
        try:
            descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:  # no more descriptors: it goes without
            return None
        try:
            self.loop.add_reader(descriptor, self._ready)
        except NotImplementedError:
            os.close(descriptor)
            return None
        return descriptor

    def _ready(self) -> None:
        if self._descriptor is not None:
            with suppress(BlockingIOError):
                os.eventfd_read(self._descriptor)
        while self._items:
            self._receive(self._items.popleft())

    def _close(self) -> None:
        self._ready()
        if self._descriptor is not None:
            self.loop.remove_reader(self._descriptor)
        self._release()

    def _release(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        # The loop was closed without having run what `end` asked of it. Without the lock: nobody else is here, and in a
        # forked child it may be held by a thread that is not.
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)
