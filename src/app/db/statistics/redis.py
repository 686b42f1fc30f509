"""Redis: INFO, and a sample of the keys, which are grouped by the layout that `backends/_redis_keys.py` describes.

`{collection}:{id}` is a row, `@{collection}:{index}:{digest}` an entry of an index.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from redis.client import NEVER_DECODE
from redis.exceptions import ResponseError

from .base import MOST_COLLECTIONS, Allowance, CollectionStatistics, IndexStatistics, StoreStatistics, connected
from .base import left_out as note_of_left_out

if TYPE_CHECKING:
    from ...connections.redis import RedisConnectionManager

SCANNED_KEYS: Final = 10_000
"""How many keys are looked at. A scan gives them in the order of their hashes, so the first are a random sample."""

_STEP: Final = 1000
_MEASURED: Final = 10  # keys of each kind whose memory is asked for
_NO_PREFIX: Final = "(no prefix)"


@dataclass
class _Keys:
    """Those of one kind: how many there are, as far as the sample tells, and some of them."""

    number: float = 0
    some: list[bytes] = field(default_factory=list)
    bytes_each: float | None = None
    kind: str = ""

    def add(self, name: bytes, weight: float) -> None:
        self.number += weight
        if len(self.some) < _MEASURED:
            self.some.append(name)

    @property
    def size(self) -> int | None:
        return None if self.bytes_each is None else round(self.bytes_each * self.number)


async def read(manager: "RedisConnectionManager") -> StoreStatistics:
    async with connected(manager) as (client, allowance):
        reading = _Reading(manager, client, allowance)
        nodes: list[Any] = list(client.get_primaries()) if manager.is_cluster else [None]
        info = [await reading.ask("INFO", node=node) or {} for node in nodes]
        for node in nodes:
            await reading.sample(node, SCANNED_KEYS // len(nodes))
        await reading.measure()
    names = sorted(reading.rows.keys() | reading.entries.keys())
    shown = names[:MOST_COLLECTIONS]
    return StoreStatistics(
        manager.name,
        manager.connection_type,
        size_bytes=_sum(info, "used_memory"),
        collections=tuple(reading.collection(name) for name in shown),
        details={
            "keys": reading.total,
            "scanned_keys": reading.scanned,
            "max_memory_bytes": _sum(info, "maxmemory"),
            "max_memory_policy": next(
                (str(each["maxmemory_policy"]) for each in info if "maxmemory_policy" in each), None
            ),
            "clients": _sum(info, "connected_clients"),
            "evicted_keys": _sum(info, "evicted_keys"),
            "expired_keys": _sum(info, "expired_keys"),
            "hit_ratio": _ratio(_sum(info, "keyspace_hits"), _sum(info, "keyspace_misses")),
        },
        notes=(
            "the size is the memory of the whole server, the sizes of collections are measured on a sample",
            *(() if reading.exact else (f"rows are estimates from {reading.scanned} of {reading.total} keys",)),
            *note_of_left_out(len(shown), len(names)),
            *(f"{command} was refused" for command in sorted(reading.refused)),
        ),
    )


class _Reading:
    def __init__(self, manager: "RedisConnectionManager", client: Any, allowance: Allowance) -> None:
        self._client = client
        self._allowance = allowance
        self._at_once = max(manager.settings.pool.max_size // 2, 1)
        self.rows: defaultdict[str, _Keys] = defaultdict(_Keys)
        self.entries: defaultdict[str, defaultdict[str, _Keys]] = defaultdict(lambda: defaultdict(_Keys))
        self.exact = True
        self.scanned = 0
        self.total = 0
        self.refused: set[str] = set()

    async def ask(self, *command: Any, node: Any = None, **options: Any) -> Any:
        """Its answer; None where the server does not let this user have one."""
        at = {} if node is None else {"target_nodes": node}
        try:
            return await self._client.execute_command(*command, read=True, **at, **options)
        except ResponseError:
            self.refused.add(command[0])
            return None

    async def sample(self, node: Any, most: int) -> None:
        size = await self.ask("DBSIZE", node=node) or 0
        seen: set[bytes] = set()
        cursor: Any = 0
        while len(seen) < most and not self._allowance.is_short:
            # As bytes, since what others keep there may be no text.
            answer = await self.ask("SCAN", cursor, "COUNT", _STEP, node=node, **{NEVER_DECODE: True})
            if answer is None:
                break
            cursor, names = answer
            if isinstance(cursor, Mapping):  # of a cluster, by node
                [cursor] = cursor.values()
            seen.update(names)
            if cursor == 0:
                break
        is_whole = cursor == 0 and "SCAN" not in self.refused
        self.exact &= is_whole
        self.scanned += len(seen)
        self.total += len(seen) if is_whole else max(size, len(seen))
        weight = 1 if is_whole or not seen else max(size / len(seen), 1)
        for name in seen:
            self._add(name, weight)

    def _add(self, name: bytes, weight: float) -> None:
        text = name.decode(errors="replace")
        if not text.startswith("@"):
            prefix, colon, _ = text.partition(":")
            self.rows[_untagged(prefix) if colon else _NO_PREFIX].add(name, weight)
        else:
            prefix, _, entry = text[1:].partition(":")
            index, colon, _ = entry.partition(":")
            if colon:  # without, it is the description of the indexes
                self.entries[_untagged(prefix)][index].add(name, weight)

    async def measure(self) -> None:
        kinds = [*self.rows.values(), *(keys for indexes in self.entries.values() for keys in indexes.values())]
        for first in range(0, len(kinds), self._at_once):
            if self._allowance.is_short:
                return
            await asyncio.gather(*map(self._measure, kinds[first : first + self._at_once]))

    async def _measure(self, keys: _Keys) -> None:
        keys.kind = str(await self.ask("TYPE", keys.some[0]) or "")
        sizes = [await self.ask("MEMORY USAGE", name) for name in keys.some]
        known = [size for size in sizes if size is not None]  # None of a key that has gone meanwhile
        keys.bytes_each = fmean(known) if known else None

    def collection(self, name: str) -> CollectionStatistics:
        rows = self.rows.get(name, _Keys(bytes_each=0))
        indexes: Mapping[str, _Keys] = self.entries.get(name, {})
        sizes = [keys.size for keys in (rows, *indexes.values())]
        return CollectionStatistics(
            name,
            round(rows.number),
            exact=self.exact,
            size_bytes=None if None in sizes else sum(size or 0 for size in sizes),
            # The entry of a unique index is the id itself, of another the set of all that have the value.
            indexes=tuple(
                IndexStatistics(
                    index, kind=keys.kind, unique={"string": True, "set": False}.get(keys.kind), size_bytes=keys.size
                )
                for index, keys in sorted(indexes.items())
            ),
        )


def _untagged(prefix: str) -> str:
    return prefix[1:-1] if prefix.startswith("{") and prefix.endswith("}") else prefix


def _sum(nodes: Iterable[Mapping[str, Any]], key: str) -> int | None:
    values = [node[key] for node in nodes if key in node]
    return sum(values) if values else None


def _ratio(hits: int | None, misses: int | None) -> float | None:
    return round(hits / (hits + misses), 4) if hits is not None and misses is not None and hits + misses else None
