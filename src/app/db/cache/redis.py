"""Cached answers in Redis, for all processes that use it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...connections.base import ConnectionManager
from ..backends._json import decode_json, encode_json
from .store import CacheStore, Entry, Tokens


class RedisStore(CacheStore):
    """One command for each question. `prefix` keeps it apart from what else is in that database."""

    def __init__(self, manager: ConnectionManager[Any], prefix: str = "cache:") -> None:
        self._manager = manager
        self._tags = f"{prefix}tag:"
        self._answers = f"{prefix}answer:"

    async def get(self, tags: Sequence[str], key: str) -> tuple[Tokens, Entry | None]:
        client = self._manager.live or await self._manager.connect()
        *tokens, text = await client.mget([*[f"{self._tags}{tag}" for tag in tags], f"{self._answers}{key}"])
        return tuple(tokens), None if text is None else _read(text)

    async def put(self, key: str, entry: Entry, seconds: float) -> None:
        client = self._manager.live or await self._manager.connect()
        text = f"{' '.join(entry.tokens)}\n{encode_json(entry.value)}"
        await client.set(f"{self._answers}{key}", text, px=_milliseconds(seconds))

    async def mark(self, tokens: Mapping[str, str], seconds: float) -> None:
        client = self._manager.live or await self._manager.connect()
        milliseconds = _milliseconds(seconds)
        if len(tokens) == 1:
            [(tag, token)] = tokens.items()
            await client.set(f"{self._tags}{tag}", token, px=milliseconds)
            return
        arguments = [milliseconds, *tokens.values()]
        await client.eval(_MARK, len(tokens), *[f"{self._tags}{tag}" for tag in tokens], *arguments)

    async def claim(self, key: str, token: str, seconds: float) -> bool:
        client = self._manager.live or await self._manager.connect()
        return bool(await client.set(f"{self._tags}{key}", token, px=_milliseconds(seconds), nx=True))

    async def release(self, key: str) -> None:
        client = self._manager.live or await self._manager.connect()
        await client.delete(f"{self._tags}{key}")


_MARK = """
for i, tag in ipairs(KEYS) do
    redis.call('SET', tag, ARGV[i + 1], 'PX', ARGV[1])
end
"""


def _read(text: str) -> Entry | None:
    tokens, separator, value = text.partition("\n")
    if not separator:
        return None
    try:
        return Entry(tuple(tokens.split(" ")), decode_json(value))
    except (ValueError, TypeError):  # of another version of the library
        return None


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
