"""Cached answers in Redis, for all processes that use it."""

import time
from collections.abc import Sequence
from typing import Any

from ...connections.base import ConnectionManager
from ..backends._json import decode_json, encode_json
from .store import CacheStore, Entry, Tokens


class RedisStore(CacheStore):
    """One command for each question. `prefix` keeps it apart from what else is in that database."""

    def __init__(self, manager: ConnectionManager[Any], prefix: str = "cache:") -> None:
        self._manager = manager
        self._tags = f"{prefix}tag:"
        self._open = f"{prefix}open:"
        self._answers = f"{prefix}answer:"

    async def get(self, tags: Sequence[str], key: str) -> tuple[Tokens, Entry | None]:
        client = self._manager.live or await self._manager.connect()
        try:
            *tokens, text = await client.mget([*[f"{self._tags}{tag}" for tag in tags], f"{self._answers}{key}"])
        except UnicodeDecodeError:  # not ours
            return (None,) * len(tags), None
        return tuple(tokens), None if text is None else _read(text)

    async def put(self, key: str, entry: Entry, seconds: float) -> None:
        client = self._manager.live or await self._manager.connect()
        text = f"{' '.join(entry.tokens)}\n{encode_json(entry.value)}"
        await client.set(f"{self._answers}{key}", text, px=_milliseconds(seconds))

    async def open(self, tags: Sequence[str], writer: str, seconds: float) -> None:
        await self._run(_OPEN, tags, writer, time.time(), _milliseconds(seconds))

    async def settle(self, tags: Sequence[str], writer: str, token: str, seconds: float) -> None:
        await self._run(_SETTLE, tags, writer, time.time(), _milliseconds(seconds), token)

    async def _run(self, script: str, tags: Sequence[str], *arguments: Any) -> None:
        client = self._manager.live or await self._manager.connect()
        names = [*[f"{self._tags}{tag}" for tag in tags], *[f"{self._open}{tag}" for tag in tags]]
        await client.eval(script, len(names), *names, *arguments)

    async def claim(self, key: str, token: str, seconds: float) -> bool:
        client = self._manager.live or await self._manager.connect()
        return bool(await client.set(f"{self._tags}{key}", token, px=_milliseconds(seconds), nx=True))

    async def release(self, key: str) -> None:
        client = self._manager.live or await self._manager.connect()
        await client.delete(f"{self._tags}{key}")


# The keys are the tags and, in the same order, who has them open: a sorted set of writers by the end of their time.
_OPEN = """
local half = #KEYS / 2
for i = 1, half do
    redis.call('SET', KEYS[i], '!', 'PX', ARGV[3])
    redis.call('ZADD', KEYS[half + i], ARGV[2] + ARGV[3] / 1000, ARGV[1])
    redis.call('PEXPIRE', KEYS[half + i], ARGV[3])
end
"""
_SETTLE = """
local half = #KEYS / 2
for i = 1, half do
    redis.call('ZREM', KEYS[half + i], ARGV[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[half + i], '-inf', ARGV[2])
    if redis.call('ZCARD', KEYS[half + i]) == 0 then
        redis.call('SET', KEYS[i], ARGV[4], 'PX', ARGV[3])
    end
end
"""


def _read(text: str) -> Entry | None:
    tokens, separator, value = text.partition("\n")
    if not separator:
        return None
    try:
        return Entry(tuple(tokens.split(" ")), decode_json(value))
    except (ValueError, TypeError, RecursionError):  # not of this version of the library
        return None


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
