"""What an address may look like, and that no part of a password shows, however the address is broken."""

import asyncio
import logging
import random
import string
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.config.settings import PostgresSettings
from app.connections.postgres import PostgresConnectionManager
from app.core.errors import AppError, ConfigurationError

pytest.importorskip("psycopg")

from app.connections._postgres_url import parse

SECRET = "hunter2swordfish"
WHOLE = f"postgresql://user:{SECRET}@127.0.0.1:1/db?sslmode=disable&connect_timeout=3"


def parsed(url: str) -> dict[str, str]:
    return dict(parse("postgres", url).libpq)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"])
def test_the_forms_of_an_address(scheme: str) -> None:
    found = parsed(f"{scheme}://ada:p%40ss%2F@localhost:5433/app?sslmode=require&channel_binding=require")
    assert found == {
        "user": "ada",
        "password": "p@ss/",
        "host": "localhost",
        "port": "5433",
        "dbname": "app",
        "sslmode": "require",
        "channel_binding": "require",
        "fallback_application_name": "manystore",
    }


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u:p@db.example.com/app", "verify-full"),
        ("postgresql://u:p@10.0.0.7/app", "verify-full"),
        ("postgresql://u:p@db.example.com,localhost/app", "verify-full"),
        ("postgresql://u:p@localhost/app?sslmode=verify-full", "verify-full"),
        ("postgresql+asyncpg://u:p@db.example.com/app?ssl=require", "require"),
        ("postgresql://u:p@db.example.com/app?sslmode=prefer", "prefer"),
        ("postgresql://u:p@localhost/app", None),
        ("postgresql://u:p@127.0.0.1/app", None),
        ("postgresql://u:p@[::1]:5432/app", None),
        ("postgresql:///app?host=/run/postgresql", None),
        ("postgresql:///app", None),
    ],
)
def test_a_host_elsewhere_has_to_prove_who_it_is(
    url: str, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = parsed(url)
    assert found.get("sslmode") == mode
    assert found.get("sslrootcert") == ("system" if mode == "verify-full" else None)
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert "sslrootcert" not in parsed(url), "libpq finds its own"


def test_the_environment_and_the_address_may_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed("postgresql://u@h.example/d?sslrootcert=/ca.pem")["sslrootcert"] == "/ca.pem"
    assert "fallback_application_name" in parsed("postgresql://u@h.example/d?application_name=mine")
    monkeypatch.setenv("PGSSLMODE", "prefer")
    assert "sslmode" not in parsed("postgresql://u@h.example/d")


BY_HAND = [
    f"postgresql://user:{SECRET}",
    f"postgresql://user:{SECRET}/db",
    f"postgresql://user:a@{SECRET}@127.0.0.1/db",
    f"postgresql://user:{SECRET}@127.0.0.1:x/db",
    f"postgresql://user:{SECRET}@[::1/db",
    f"postgresql://user:{SECRET}@127.0.0.1:1/db?{SECRET}",
    f"postgresql://user:{SECRET}@127.0.0.1:1/db?password={SECRET}&x=1",
    f"postgresql://user:%zz{SECRET}@127.0.0.1/db",
    f"postgresql:///user:{SECRET}@127.0.0.1/db",
    f"postgresql//user:{SECRET}@127.0.0.1/db",
    f"host=127.0.0.1 password={SECRET}",
    f"mysql://user:{SECRET}@127.0.0.1/db",
    f"postgresql://user:{SECRET}@127.0.0.1:1/db?sslmode={SECRET}",
    f"postgresql://user:{SECRET}@127.0.0.1:1/db?connect_timeout={SECRET}",
    f"postgresql://user:{SECRET}@127.0.0.1:1/db?sslmode=require&channel_binding={SECRET}",
    f"postgresql://user:{SECRET}@127.0.0.1:99999/db",
    f"postgresql://user:{SECRET}\0@127.0.0.1/db",
    f"postgresql://{SECRET}",
    SECRET,
]


def broken(count: int) -> list[str]:
    """The address with a few characters lost, doubled or replaced, each time elsewhere; never in the secret."""
    draw = random.Random(20261120)
    start = WHOLE.index(SECRET)
    # Not in the host, which a name server would be asked for; what is odd about a host is in the list above.
    kept = {*range(start, start + len(SECRET)), *range(WHOLE.index("127"), WHOLE.index(":1/"))}
    free = [i for i in range(len(WHOLE)) if i not in kept]
    urls = []
    for _ in range(count):
        text = list(WHOLE)
        for position in draw.sample(free, draw.randint(1, 3)):
            text[position] = draw.choice(["", "", text[position] * 2, *draw.sample(string.punctuation + " \n\t", 3)])
        urls.append("".join(text))
    return urls


async def outcome(url: str) -> str:
    """Everything that shows when an address is used."""
    manager = PostgresConnectionManager(PostgresSettings(url=SecretStr(url), timeout=0.2))
    shown = [repr(manager), repr(manager.settings), str(manager.settings)]
    for work in (manager.connect(), manager.health(), manager.execute_query("SELECT 1")):
        try:
            shown.append(repr(await work))
        except AppError as error:
            shown += [repr(error), *traceback.format_exception(error)]
    try:
        shown.append(repr(manager.get_connection_info()))
    except ConfigurationError as error:
        shown += traceback.format_exception(error)
    await manager.close()
    return "\n".join(shown)


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """At DEBUG, the driver included, which sets a level of its own when it is imported."""
    for name in (None, "psycopg", "psycopg.pool"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


async def test_a_password_shows_nowhere(
    everything_logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog = everything_logged
    urls = [WHOLE, *BY_HAND, *broken(300)]
    for start in range(0, len(urls), 160):
        batch = urls[start : start + 160]
        for url, shown in zip(batch, await asyncio.gather(*map(outcome, batch)), strict=True):
            assert SECRET not in shown, url
    assert "connection started" in caplog.text, "the driver was heard"
    assert SECRET not in caplog.text
    assert SECRET not in "".join(capfd.readouterr())


async def test_a_refused_password_shows_nowhere(everything_logged: pytest.LogCaptureFixture) -> None:
    """A server that repeats what it was sent: the user, the database, and what it likes."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        text = f"SFATAL\0C28P01\0Mpassword authentication failed for user {SECRET}\0\0".encode()
        writer.write(b"E" + (len(text) + 4).to_bytes(4, "big") + text)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    shown = await outcome(f"postgresql://{SECRET}:{SECRET}@127.0.0.1:{port}/db?sslmode=disable")
    assert "it refused the user or the password" in shown
    assert SECRET not in shown
    assert "connection failed" in everything_logged.text, "the driver was heard"
    assert SECRET not in everything_logged.text
    server.close()
