"""Cached answers in this process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from .store import WRITING, CacheStore, Entry, Tokens, copied

T = TypeVar("T")

MAX_ENTRIES: Final = 10_000


class MemoryStore(CacheStore):
    """At most `max_entries` answers and as many tags; the one that was used longest ago goes first.

    Writes of other processes are not seen, so an answer can be as old as its time to live.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._entries: _Recent[Entry] = _Recent(max_entries)
        self._tags: _Recent[str] = _Recent(max_entries)
        self._writers: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    async def get(self, tags: Sequence[str], key: str) -> tuple[Tokens, Entry | None]:
        now = time.monotonic()
        with self._lock:
            tokens = tuple([self._tags.get(tag, now) for tag in tags])
            found = self._entries.get(key, now)
        return tokens, None if found is None else Entry(found.tokens, copied(found.value))

    async def put(self, key: str, entry: Entry, seconds: float) -> None:
        kept = Entry(entry.tokens, copied(entry.value))
        with self._lock:
            self._entries.set(key, kept, time.monotonic() + seconds)

    async def open(self, tags: Sequence[str], writer: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._lock:
            for tag in tags:
                self._writers.setdefault(tag, {})[writer] = until
                self._tags.set(tag, WRITING, until)

    async def settle(self, tags: Sequence[str], writer: str, token: str, seconds: float) -> None:
        now = time.monotonic()
        with self._lock:
            for tag in tags:
                others = self._writers.pop(tag, {})
                others.pop(writer, None)
                others = {other: until for other, until in others.items() if until > now}
                if others:
                    self._writers[tag] = others
                    self._tags.set(tag, WRITING, max(others.values()))
                else:
                    self._tags.set(tag, token, now + seconds)

    async def claim(self, key: str, token: str, seconds: float) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._tags.get(key, now) is not None:
                return False
            self._tags.set(key, token, now + seconds)
            return True

    async def release(self, key: str) -> None:
        with self._lock:
            self._tags.remove(key)


class _Recent(Generic[T]):
    """The values that were used last, until their time is over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def get(self, key: str, now: float) -> T | None:
        found = self._values.get(key)
        if found is None:
            return None
        if found[1] <= now:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return found[0]

    def set(self, key: str, value: T, until: float) -> None:
        self._values[key] = (value, until)
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def remove(self, key: str) -> None:
        self._values.pop(key, None)
