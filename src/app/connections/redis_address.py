"""A Redis address as the driver's options. Whatever is wrong with it is said without a value of it."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..core.errors import ConfigurationError, did_you_mean
from ._url_options import OptionError, add, boolean, number

_PORT: Final = 6379
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_DATABASE = re.compile(r"\d{1,5}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]{1,40}", re.ASCII)
_SENTINELS = re.compile(r"(?:rediss?\+)?sentinel://|redis-sentinel://|rediss?\+cluster://")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a server is, and who asks. `path` is that of a unix socket, and then there is no host."""

    host: str
    port: int
    path: str
    db: int
    tls: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    tls_options: Mapping[str, Any]
    driver_options: Mapping[str, Any]
    """For each connection, with TLS and without."""
    settings: Mapping[str, float]
    """What it says of settings of ours, by their dotted names."""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"RedisAddress({self})"


def parse_url(url: str, name: str) -> RedisAddress:
    """Read `redis://user:password@host:port/db`, `rediss://…` or `unix://…?db=0`.

    Every option is understood, or refused by its name. ConfigurationError names the connection and never shows what was
    read: a password with a `/` or `#` in it that is not percent-encoded ends up in any part.
    """
    try:
        return _parse(url)
    except OptionError as error:
        reason = str(error)
    raise ConfigurationError(f"the url of the connection {name!r} cannot be used: {reason}")


def _parse(url: str) -> RedisAddress:
    parts, port, pairs = _split(url)
    options = _Options(parts.scheme)
    for key, value in pairs:
        shown = key if _NAME.fullmatch(key) and "@" not in parts.query else "…"
        if key not in _READERS:
            raise OptionError(f"nothing here understands its option {shown!r}{did_you_mean(shown, _READERS)}")
        try:
            options.read(key, value)
        except OptionError as error:
            raise OptionError(f"its option {shown!r} can only be {error}") from None
    given = {"username": parts.username, "password": parts.password}
    who = {key: unquote(value) if value else None for key, value in given.items()}
    for key, value in options.who.items():
        if who[key] not in (None, value):
            raise OptionError(f"it has the {key} twice")
        who[key] = value
    host, path, db = _place(parts, options.db)
    return RedisAddress(
        host=host,
        port=port or _PORT,
        path=path,
        db=db or 0,
        tls=options.tls,
        **who,
        tls_options=options.for_tls,
        driver_options=options.for_driver,
        settings=options.settings,
    )


def _split(url: str) -> tuple[SplitResult, int | None, list[tuple[str, str]]]:
    """Its parts, its port and its options, where it has the form of an address."""
    if _SENTINELS.match(url):
        raise OptionError(
            "write redis://host:port of one sentinel or node, with `mode: sentinel` and `service: …`, or `mode: "
            "cluster`, and the others under `addresses`"
        )
    readable = several = False
    # What the parsers raise has pieces of the url in it, so none of it is in the context of ours.
    with suppress(ValueError):
        parts = urlsplit(url)
        several = "," in parts.netloc.rpartition("@")[2]
        port = None if several else parts.port
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
        readable = True
    if not readable:
        raise OptionError("it is no url; percent-encode what is special in the password")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise OptionError("it begins with redis://, rediss:// or unix://, or is 'embedded'")
    if parts.fragment or "#" in url:
        raise OptionError("it has a '#'; write %23 in a password")
    if several:
        raise OptionError(
            "it has several hosts: write one, with `mode: sentinel` or `cluster`, the others as `addresses`"
        )
    return parts, port, pairs


def _place(parts: SplitResult, db: int | None) -> tuple[str, str, int | None]:
    """Its host or its path, and its database."""
    if parts.scheme == "unix":
        path = unquote(parts.path)
        if not path.startswith("/") or parts.hostname:
            raise OptionError("unix:// is followed by the absolute path of a socket")
        return "", path, db
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise OptionError("it names no host")
    number = parts.path.strip("/")
    if number and not _DATABASE.fullmatch(number):
        raise OptionError("what follows the host is the number of a database")
    if number and db not in (None, int(number)):
        raise OptionError("it names two databases")
    return parts.hostname, "", int(number) if number else db


def parse_node(address: str, name: str) -> tuple[str, int]:
    """Read `host:port` of a sentinel or node."""
    host, _, port = address.rpartition(":")
    if not host or not _HOST.fullmatch(host.strip("[]")) or not (port.isascii() and port.isdigit()):
        raise ConfigurationError(f"the connection {name!r}: an entry of `addresses` is not `host:port`")
    return host.strip("[]"), int(port)


class _Options:
    """The options of a url, as far as they are read."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.tls = scheme == "rediss"
        self.db: int | None = None
        self.who: dict[str, str] = {}
        self.for_tls: dict[str, Any] = {}
        self.for_driver: dict[str, Any] = {}
        self.settings: dict[str, float] = {}
        self._seen: dict[str, str] = {}

    def read(self, key: str, value: str) -> None:
        if self._seen.setdefault(key, value) != value:
            raise OptionError("said once")
        found = _READERS[key](value)
        if key in _SETTINGS:
            add(self.settings, _SETTINGS[key], found)
        elif key.startswith("ssl_"):
            if not self.tls:
                raise OptionError("of use with rediss://")
            self.for_tls[key] = found
        elif key == "socket_keepalive" and self.scheme == "unix":
            raise OptionError("of use with a host")
        elif key == "db":
            self.db = found
        elif key in ("username", "password"):
            self.who[key] = found
        elif key not in _FIXED:
            self.for_driver[key] = found


def _fixed(value: str, reason: str = "") -> Callable[[str], None]:
    def read(given: str) -> None:
        if given.lower() != value:
            raise OptionError(f"{value}{reason}")

    return read


def _verification(value: str) -> str:
    found = value.lower().removeprefix("cert_")  # also as Python's `ssl` and Celery spell it
    if found not in ("required", "optional", "none"):
        raise OptionError("required, optional or none")
    return found


def _database(value: str) -> int:
    if not _DATABASE.fullmatch(value):
        raise OptionError("the number of a database")
    return int(value)


def _connections(value: str) -> float:
    return number(value, whole=True)


_SETTINGS: Final[Mapping[str, str]] = {
    "socket_timeout": "timeout",
    "timeout": "pool.timeout",
    "max_connections": "pool.max_size",
}
_FIXED: Final[Mapping[str, Callable[[str], None]]] = {
    "decode_responses": _fixed("true", ": replies are text"),
    "encoding": _fixed("utf-8"),
    "protocol": _fixed("2", ", whose replies have the shapes that redis-py documents"),
    "retry_on_timeout": _fixed("false", ": no command is sent twice"),
}
_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "db": _database,
    "username": str,
    "password": str,
    "client_name": str,
    "health_check_interval": number,
    "socket_connect_timeout": number,
    "socket_keepalive": boolean,
    "socket_timeout": number,
    "timeout": number,
    "max_connections": _connections,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": _verification,
    "ssl_check_hostname": boolean,
    **_FIXED,
}
