"""Vector stores that are empty, and an empty directory for their migrations."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.db import DataLayer

from ...servers.faults import Process, free_port
from .places import KINDS, Place


@pytest.fixture(scope="session")
def chroma_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("chromadb")
    directory = tmp_path_factory.mktemp("migrated-chroma")
    port = free_port()
    chroma = str(Path(sys.executable).with_name("chroma"))
    arguments = ["--path", str(directory / "data"), "--host", "127.0.0.1", "--port", str(port)]
    yield from _running(Process([chroma, "run", *arguments], port, directory))


@pytest.fixture(scope="session")
def qdrant_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """See `qdrant_server.py`: it is none of Qdrant's."""
    port = free_port()
    server = Path(__file__).with_name("qdrant_server.py")
    directory = tmp_path_factory.mktemp("migrated-qdrant")
    yield from _running(Process([sys.executable, str(server), str(port)], port, directory))


def _running(process: Process) -> Iterator[int]:
    process.start()
    yield process.port
    process.kill()


SERVERS = [kind for kind in KINDS if kind.endswith("server")]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    store, _, kind = str(request.param).partition(" ")
    if kind != "server":
        return Place(request.param, {"url": "embedded"}, tmp_path)
    port = request.getfixturevalue(f"{store}_port")
    return Place(request.param, {"url": f"http://127.0.0.1:{port}", "timeout": 30}, tmp_path)


@pytest.fixture
async def data(place: Place) -> AsyncIterator[DataLayer]:
    async with place.layer() as layer:
        await place.drop_everything(layer)  # a server has what a test without this fixture left
        yield layer
        await place.drop_everything(layer)
