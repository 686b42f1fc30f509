"""A Redis address as the driver's options. Whatever is wrong with it is said without a part of it."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from ..core.errors import ConfigurationError

_PORT: Final = 6379
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|[0-9A-Fa-f:.]{2,45}")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a server is, and who asks. `path` is that of a unix socket, and then there is no host."""

    host: str
    port: int
    path: str
    db: int
    tls: bool
    username: str | None
    password: str | None
    tls_options: Mapping[str, Any]

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"RedisAddress({self})"


def parse_url(url: str, name: str) -> RedisAddress:
    """Read `redis://user:password@host:port/db`, `rediss://…` or `unix://…?db=0`.

    ConfigurationError names the connection and never shows what was read: a password with a `/` or `#` in it that is
    not percent-encoded ends up in any part.
    """

    def wrong(reason: str) -> ConfigurationError:
        return ConfigurationError(f"the url of the connection {name!r} cannot be used: {reason}")

    readable = False
    # What the parsers raise has pieces of the url in it, so none of it is in the context of ours.
    with suppress(ValueError):
        parts = urlsplit(url)
        port = parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
        readable = True
    if not readable:
        raise wrong("it is no url; percent-encode what is special in the password")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise wrong("it begins with redis://, rediss:// or unix://, or is 'embedded'")
    if parts.fragment or "#" in url:
        raise wrong("it has a '#'; write %23 in a password")
    unknown = query.keys() - _QUERY.keys()
    if unknown:
        raise wrong(f"what follows '?' can only be {', '.join(_QUERY)}; the rest are settings of the connection")
    options: dict[str, Any] | None = None
    with suppress(ValueError):
        options = {key: _QUERY[key](value) for key, value in query.items()}
    if options is None:
        raise wrong("an option after '?' has no value that it can have")
    db = options.pop("db", None)
    unix = parts.scheme == "unix"
    path = unquote(parts.path) if unix else ""
    if unix and (not path.startswith("/") or parts.hostname):
        raise wrong("unix:// is followed by the absolute path of a socket")
    if not unix:
        if not parts.hostname or not _HOST.fullmatch(parts.hostname):
            raise wrong("it names no host")
        number = parts.path.strip("/")
        if number and not (number.isascii() and number.isdigit() and len(number) < 6):  # noqa: PLR2004 - five digits
            raise wrong("what follows the host is the number of a database")
        db = int(number) if number and db is None else db
    return RedisAddress(
        host="" if unix else str(parts.hostname),
        port=port or _PORT,
        path=path,
        db=db or 0,
        tls=parts.scheme == "rediss",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls_options=options,
    )


def parse_node(address: str, name: str) -> tuple[str, int]:
    """Read `host:port` of a sentinel or node."""
    host, _, port = address.rpartition(":")
    if not host or not _HOST.fullmatch(host.strip("[]")) or not (port.isascii() and port.isdigit()):
        raise ConfigurationError(f"the connection {name!r}: an entry of `addresses` is not `host:port`")
    return host.strip("[]"), int(port)


def _choice(value: str) -> str:
    if value not in ("required", "optional", "none"):
        raise ValueError(value)
    return value


def _boolean(value: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), True)


_QUERY: Final[Mapping[str, Callable[[str], Any]]] = {
    "db": int,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": _choice,
    "ssl_check_hostname": _boolean,
}
