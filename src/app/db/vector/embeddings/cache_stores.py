"""Where several processes keep vectors: in a SQLite file, or in Redis."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from ....connections.base import ConnectionManager
from ....core.errors import StoreUnavailableError
from .cache import VectorCache

TABLE: Final = "manystore_embedding_cache"

_KEYS: Final = 500
"""In one statement: SQLite may have been built to take no more than 999 parameters."""


class SQLiteVectors(VectorCache):
    """One table, of which the rows that were written first go first."""

    def __init__(self, manager: ConnectionManager[Any], max_entries: int) -> None:
        self._manager = manager
        self._most = max_entries

    async def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _KEYS):
            found |= await self._run(_select, keys[start : start + _KEYS])
        return found

    async def put(self, entries: Mapping[str, bytes]) -> None:
        await self._run(_insert, list(entries.items()), self._most, write=True)

    async def _run(self, work: Any, *arguments: Any, write: bool = False) -> Any:
        engine = await self._manager.connect()
        try:
            return await engine.submit(partial(work, *arguments), write=write)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the embedding cache in {self._manager.name!r}: {error}") from error


def _select(keys: Sequence[str], connection: sqlite3.Connection) -> dict[str, bytes]:
    marks = ", ".join("?" * len(keys))
    try:
        rows = connection.execute(f"SELECT key, vector FROM {TABLE} WHERE key IN ({marks})", keys)  # noqa: S608 - ours
        return dict(rows.fetchall())
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return {}
        raise


def _insert(entries: Sequence[tuple[str, bytes]], most: int, connection: sqlite3.Connection) -> None:
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {TABLE} "
        "(number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, vector BLOB NOT NULL)"
    )
    connection.executemany(f"INSERT OR REPLACE INTO {TABLE} (key, vector) VALUES (?, ?)", entries)  # noqa: S608 - ours
    connection.execute(
        f"DELETE FROM {TABLE} WHERE number <= (SELECT max(number) FROM {TABLE}) - ?",  # noqa: S608 - ours
        (most,),
    )


class RedisVectors(VectorCache):
    """One hash of all vectors, and a list of its keys in the order of their writing."""

    def __init__(self, manager: ConnectionManager[Any], max_entries: int, prefix: str) -> None:
        self._manager = manager
        self._most = max_entries
        # Braces: in a cluster the two keys are on one node.
        self._vectors = f"{{{prefix}}}vectors"
        self._order = f"{{{prefix}}}order"

    async def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        # Replies are text in this layer, and these are none.
        values = await self._run("HMGET", self._vectors, *keys, NEVER_DECODE=True)
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def put(self, entries: Mapping[str, bytes]) -> None:
        arguments = [part for entry in entries.items() for part in entry]
        await self._run("EVAL", _PUT, 2, self._vectors, self._order, self._most, *arguments)

    async def _run(self, *command: Any, **options: Any) -> Any:
        from redis.exceptions import RedisError  # noqa: PLC0415 - the manager has loaded it

        client = self._manager.live or await self._manager.connect()
        try:
            return await client.execute_command(*command, **options)
        except RedisError as error:
            raise StoreUnavailableError(f"the embedding cache in {self._manager.name!r}: {error}") from error


# A hash without its list could never shrink, so it goes; a list without its hash is only longer than it needs to be.
_PUT: Final = """
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[1]) end
for i = 2, #ARGV, 2 do
    if redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then redis.call('RPUSH', KEYS[2], ARGV[i]) end
end
local extra = redis.call('LLEN', KEYS[2]) - tonumber(ARGV[1])
for _ = 1, extra do redis.call('HDEL', KEYS[1], redis.call('LPOP', KEYS[2])) end
"""
