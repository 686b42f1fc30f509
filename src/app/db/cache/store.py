"""Where cached answers are kept. Everything in it may be gone at any moment."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

WRITING: Final = "!"
"""The token of a tag while one of what it stands for is being written."""

Tokens: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer, and the tokens that its tags had before it was loaded. It holds while they have the same."""

    tokens: tuple[str, ...]
    value: Any
    """Made of what `storable` returns."""


class CacheStore(ABC):
    """Entries and tags by key, each for a time. Several loops and threads may use it at once.

    The errors of a store that is away are ours (`AppError`).
    """

    @abstractmethod
    async def get(self, tags: Sequence[str], key: str) -> tuple[Tokens, Entry | None]:
        """The tokens of the tags and the entry, in one step or with the tokens read first."""

    @abstractmethod
    async def put(self, key: str, entry: Entry, seconds: float) -> None: ...

    @abstractmethod
    async def open(self, tags: Sequence[str], writer: str, seconds: float) -> None:
        """Give tags the token `WRITING` for so long, and remember that this writer has them open."""

    @abstractmethod
    async def settle(self, tags: Sequence[str], writer: str, token: str, seconds: float) -> None:
        """Give the tags that no other writer has open a token, and leave the others at `WRITING`."""

    @abstractmethod
    async def claim(self, key: str, token: str, seconds: float) -> bool:
        """Set a tag that has no token; whether it had none. Of several callers one succeeds."""

    @abstractmethod
    async def release(self, key: str) -> None: ...


def copied(value: Any) -> Any:
    """A copy of what an entry has, so that each caller gets documents of its own; scalars are shared."""
    if type(value) is dict:
        return {name: item if type(item) in SHARED else copied(item) for name, item in value.items()}
    if type(value) is list:
        return [item if type(item) in SHARED else copied(item) for item in value]
    return value


SHARED: Final = frozenset({type(None), bool, int, float, str, bytes, datetime, date, timedelta, Decimal, UUID})
"""Types whose values nobody can change."""
