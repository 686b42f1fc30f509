"""What every test gets: no configuration from outside, and no thread or file left behind."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for the whole run; each test that uses it empties it."""
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(autouse=True)
def _only_own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MANYSTORE_CONFIG", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)


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
