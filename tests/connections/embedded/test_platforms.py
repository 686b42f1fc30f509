"""Who runs the server, and where none can run."""

import asyncio
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import load
from app.connections.embedded import server as shared
from app.core.errors import ConfigurationError, MissingDependencyError, StoreUnavailableError, UnsupportedOperationError

from .engines import Engine, gone, make_engine, processes, server_of, sockets_of

NOBODY = 65534

AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from app.connections.embedded import {name} as module

async def main():
    lease = await module.acquire(Path(sys.argv[1]))
    print(os.geteuid(), lease.url, flush=True)
    sys.stdin.readline()
    await lease.release()

asyncio.run(main())
"""

only_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become others")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory below no private one, as `tmp_path` is."""
    path = Path(tempfile.mkdtemp(prefix="manystore-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def uid_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def start_as_nobody(code: str, path: Path) -> "subprocess.Popen[str]":
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("there is no setpriv")
    command = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
    probe = "import subprocess, sys, app.core; subprocess.run([sys.executable, '-c', ''], check=True)"
    if subprocess.run([*command, sys.executable, "-c", probe], check=False, capture_output=True).returncode:
        # The interpreter itself is in a private directory. The user may read everything, and write what is its own.
        command[-1] = "--inh-caps=-all,+dac_read_search"
        command.append("--ambient-caps=+dac_read_search")
    command += [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@only_root
async def test_an_ordinary_user_and_root_each_with_a_server(engine: Engine, open_directory: Path) -> None:
    for name in ("nobody", "root"):
        (open_directory / name).mkdir()
    os.chown(open_directory / "nobody", NOBODY, NOBODY)
    user = start_as_nobody(AS_NOBODY.format(name=engine.name), open_directory / "nobody")
    assert user.stdout is not None
    said = (await asyncio.to_thread(user.stdout.readline)).split()
    own = await engine.acquire(open_directory / "root")
    assert said[0] == str(NOBODY)
    assert sockets_of(said[1]) != sockets_of(own.url)
    assert sockets_of(said[1]).stat().st_uid == NOBODY
    assert uid_of(server_of(open_directory / "nobody")) == NOBODY
    assert uid_of(server_of(open_directory / "root")) == 0
    with pytest.raises(StoreUnavailableError, match="belongs to another user"):
        await engine.acquire(open_directory / "nobody")
    user.communicate("end\n")
    assert user.returncode == 0
    await own.release()
    assert gone(open_directory / "nobody")


def modes(path: Path) -> dict[str, int]:
    return {str(each): each.stat().st_mode for each in (path, *path.parents)}


@only_root
async def test_root_opens_no_directory_to_others(tmp_path: Path) -> None:
    """In a namespace of its own the server is root's, and the private directories above it stay private."""
    engine = make_engine("postgres")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    before = modes(private)
    lease = await engine.acquire(private / "home")
    assert engine.answers(lease.url)
    assert modes(private) == before
    assert (private / "home" / "data").stat().st_uid == 0
    await lease.release()


@only_root
async def test_root_without_a_namespace(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in most containers: the server is another user's, where that user can come, and nowhere else."""
    engine = make_engine("postgres")
    home = open_directory / "home"
    first = await engine.acquire(home)  # made in a namespace: the owner changes
    await first.release()
    monkeypatch.setattr(shared, "NAMESPACE", False)
    before = modes(open_directory)
    try:
        lease = await engine.acquire(home)
    except StoreUnavailableError as error:
        if "is closed to the user" in str(error):
            pytest.skip(str(error))
        raise
    assert engine.answers(lease.url)
    assert modes(open_directory) == before
    [owner] = {uid_of(pid) for pid in processes(home) if pid not in processes(home, "supervisor.lock")}
    assert owner != 0
    assert sockets_of(lease.url).stat().st_uid == owner
    await lease.release()
    assert gone(home)
    private = open_directory / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(StoreUnavailableError, match=rf"{private} is closed to the user '\w+'"):
        await engine.acquire(private / "home")
    assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["redis", "postgres"])
async def test_without_the_wheel(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    module = importlib.import_module(f"app.connections.embedded.{name}")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(MissingDependencyError, match=r"manystore\[embedded\].* set the url of the connection"):
        await module.acquire(tmp_path / "home")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnsupportedOperationError, match=r"Linux only; on darwin set the url of the connection"):
        await module.acquire(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


def test_mongodb_has_no_embedded_engine() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be embedded.*mongodb://.*sqlite"):
        load({"connections": {"mongodb": {"url": "embedded"}}})
