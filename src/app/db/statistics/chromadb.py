"""Chroma: how many embeddings each collection has. It tells of no indexes."""

import asyncio
from collections.abc import Awaitable, Callable
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from chromadb.errors import NotFoundError

from .base import MOST_COLLECTIONS, CollectionStatistics, StoreStatistics, connected, left_out, used_space

if TYPE_CHECKING:
    from ...connections.chromadb import ChromaDBConnectionManager

Ask: TypeAlias = Callable[[Callable[[Any], Any]], Awaitable[Any]]

_PAGE: Final = 100


async def read(manager: "ChromaDBConnectionManager") -> StoreStatistics:
    is_directory = manager.address is None
    async with connected(manager) as (client, allowance):
        # The engine's calls return, the server's are awaited; both do what they are given.
        ask = cast("Ask", client.read if is_directory else manager.read)
        total: int = await ask(methodcaller("count_collections"))
        found: list[CollectionStatistics] = []
        looked_at = 0
        while looked_at < min(total, MOST_COLLECTIONS) and not allowance.is_short:
            page = await ask(methodcaller("list_collections", limit=_PAGE, offset=looked_at))
            if not page:
                break
            for collection in page:
                found += await _collection(ask, collection)
            looked_at += len(page)
        size = await asyncio.to_thread(used_space, manager.path) if is_directory else None
    return StoreStatistics(
        manager.name,
        manager.connection_type,
        size_bytes=size,
        collections=tuple(sorted(found, key=lambda each: each.name)),
        notes=(
            *left_out(looked_at, total),
            *(() if is_directory else ("a Chroma server does not tell its size on disk",)),
        ),
    )


async def _collection(ask: Ask, collection: Any) -> list[CollectionStatistics]:
    """Nothing where it was dropped meanwhile."""
    try:
        rows: int = await ask(lambda _: collection.count())
    except NotFoundError:
        return []
    details = {"dimension": collection.get_model().dimension}
    return [CollectionStatistics(collection.name, rows, exact=True, details=details)]
