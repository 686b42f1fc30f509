"""The servers of a test session, each started once when the first test asks for it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .faults import Process, free_port


@pytest.fixture(scope="session")
def mongodb_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The stand-in from a wheel. It speaks the protocol; what it answers is not always what MongoDB would."""
    pytest.importorskip("nx_27017")
    process = mongodb_on(tmp_path_factory.mktemp("mongodb"))
    process.start()
    yield process
    process.kill()


def mongodb_on(directory: Path) -> Process:
    port = free_port()
    files = ("--pid-file", str(directory / "pid"), "--log-file", str(directory / "log"))
    command = [sys.executable, "-m", "nx_27017.nx_27017", "--port", str(port), "--data-dir", "memory", *files]
    return Process(command, port, directory)


@pytest.fixture(scope="session")
def chroma_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The server that comes with the package."""
    pytest.importorskip("chromadb")
    directory = tmp_path_factory.mktemp("chroma-server")
    port = free_port()
    chroma = Path(sys.executable).with_name("chroma")
    command = [str(chroma), "run", "--path", str(directory / "data"), "--host", "127.0.0.1", "--port", str(port)]
    process = Process(command, port, directory)
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="session", params=["stand-in", "server"])
def mongodb_url(request: pytest.FixtureRequest) -> str:
    if request.param == "server":
        url = os.environ.get("MANYSTORE_TEST_MONGODB_URI")
        if not url:
            pytest.skip("MANYSTORE_TEST_MONGODB_URI names no MongoDB server")
        return url
    process: Process = request.getfixturevalue("mongodb_process")
    return f"mongodb://127.0.0.1:{process.port}/"
