"""The stores whose documents are migrated, and files of migrations."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.connections.base import ConnectionManager
from app.db import DataLayer

from ..servers.conftest import mongodb_on
from .place import Place
from .processes import Forks, forks


@pytest.fixture(scope="session")
def migrated_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server where the environment names one, else the stand-in."""
    url = os.environ.get("MANYSTORE_TEST_MONGODB_URI")
    if url:
        yield url
        return
    pytest.importorskip("nx_27017")
    process = mongodb_on(tmp_path_factory.mktemp("migrated-mongodb"))
    process.start()
    yield f"mongodb://127.0.0.1:{process.port}/"
    process.kill()


@pytest.fixture(params=["mongodb", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store, and an empty directory for its migrations."""
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.command("FLUSHALL")
        return Place("redis", {"url": server.url, "timeout": 20}, tmp_path)
    url = request.getfixturevalue("migrated_mongodb")
    return Place("mongodb", {"url": url, "database": f"m{uuid4().hex[:12]}", "timeout": 20}, tmp_path)


@pytest.fixture(scope="session")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(tmp_path_factory.mktemp("forks")) as there:
        yield there


@pytest.fixture
async def data(place: Place) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config(place.config) as layer:
        yield layer


@pytest.fixture
def manager(place: Place, data: DataLayer) -> ConnectionManager[Any]:
    manager: ConnectionManager[Any] = data.connection(place.store)
    return manager


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See `records/stand_in.py`: what pymongo leaves open."""
    unclosed = r"ignore:[\s\S]*(socket\.socket|_SelectorTransport):pytest.PytestUnraisableExceptionWarning"
    for item in items:
        if "[mongodb" in item.name:
            item.add_marker(pytest.mark.filterwarnings(unclosed))
