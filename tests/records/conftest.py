"""The stores that the contract runs on, each with a place of its own; a new store joins by its section here."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from app.connections.base import ConnectionManager
from app.db import DataLayer
from app.db.backends import BackendRegistry

from ..redis_server import RedisServer
from ..servers.conftest import mongodb_on
from . import stand_in


def _sqlite(request: pytest.FixtureRequest, place: str) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    return {"path": f"{place}.db", "synchronous": "normal"}


def _redis(request: pytest.FixtureRequest, place: str) -> dict[str, Any]:
    server = request.getfixturevalue("redis_server")
    server.command("FLUSHALL")
    return {"url": f"{server.url}?db={int(place != 'records')}"}


def _mongodb(request: pytest.FixtureRequest, place: str) -> dict[str, Any]:
    url = request.getfixturevalue("mongodb_records_url")
    name = f"manystore_test_{place}_{os.getpid()}"
    with MongoClient[dict[str, Any]](url) as client:
        client.drop_database(name)
        for each in client[name].list_collection_names():  # the stand-in drops none with their database
            client[name].drop_collection(each)
    return {"url": url, "database": name}


def _postgres(request: pytest.FixtureRequest, place: str) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    return {"url": request.getfixturevalue("postgres_schemas")(), "pool": {"max_size": 5}}


SECTIONS: dict[str, Callable[[pytest.FixtureRequest, str], dict[str, Any]]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "postgres": _postgres,
    "mongodb": _mongodb,
}


@pytest.fixture(scope="session")
def mongodb_records_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server where the environment names one, else the stand-in, whose gaps are in `stand_in.py`."""
    url = os.environ.get("MANYSTORE_TEST_MONGODB_URI")
    if url:
        yield url
        return
    process = mongodb_on(tmp_path_factory.mktemp("mongodb-records"))
    process.start()
    yield f"mongodb://127.0.0.1:{process.port}/"
    process.kill()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the stand-in cannot do is expected to fail on it, and on it alone."""
    if not os.environ.get("MANYSTORE_TEST_MONGODB_URI"):
        stand_in.expect_gaps(items)


@pytest.fixture(params=BackendRegistry.names())
def store(request: pytest.FixtureRequest) -> str:
    """A store of the library, by its connection type."""
    return str(request.param)


@pytest.fixture
def config(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    return _config(store, tmp_path, SECTIONS[store](request, "records"))


@pytest.fixture
def elsewhere(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """As `config`, in another place of the same store."""
    return _config(store, tmp_path, SECTIONS[store](request, "elsewhere"))


def _config(store: str, directory: Path, section: dict[str, Any]) -> dict[str, Any]:
    return {
        "data_dir": str(directory),
        "connections": {store: section},
        "repositories": {"user": {"connection": store}, "signup_session": {"connection": store}},
    }


@pytest.fixture
async def data(config: dict[str, Any]) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config(config) as layer:
        yield layer


@pytest.fixture
def manager(data: DataLayer, store: str) -> ConnectionManager[Any]:
    return data.connections.get_connection_manager(store)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of the test's own, to be taken down."""
    server = RedisServer().start()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def streamed(store: str) -> int:
    """How many records are enough to see whether a stream holds them; a stand-in's own speed sets another limit."""
    return 200_000 if store != "mongodb" or os.environ.get("MANYSTORE_TEST_MONGODB_URI") else 20_000
