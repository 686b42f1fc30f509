"""What is told of a store, in one shape for all of them; what a store does not count is None, never a guess."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeAlias

from ...config.settings import EMBEDDED
from ...connections.base import ConnectionManager
from ...core.constants import ConnectionType
from ...core.errors import AppError, DeadlineExceededError, StoreUnavailableError
from ...core.registry import Registry

MOST_COLLECTIONS: Final = 500
"""How many collections of a store are looked at, so that the cost has a bound."""

Details: TypeAlias = Mapping[str, int | float | str | bool | None]
"""What only this kind of store tells; docs/maintenance.md has the names."""


class StoreState(StrEnum):
    OK = "ok"
    UNAVAILABLE = "unavailable"
    NOT_CONFIGURED = "not configured"


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    name: str
    fields: tuple[str, ...] = ()
    kind: str = ""
    """What the store calls its type: btree, text, keyword …"""
    unique: bool | None = None
    size_bytes: int | None = None
    uses: int | None = None
    """How many queries have used it since `counted_since`."""
    counted_since: str | None = None
    """ISO 8601; None where the store does not count, or has counted from its beginning."""
    unused: bool | None = None
    """No query has used it, and it does nothing else: one that is unique, or that expires records, is not unused."""


@dataclass(frozen=True, slots=True)
class CollectionStatistics:
    name: str
    rows: int | None
    exact: bool
    """Whether `rows` was counted just now; otherwise it is the store's estimate."""
    size_bytes: int | None = None
    """With its indexes, where the store tells."""
    indexes: tuple[IndexStatistics, ...] = ()
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    connection: str
    type: str
    state: StoreState = StoreState.OK
    version: str | None = None
    size_bytes: int | None = None
    collections: tuple[CollectionStatistics, ...] = ()
    pool: Mapping[str, Any] | None = None
    """As `ConnectionHealth.pool`."""
    details: Details = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the numbers do not show, for a person."""
    error: str = ""
    """Why there are no numbers."""


Reader: TypeAlias = Callable[[ConnectionManager[Any]], Awaitable[StoreStatistics]]
"""Reads one store, without `version` and `pool` where those are the same as in its health."""

StatisticsRegistry: Registry[Reader] = Registry(
    "reader of statistics",
    {each: f".db.statistics.{each}:read" for each in ConnectionType},
    entry_point_group="manystore.statistics",
)


async def statistics_of(manager: ConnectionManager[Any]) -> StoreStatistics:
    """Connect if need be and ask; StoreUnavailableError or DeadlineExceededError where there is no answer.

    What an embedded engine has not made yet is not made for this.
    """
    place = _directory_or_file(manager)
    if place is not None and not await asyncio.to_thread(place.exists):
        note = f"{place} is not there yet: its first use makes it"
        return StoreStatistics(manager.name, manager.connection_type, size_bytes=0, notes=(note,))
    read = StatisticsRegistry.get(manager.connection_type)
    try:
        found = await read(manager)
    except AppError:
        raise
    except Exception as error:
        raise StoreUnavailableError(f"{manager.name} does not tell its statistics: {type(error).__name__}") from error
    if not manager.connected:
        return found
    health = await manager.health()
    return replace(found, version=found.version or health.server_version, pool=health.pool)


class Allowance:
    """The seconds that reading one store may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = monotonic() + seconds

    @property
    def left(self) -> float:
        return max(self._end - monotonic(), 0.0)

    @property
    def is_short(self) -> bool:
        """Whether to come to an end with what there is."""
        return self.left < self._seconds / 4


@asynccontextmanager
async def connected(manager: ConnectionManager[Any]) -> AsyncIterator[tuple[Any, Allowance]]:
    """The client, and the connection's `timeout` for all that is read with it; connecting has its own limit."""
    client = await manager.connect()
    seconds: float = manager.settings.timeout
    try:
        async with asyncio.timeout(seconds) as fence:
            yield client, Allowance(seconds)
    except TimeoutError as error:
        if not fence.expired() or isinstance(error, AppError):
            raise
        raise DeadlineExceededError(
            f"{manager.name} did not tell its statistics within {seconds:g} s: raise its timeout"
        ) from error


async def each(
    names: Iterable[str], allowance: Allowance, read: Callable[[str], Awaitable[CollectionStatistics | None]]
) -> tuple[tuple[CollectionStatistics, ...], tuple[str, ...]]:
    """Read one collection after the other, as far as the time goes; and a note where some were left out.

    None is a collection that was dropped meanwhile.
    """
    ordered = sorted(names)
    done: list[CollectionStatistics] = []
    looked_at = 0
    for name in ordered[:MOST_COLLECTIONS]:
        if allowance.is_short:
            break
        found = await read(name)
        looked_at += 1
        if found is not None:
            done.append(found)
    return tuple(done), left_out(looked_at, len(ordered))


def left_out(shown: int, total: int) -> tuple[str, ...]:
    return (f"{shown} of {total} collections are shown: the others were left out",) if shown < total else ()


def used_space(directory: str) -> int:
    """Bytes that the files of a directory take on the disk; engines make files far larger than what is in them."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                status = Path(folder, name).stat()
            except OSError:  # removed meanwhile
                continue
            total += status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
    return total


def _directory_or_file(manager: ConnectionManager[Any]) -> Path | None:
    """Where an embedded engine keeps its data."""
    info = manager.get_connection_info()
    path = info.get("path")
    is_embedded = info.get("url") == EMBEDDED or manager.connection_type == ConnectionType.SQLITE
    return Path(path) if path and is_embedded and path != ":memory:" else None
