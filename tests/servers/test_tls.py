"""TLS of every store by URL, with real certificates: one that nobody vouches for, or another host's, is refused."""

import asyncio
import gc
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.config import load
from app.connections import ConnectionFactory, ConnectionManager
from app.core.errors import ConfigurationError, StoreUnavailableError

from ..connections.embedded.engines import make_engine
from ..redis_server import RedisServer
from .faults import Process, Serve, forward, free_port
from .http import FakeQdrant, serving

# As in test_mongodb.py.
pytestmark = pytest.mark.filterwarnings(r"ignore:[\s\S]*<socket\.socket:pytest.PytestUnraisableExceptionWarning")

KINDS = ["qdrant", "chromadb", "redis", "mongodb", "postgres"]
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """pymongo leaves the socket of a failed handshake to the collector, which warns; here, and not in a later test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`here.pem` is this machine's, `elsewhere.pem` another's. Each vouches for itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the program openssl is not there to make certificates")
    directory = tmp_path_factory.mktemp("certificates")
    for name, hosts in (("here", "IP:127.0.0.1,DNS:localhost"), ("elsewhere", "DNS:elsewhere.example")):
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName={hosts}", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            ],
            cwd=directory,
            check=True,
            capture_output=True,
        )
    return directory


@pytest.fixture(scope="module")
def postgres_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    engine = make_engine("postgres")
    with asyncio.Runner() as runner:
        lease = runner.run(engine.acquire(tmp_path_factory.mktemp("postgres")))
        query = parse_qs(urlsplit(lease.url).query)
        yield Path(query["host"][0]) / f".s.PGSQL.{query['port'][0]}"
        runner.run(lease.release())


@pytest.fixture
def redis_port() -> Iterator[int]:
    server = RedisServer(port=free_port())
    try:
        yield server.start().port
    finally:
        server.end()


@pytest.fixture
def served(kind: str, request: pytest.FixtureRequest) -> Serve:
    """A real server without TLS, of Qdrant ours. Ours is what speaks TLS in front of each."""
    if kind == "qdrant":
        return serving(FakeQdrant())
    if kind == "postgres":
        path: Path = request.getfixturevalue("postgres_socket")
        return forward(lambda: asyncio.open_unix_connection(path))
    if kind == "redis":
        return forward(request.getfixturevalue("redis_port"))
    process: Process = request.getfixturevalue("chroma_process" if kind == "chromadb" else "mongodb_process")
    return forward(process.port)


@asynccontextmanager
async def listening(kind: str, serve: Serve, certificate: Path) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    open_now: set[asyncio.StreamWriter] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            if kind == "postgres":  # it asks for TLS first, in the clear
                assert await reader.readexactly(8) == SSL_REQUEST
                writer.write(b"S")
                await writer.start_tls(context)
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            open_now.discard(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", ssl=None if kind == "postgres" else context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in open_now:
            writer.close()


def manager_of(kind: str, port: int, authority: Path | None) -> ConnectionManager[Any]:
    extra: dict[str, Any] = {}
    url = {
        "qdrant": "https://127.0.0.1:{port}",
        "chromadb": "https://127.0.0.1:{port}",
        "redis": "rediss://127.0.0.1:{port}/0",
        "mongodb": "mongodb://127.0.0.1:{port}/?tls=true",
        "postgres": "postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full",
    }[kind].format(port=port)
    if authority is not None and kind == "postgres":
        url += f"&sslrootcert={authority}"
    elif authority is not None and kind == "redis":
        url += f"?ssl_ca_certs={authority}"
    elif authority is not None and kind == "mongodb":
        url += f"&tlsCAFile={authority}"
    elif authority is not None:
        extra["ca_file"] = str(authority)
    settings = load({"connections": {kind: {"url": url, "timeout": 5, **extra}}})
    return ConnectionFactory(settings).get_connection_manager(kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_that_somebody_vouches_for(kind: str, served: Serve, certificates: Path) -> None:
    certificate = certificates / "here.pem"
    async with listening(kind, served, certificate) as port:
        manager = manager_of(kind, port, certificate)
        health = await manager.health()
        assert health.healthy, health.detail
        assert health.server_version
        await manager.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "trusted"), [("here", False), ("elsewhere", True)])
async def test_a_certificate_that_nobody_vouches_for_or_of_another_host(
    kind: str, served: Serve, certificates: Path, name: str, trusted: bool
) -> None:
    certificate = certificates / f"{name}.pem"
    async with listening(kind, served, certificate) as port:
        manager = manager_of(kind, port, certificate if trusted else None)
        with pytest.raises(StoreUnavailableError, match="certificate") as caught:
            await manager.connect()
        assert ("ca_file" in str(caught.value)) == (kind in {"qdrant", "chromadb"} and not trusted)
        assert not (await manager.health()).healthy
        await manager.close()


@pytest.mark.parametrize("kind", ["qdrant", "chromadb"])
@pytest.mark.parametrize(("content", "told"), [(None, "No such file"), ("no certificate", "PEM")])
async def test_a_file_of_authorities_that_is_none(kind: str, tmp_path: Path, content: str | None, told: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    manager = manager_of(kind, 9, path)
    with pytest.raises(ConfigurationError, match=rf"'{kind}': its ca_file .*ca\.pem.*{told}"):
        await manager.connect()
