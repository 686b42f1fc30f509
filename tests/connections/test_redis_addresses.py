"""The addresses of Redis that people really have: what each comes to, option by option, or why it is refused."""

import asyncio
import os
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import PoolSettings, RedisSettings
from app.connections.redis import RedisConnectionManager
from app.core.errors import ConfigurationError

from ..redis_server import RedisServer

UPSTASH = "eu1-quick-duck-30123.upstash.io"
VERIFIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


async def of(url: str, **settings: Any) -> dict[str, Any]:
    """What each of the driver's connections and we have of it, without what every address comes to."""
    manager = RedisConnectionManager(RedisSettings(url=SecretStr(url), **settings))
    client: Any = manager._client(manager._parsed(url))
    pool = client.connection_pool
    found = dict(pool.connection_kwargs)
    found.pop("himport_registry", None)  # the driver's own affair
    credentials = found.pop("credential_provider", None)
    if credentials is not None:
        found["who"] = tuple(filter(None, credentials.get_credentials()))
    assert (found.pop("socket_timeout"), found.pop("retry")._retries) == (None, 0)
    found["timeout"], found["wait"] = manager.settings.timeout, manager.settings.pool.timeout
    found["max"], found["kind"] = pool.max_connections, pool.connection_class.__name__
    usual: dict[str, Any] = {
        "client_name": f"manystore:{os.getpid()}",
        "decode_responses": True,
        "protocol": 2,
        "db": 0,
        "timeout": 5,
        "wait": 5,
        "max": 10,
        "socket_connect_timeout": 5,
        "kind": "Connection",
    }
    return {key: value for key, value in found.items() if key not in usual or usual[key] != value}


UNDERSTOOD: dict[str, dict[str, Any]] = {
    "redis://cache.internal": {"host": "cache.internal", "port": 6379},
    "redis://:p%2F@cache.internal:6380/2": {"host": "cache.internal", "port": 6380, "db": 2, "who": ("p/",)},
    f"rediss://default:p@{UPSTASH}:6379": {
        "host": UPSTASH,
        "port": 6379,
        "who": ("default", "p"),
        "kind": "SSLConnection",
        **VERIFIED,
    },
    # Heroku's certificates are its own; Celery spells it so
    "rediss://:p@ec2-1-2-3-4.compute-1.amazonaws.com:7000?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false": {
        "host": "ec2-1-2-3-4.compute-1.amazonaws.com",
        "port": 7000,
        "who": ("p",),
        "kind": "SSLConnection",
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    },
    "rediss://cache.internal?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/etc/c.pem&ssl_keyfile=/etc/k.pem": {
        "host": "cache.internal",
        "port": 6379,
        "kind": "SSLConnection",
        "ssl_ca_certs": "/etc/ca.pem",
        "ssl_certfile": "/etc/c.pem",
        "ssl_keyfile": "/etc/k.pem",
        **VERIFIED,
    },
    "unix:///run/redis.sock?db=3&password=p": {
        "path": "/run/redis.sock",
        "db": 3,
        "who": ("p",),
        "kind": "UnixDomainSocketConnection",
    },
    "redis://cache.internal/0?max_connections=50&timeout=2&socket_timeout=3&socket_connect_timeout=1": {
        "host": "cache.internal",
        "port": 6379,
        "max": 50,
        "wait": 2,
        "timeout": 3,
        "socket_connect_timeout": 1,
    },
    "redis://cache.internal?client_name=shop&health_check_interval=30&socket_keepalive=true": {
        "host": "cache.internal",
        "port": 6379,
        "client_name": "shop",
        "health_check_interval": 30,
        "socket_keepalive": True,
    },
    "redis://cache.internal?decode_responses=True&protocol=2&encoding=utf-8&retry_on_timeout=false": {
        "host": "cache.internal",
        "port": 6379,
    },
}

REFUSED = {
    "redis://cache.internal?max_conections=5": r"'max_conections' \(did you mean 'max_connections'",
    "redis://cache.internal?family=6": r"'family'",
    "redis://cache.internal?decode_responses=false": r"'decode_responses' can only be true: replies are text",
    "redis://cache.internal?protocol=3": r"'protocol' can only be 2",
    "redis://cache.internal?retry_on_timeout=true": r"no command is sent twice",
    "redis://cache.internal?ssl_cert_reqs=none": r"'ssl_cert_reqs' can only be of use with rediss://",
    "rediss://cache.internal?ssl_cert_reqs=maybe": r"'ssl_cert_reqs' can only be required, optional or none",
    "rediss://cache.internal?ssl_check_hostname=maybe": r"'ssl_check_hostname' can only be true or false",
    "redis://cache.internal?socket_timeout=0": r"'socket_timeout' can only be a number greater than 0",
    "redis://cache.internal?socket_connect_timeout=30": r"'socket_connect_timeout' of its url is longer than `timeout`",
    "unix:///run/redis.sock?socket_keepalive=true": r"'socket_keepalive' can only be of use with a host",
    "redis://cache.internal/1?db=2": r"two databases",
    "redis://cache.internal?db=1&db=2": r"'db' can only be said once",
    "redis://:p@cache.internal?password=q": r"the password twice",
    "redis://a.internal:6379,b.internal:6379/0": r"several hosts: write one, with `mode: sentinel`",
    "redis+sentinel://a.internal:26379,b.internal:26379/main/0": r"with `mode: sentinel` and `service: …`",
    "rediss+cluster://a.internal": r"`mode: cluster`",
    "valkey://cache.internal": r"it begins with redis://",
}


@pytest.mark.parametrize("url", UNDERSTOOD)
async def test_what_an_address_comes_to(url: str) -> None:
    assert await of(url) == UNDERSTOOD[url]


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[url]):
        RedisConnectionManager(RedisSettings(url=SecretStr(url)))


def test_sentinels_and_clusters() -> None:
    url = "rediss://:p@a.internal:26379/2?socket_connect_timeout=1&client_name=shop"
    settings = RedisSettings(
        url=SecretStr(url), mode="sentinel", service="main", addresses=("b.internal:26380",), sentinel_password="q"
    )
    manager = RedisConnectionManager(settings)
    pool: Any = manager._client(manager._parsed(url)).connection_pool  # type: ignore[union-attr]
    sentinels = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"], each["password"]) for each in sentinels] == [
        ("a.internal", 26379, "q"),
        ("b.internal", 26380, "q"),
    ]
    assert [each["ssl_cert_reqs"] for each in sentinels] == ["required"] * 2
    found = pool.connection_kwargs
    assert (pool.service_name, found["db"], found["client_name"]) == ("main", 2, "shop")
    assert found["socket_connect_timeout"] == 1
    url = "redis://a.internal:7000?client_name=shop"
    settings = RedisSettings(url=SecretStr(url), mode="cluster", addresses=("b.internal:7001",))
    cluster = RedisConnectionManager(settings)
    client: Any = cluster._client(cluster._parsed(cluster._url()))
    assert [(each.host, each.port) for each in client.nodes_manager.startup_nodes.values()] == [
        ("a.internal", 7000),
        ("b.internal", 7001),
    ]
    assert client.connection_kwargs["client_name"] == "shop"


@pytest.mark.parametrize(
    ("option", "settings", "name"),
    [
        ("max_connections=5", {"pool": PoolSettings(max_size=6)}, "pool.max_size"),
        ("timeout=5", {"pool": PoolSettings(timeout=6)}, "pool.timeout"),
        ("socket_timeout=5", {"timeout": 6}, "timeout"),
    ],
)
def test_what_address_and_settings_say_differently_is_refused(option: str, settings: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        RedisConnectionManager(RedisSettings(url=SecretStr(f"redis://127.0.0.1?{option}"), **settings))


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1?unheard_of=hunter2",
        "redis://127.0.0.1?protocol=hunter2",
        "redis://127.0.0.1?db=hunter2",
        "redis://:x?hunter2=y@127.0.0.1",  # passwords that were not encoded
        "redis://:x@y?hunter=z@127.0.0.1",
    ],
)
def test_a_refusal_shows_no_value(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisConnectionManager(RedisSettings(url=SecretStr(url)))
    assert "hunter" not in str(caught.value)


async def test_the_options_reach_a_server(redis_server: RedisServer) -> None:
    url = f"{redis_server.url}?db=1&client_name=shop&health_check_interval=0.01&max_connections=3"
    manager: Any = RedisConnectionManager(RedisSettings(url=SecretStr(url)))
    counts = []
    for _ in range(5):
        counts += await asyncio.gather(*(manager.incr("urls") for _ in range(10)))
        await asyncio.sleep(0.02)  # the next one asks first
    assert sorted(counts) == list(range(1, 51))
    found = await manager.execute_command("CLIENT", "LIST")
    assert str(found).count("shop") == 3
    await manager.delete("urls")
    await manager.close()
