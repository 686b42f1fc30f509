"""A Qdrant server, one process that uses it, and another."""

from collections.abc import AsyncIterator

import pytest

from app.db.vector.qdrant import QdrantVectorStore

from ..planned import Planned, store_on
from ..qdrant_local import LocalManager, LocalServer


@pytest.fixture
def server() -> LocalServer:
    return LocalServer()


@pytest.fixture
async def manager(server: LocalServer) -> AsyncIterator[LocalManager]:
    async with LocalManager(server) as manager:
        yield manager


@pytest.fixture
def store(manager: LocalManager) -> QdrantVectorStore:
    return store_on(manager, Planned())


@pytest.fixture
async def other(server: LocalServer) -> AsyncIterator[QdrantVectorStore]:
    """The same collection in another process."""
    async with LocalManager(server) as manager:
        yield store_on(manager, Planned())
