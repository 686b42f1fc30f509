"""What every test gets: no configuration from outside, and no thread or file left behind."""

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from app.config.settings import MongoDBSettings
from app.connections.mongodb import MongoDBConnectionManager
from app.core import current

from .connections.embedded.engines import make_engine
from .records.mongodb_wire import Wire, listening
from .redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for the whole run; each test that uses it empties it."""
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The url of one server for the whole run; each test that uses it has schemas of its own there."""
    engine = make_engine("postgres")
    with asyncio.Runner() as runner:
        lease = runner.run(engine.acquire(tmp_path_factory.mktemp("postgres")))
        yield lease.url
        runner.run(lease.release())


@pytest.fixture
def postgres_schemas(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Makes an empty schema at each call, and gives the url of a database that begins with it."""
    # A lock that a test has left open is an error and no end of waiting.
    with psycopg.connect(postgres_server, autocommit=True, options="-c lock_timeout=10s") as connection:
        made: list[str] = []

        def make() -> str:
            made.append(f"test_{uuid4().hex}")
            connection.execute(f"CREATE SCHEMA {made[-1]}".encode())
            options = quote(f"-c search_path={made[-1]} -c synchronous_commit=off", safe="")
            return f"{postgres_server}&options={options}"

        yield make
        for schema in made:
            connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """A listener that keeps the commands which `mongodb` sends."""
    async with listening() as wire:
        yield wire


@pytest.fixture
async def mongodb(wire: Wire) -> AsyncIterator[MongoDBConnectionManager]:
    manager = MongoDBConnectionManager(MongoDBSettings(url=SecretStr(f"mongodb://127.0.0.1:{wire.port}/")))
    yield manager
    await manager.close()


@pytest.fixture(autouse=True, scope="module")
def _garbage_of_other_files() -> None:
    """What the tests of another file left open goes here, and not amid a test of this one, whose error it would be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def _own_garbage(request: pytest.FixtureRequest) -> Iterator[None]:
    """What pymongo leaves open, such as the socket of a refused connection, is let go of where it was made.

    Amid another test it would be that one's error.
    """
    yield
    if "mongo" in request.node.nodeid.lower():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            # What a failing test holds is older by then.
            gc.collect(2 if request.node.get_closest_marker("xfail") else 1)


@pytest.fixture(autouse=True)
def _only_own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MANYSTORE_CONFIG", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(current, "_default", None)  # the layer of another test is in another directory
    monkeypatch.setattr(current, "_had_own", False)


@pytest.fixture
def leaves_nothing(tmp_path: Path) -> Iterator[None]:
    """Fail when the test leaves a thread, or an open file below its directory."""
    before = set(threading.enumerate())
    yield
    threads = [thread for thread in threading.enumerate() if thread not in before]
    for thread in threads:
        thread.join(2)  # one that was let go ends on its own
    assert [thread.name for thread in threads if thread.is_alive()] == []
    assert open_files(tmp_path) == []


def open_files(below: Path) -> list[str]:
    """The open files of this process below a directory; empty where the system does not tell."""
    found = []
    for descriptor in Path("/proc/self/fd").glob("*"):
        try:
            target = str(descriptor.readlink())
        except OSError:  # the descriptor that lists the directory
            continue
        if Path(target).is_relative_to(below):
            found.append(target)
    return found
