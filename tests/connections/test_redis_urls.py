"""A planted password shows nowhere, also where the address is malformed, refused or answers nothing."""

import asyncio
import logging
import random
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import RedisSettings
from app.connections.redis import RedisConnectionManager
from app.core.errors import AppError, ConfigurationError, StoreUnavailableError
from app.db import DataLayer

from ..redis_server import RedisServer

PLANTED = "pLaNtEd"
WELL_FORMED = [
    f"redis://:{PLANTED}@127.0.0.1:1/0",
    f"redis://user:{PLANTED}@127.0.0.1:1",
    f"rediss://user:{PLANTED}%2F%23@127.0.0.1:1/0?ssl_cert_reqs=none",
    f"unix://:{PLANTED}@/nowhere/s",
    f"unix://user:{PLANTED}@/nowhere/s?db=2",
    f"redis://user:{PLANTED}@{'a' * 70}.example:1/0",
    f"redis://user:{PLANTED}@256.1.1.1:1/0",
]


def malformed() -> list[str]:
    """Addresses with a password in them that were mistyped, cut or put together wrongly."""
    chance = random.Random(7)
    base = f"redis://user:{PLANTED}@127.0.0.1:1/0"
    found = [
        *(f"redis://user:{PLANTED}{c}word@127.0.0.1:1/0" for c in "/#?[]@:;,%& \t\\\"'^`{}|<>é"),
        *(f"{scheme}user:{PLANTED}@127.0.0.1:1" for scheme in ("", "redis:", "redis:/", "reds://", "http://", "//")),
        *(
            f"redis://127.0.0.1:1/{tail}{PLANTED}"
            for tail in ("", "0/", "0?", "0?password=", "0?db=", "0?ssl_cert_reqs=")
        ),
        *(
            f"redis://:{PLANTED}",
            f"redis://user:{PLANTED}@",
            f"redis://user:{PLANTED}@:1",
            f"redis://user:{PLANTED}@/0",
        ),
        *(f"redis://user:{PLANTED}@127.0.0.1:{port}" for port in ("x", "99999", "-1", "1.5", "0x1", PLANTED)),
        *(f"redis://{PLANTED}@127.0.0.1:1:2", f"redis://user@{PLANTED}@127.0.0.1:1", f"unix://user:{PLANTED}@host/s"),
        *(f"unix://user:{PLANTED}@", f"redis://user:{PLANTED}@[::1", f"redis://user:{PLANTED}@::1]:1/0", f" {base}"),
    ]
    while len(found) < 300:
        text = list(base)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(text) + 1)
            if PLANTED in "".join(text[:place]) or PLANTED in "".join(text[place:]):
                text[place:place] = chance.choice([":", "/", "@", "#", "?", "[", "%", " ", "\n", "\0", "://", "&a=b"])
        found.append("".join(text))
    return found


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """What was shown of a secret; the end of the test looks for it."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    yield texts
    output = capfd.readouterr()
    for text in (*texts, caplog.text, output.out, output.err):
        assert PLANTED not in text


def everything_about(error: BaseException) -> list[str]:
    return [repr(error), str(error), "".join(traceback.format_exception(error)), repr(error.__cause__)]


def test_there_are_three_hundred() -> None:
    assert len(malformed()) >= 300


def test_a_malformed_url_is_an_error_that_shows_nothing_of_it(shown: list[str]) -> None:
    async def use(url: str) -> None:
        settings = RedisSettings(url=SecretStr(url), timeout=0.2)
        shown.append(repr(settings))
        try:
            manager = RedisConnectionManager(settings)
        except ConfigurationError as error:
            shown.extend(everything_about(error))
            return
        shown.append(repr(manager))
        try:
            shown.append(repr(manager.get_connection_info()))
        except AppError as error:
            shown.extend(everything_about(error))
        with pytest.raises((ConfigurationError, StoreUnavailableError)) as caught:
            await manager.connect()
        shown.extend(everything_about(caught.value))
        shown.append(repr(await manager.health()))
        await manager.close()

    async def all_of_them() -> None:
        for url in malformed():
            await use(url)

    asyncio.run(all_of_them())
    assert len(shown) > 1000


@pytest.mark.parametrize("url", WELL_FORMED)
async def test_a_refused_connection_shows_no_password(url: str, shown: list[str]) -> None:
    config: dict[str, Any] = {"connections": {"redis": {"url": url, "timeout": 0.5}}}
    async with DataLayer.from_config(config) as data:
        manager = data.connection("redis")
        shown.extend((repr(data.settings), repr(manager), repr(manager.get_connection_info())))
        with pytest.raises(StoreUnavailableError, match=r"Redis 'redis' at") as caught:
            await manager.connect()
        shown.extend(everything_about(caught.value))
        shown.append(repr(await data.health()))


async def test_a_password_that_is_right_or_wrong(shown: list[str]) -> None:
    server = RedisServer("--requirepass", PLANTED)
    try:
        server.start()
        right = RedisConnectionManager(RedisSettings(url=SecretStr(f"unix://:{PLANTED}@{server.socket}")))
        client: Any = await right.connect()
        assert await right.set("key", 1)
        shown.extend(map(repr, (client, client.connection_pool, *client.connections(), await right.health())))
        await right.close()
        for url in (f"unix://:{PLANTED}x@{server.socket}", f"unix://user:{PLANTED}@{server.socket}", server.url):
            wrong = RedisConnectionManager(RedisSettings(url=SecretStr(url)))
            with pytest.raises(StoreUnavailableError, match="refused the user or the password") as caught:
                await wrong.connect()
            shown.extend(everything_about(caught.value))
            await wrong.close()
    finally:
        server.end()
