"""Stores on every engine, each in a place of its own."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from app.connections.qdrant import QdrantConnectionManager
from app.db.vector.store import CollectionVectorStore

from ..servers.faults import Process, free_port
from .places import PLACES, Place
from .planned import Planned
from .stepped import Stepped


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of one server for the whole run; each place has a database of its own there."""
    directory = tmp_path_factory.mktemp("chroma-server")
    port = free_port()
    chroma = str(Path(sys.executable).with_name("chroma"))
    arguments = ["--path", str(directory / "data"), "--host", "127.0.0.1", "--port", str(port)]
    process = Process([chroma, "run", *arguments], port, directory)
    process.start()
    yield port
    process.kill()


@pytest.fixture(params=PLACES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Made outside of the test's loop, since some servers are started on one of their own."""
    return PLACES[request.param](request, tmp_path)


@pytest.fixture
async def place(made: Place) -> AsyncIterator[Place]:
    yield made
    await made.manager.close()


@pytest.fixture
def planned() -> Planned:
    return Planned()


@pytest.fixture
def store(place: Place, planned: Planned) -> CollectionVectorStore:
    return place.store(planned)


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[QdrantConnectionManager]:
    """Of embedded Qdrant, for what only it does."""
    manager = QdrantConnectionManager(data_dir=tmp_path)
    yield manager
    await manager.close()


@pytest.fixture(scope="session")
def stepped() -> Iterator[Stepped]:
    """One for the whole run: it loads what all of its processes need."""
    program = Stepped()
    yield program
    program.end()


@pytest.fixture(params=["chroma-directory", "pgvector", "qdrant-embedded"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], str]:
    """An empty place for each number, as `stepped.opened` takes it."""
    if request.param == "pgvector":
        schemas: Callable[[], str] = request.getfixturevalue("postgres_schemas")
        return lambda _: schemas()
    prefix = "chroma:" if request.param == "chroma-directory" else ""
    return lambda number: f"{prefix}{tmp_path / str(number)}"
