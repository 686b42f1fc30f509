"""A password in a URL is in no error, traceback, representation, log or output, however the URL is broken."""

import asyncio
import logging
import random
import socket
import string
import traceback
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.commands import app
from app.config import load
from app.connections import ConnectionFactory
from app.core.errors import AppError, ConfigurationError

from .faults import SECRET, free_port

# As in test_mongodb.py.
pytestmark = pytest.mark.filterwarnings(r"ignore:[\s\S]*<socket\.socket:pytest.PytestUnraisableExceptionWarning")

WHOLE = {
    "mongodb": "mongodb://user:{0}@127.0.0.1:{1}/db?authSource=admin&tls=false&appName=mine",
    "qdrant": "http://user:{0}@127.0.0.1:{1}/below",
    "chromadb": "https://user:{0}@127.0.0.1:{1}/below",
    "redis": "redis://user:{0}@127.0.0.1:{1}/0?db=2",
    "postgres": "postgresql://user:{0}@127.0.0.1:{1}/db?sslmode=disable&connect_timeout=3",
}
# Some set a level of their own when they are imported.
DRIVERS = ("pymongo", "httpx", "httpcore", "qdrant_client", "chromadb", "redis", "psycopg", "psycopg.pool", "asyncio")
BY_HAND = {
    "mongodb": [
        "mongodb:{0}@127.0.0.1",
        "mongodb://user:{0}/x@127.0.0.1:{1}",
        "mongodb://user:1{0}?@127.0.0.1:{1}",
        "mongodb://user:12/{0}@127.0.0.1:{1}",
        "mongodb://user:p@{0}@127.0.0.1:{1}",
        "mongodb://user:%zz{0}@127.0.0.1:{1}",
        "mongodb://127.0.0.1:{1}/?password={0}",
        "mongodb://127.0.0.1:{1}/?maxPoolSize={0}",
        "mongodb://127.0.0.1:{1}/?readPreference={0}",
        "mongodb://127.0.0.1:{1}/?authMechanism={0}",
        "mongodb://127.0.0.1:{1}/?{0}",
        "mongodb://127.0.0.1:{1}/?tlsCAFile=/{0}",
        "mongodb://user:{0}@127.0.0.1:{1}/?authMechanism=MONGODB-X509",
        "mongodb://user:{0}@127.0.0.1:99999",
        "mongodb://user:{0}@",
        "mongodb+srv://user:{0}@127.0.0.1",
        "mongodb+srv://user:{0}@host.invalid/?x=y",
    ],
    "qdrant": ["http://user:{0}@", "http:user:{0}@127.0.0.1:{1}", "http://user:{0}/x@127.0.0.1", "{0}"],
    "redis": ["redis://:{0}@", "redis://user:{0}/x@127.0.0.1:{1}", "redis:{0}@127.0.0.1:{1}", "unix://{0}", "{0}"],
    "postgres": [
        "postgresql://user:{0}",
        "postgresql://user{0}@127.0.0.1:{1}/db",
        "postgresql://user:x@127.0.0.1:{1}/{0}",
        "host=127.0.0.1 password={0}",
        "{0}",
    ],
    "chromadb": ["http://127.0.0.1:{0}", "http://127.0.0.1:{1}?key={0}", "//user:{0}@127.0.0.1:{1}", "{0}"],
}


def corpus(kind: str, count: int, port: int) -> list[str]:
    """The whole URL with a character lost, doubled or replaced, each time elsewhere; never in the secret or the host.

    Those by hand come first. What turns the password into a host is left out, since nobody could tell.
    """
    draw = random.Random(f"20261120 {kind}")
    whole = WHOLE[kind].format(SECRET, port)
    inside = range(whole.index(SECRET), whole.index(SECRET) + len(SECRET))
    host = range(whole.index("127."), whole.index("127.") + len("127.0.0.1"))
    free = [position for position in range(len(whole)) if position not in inside and position not in host]
    urls = {whole: None, **{each.format(SECRET, port): None for each in BY_HAND[kind]}}
    while len(urls) < count:
        text = list(whole)
        for position in draw.sample(free, draw.randint(1, 2)):
            text[position] = draw.choice(["", text[position] * 2, *draw.sample(string.punctuation + " \n\t0aé", 3)])
        changed = "".join(text)
        if "@" in changed:
            urls[changed] = None
    return list(urls)


def shown(error: BaseException) -> str:
    """All that a log, a debugger or a console shows of an error and of what it carries along."""
    parts = ["".join(traceback.format_exception(error))]
    link: BaseException | None = error
    while link is not None:
        parts += [str(link), repr(link), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "".join(parts)


@pytest.fixture(autouse=True)
def _no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is looked up outside, whatever a broken URL calls its host."""
    look_up = socket.getaddrinfo

    def only_here(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", only_here)


async def everything_said(kind: str, url: str, data_dir: Path) -> tuple[str, bool]:
    """All that an application gets to see of a connection with this URL, and whether the URL was refused."""
    said = []
    refused = False
    factory = ConnectionFactory(
        load({"data_dir": str(data_dir), "connections": {kind: {"url": url, "timeout": 0.05, "type": kind}}})
    )
    said += [repr(factory._settings), str(factory.get_connection_status()), str(factory.is_connection_available(kind))]
    try:
        manager = factory.get_connection_manager(kind)
        said += [repr(manager), str(manager.get_connection_info())]
        await manager.connect()
    except AppError as error:
        said.append(shown(error))
        refused = isinstance(error, ConfigurationError)
    if not refused:
        said.append(repr(await manager.health()))
    await factory.close_all()
    return "".join(said), refused


@pytest.mark.parametrize("kind", WHOLE)
async def test_no_broken_url_shows_its_password(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (None, *DRIVERS):
        caplog.set_level(logging.DEBUG, name)
    urls = corpus(kind, 300, free_port())
    refused = 0
    for url in urls:
        async with asyncio.timeout(10):
            said, was_refused = await everything_said(kind, url, tmp_path)
        refused += was_refused
        hidden = SECRET not in said and SECRET not in caplog.text
        assert hidden, url
        if url != urls[-1]:
            caplog.clear()
    assert refused >= 20


@pytest.mark.parametrize("kind", WHOLE)
def test_no_output_of_the_command_shows_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    for number, url in enumerate(corpus(kind, 300, free_port())):
        if '"' in url or "\\" in url or "\n" in url:
            continue
        path.write_text(f'connections:\n  {kind}:\n    timeout: 0.05\n    url: "{url}"\n', encoding="utf-8")
        for command in (["config", "check"], *([["health"], ["health", "--json"]] if number < 5 else [])):
            done = CliRunner().invoke(app, [*command, "--config", str(path)])
            hidden = SECRET not in done.output
            assert hidden, url
            assert isinstance(done.exception, SystemExit | None), done.exc_info
