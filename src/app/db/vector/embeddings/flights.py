"""One who makes what many ask for at the same time."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Who makes what, by its key. It may be used from many threads and event loops at once.

    No lock: `dict.setdefault` is one step, and a lock could be inherited locked by a fork. What a parent was making is
    nothing to a fork, which has not the thread that would end it.
    """

    def __init__(self) -> None:
        self._under_way: dict[tuple[int, str], Future[T | None]] = {}

    def board(self, keys: Iterable[str]) -> tuple[dict[str, Future[T | None]], dict[str, Future[T | None]]]:
        """Those that the caller is to make now, and has to `land`, and those that others are making."""
        mine: dict[str, Future[T | None]] = {}
        others: dict[str, Future[T | None]] = {}
        for key in keys:
            new: Future[T | None] = Future()
            new.set_running_or_notify_cancel()  # from then on nobody who waits can cancel it
            under_way = self._under_way.setdefault((os.getpid(), key), new)
            (mine if under_way is new else others)[key] = under_way
        return mine, others

    def land(self, mine: Mapping[str, Future[T | None]], made: Mapping[str, T]) -> None:
        """Tell those who wait; what is not in `made` has failed, and is theirs to make."""
        for key, future in mine.items():
            del self._under_way[os.getpid(), key]
            future.set_result(made.get(key))


async def arrived(others: Mapping[str, Future[T | None]]) -> dict[str, T]:
    """Wait; what did not come about is left out."""
    made: dict[str, T] = {}
    for key, future in others.items():
        value = await asyncio.wrap_future(future)
        if value is not None:
            made[key] = value
    return made
