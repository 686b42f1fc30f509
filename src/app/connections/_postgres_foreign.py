"""What the urls of other drivers and of hosting services say, in libpq's words or in those of our settings."""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ._url_options import OptionError, add, boolean, number

# Options that say nothing to us, and why. Whatever stands neither here nor below, and that libpq does not know, is
# refused.
IGNORED: Final[Mapping[str, str]] = {
    "max_cached_statement_lifetime": "asyncpg: how long it keeps a statement; psycopg keeps the last used",
    "max_cacheable_statement_size": "asyncpg: psycopg prepares what is used often, whatever its length",
    "async_fallback": "SQLAlchemy on asyncpg: about code outside its greenlets",
    "uselibpqcompat": "node-postgres: that sslmode means what it means to libpq, as it does here",
    "supa": "Supabase on Vercel: a mark of where the url comes from",
}


@dataclass(slots=True)
class Said:
    """What has been read of a url so far."""

    libpq: dict[str, str] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)
    """By the dotted name of the setting."""
    server: dict[str, str] = field(default_factory=dict)
    """Settings of the server's, for each session."""
    pooled: bool | None = None
    statements: int | None = None
    """How many statements a connection keeps prepared."""
    service_file: str | None = None


def _ssl(said: Said, value: str) -> None:
    said.libpq["sslmode"] = {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(
        value.lower(), value
    )


def _ssl_accept(said: Said, value: str) -> None:
    """Prisma's, which leaves sslmode at `prefer` or `require` beside it."""
    modes = {"strict": "verify-full", "accept_invalid_certs": "require"}
    if value not in modes:
        raise OptionError("strict or accept_invalid_certs")
    said.libpq["sslaccept"] = modes[value]


def _direct_tls(said: Said, value: str) -> None:
    said.libpq["sslnegotiation"] = "direct" if boolean(value) else "postgres"


def _schema(said: Said, value: str) -> None:
    if not _IDENTIFIER.fullmatch(value):
        raise OptionError("the name of a schema, of letters, digits and _")
    said.server["search_path"] = f'"{value}"'


def _server_settings(said: Said, value: str) -> None:
    """asyncpg's, as JSON."""
    settings = None
    with suppress(ValueError):
        settings = json.loads(value)
    if not isinstance(settings, dict) or not all(_SETTING.fullmatch(name) for name in settings):
        raise OptionError("a JSON object of the server's settings")
    for name, each in settings.items():
        if isinstance(each, dict | list) or each is None:
            raise OptionError("a JSON object of texts and numbers")
        text = str(each).lower() if isinstance(each, bool) else str(each)
        if name == "application_name":
            said.libpq[name] = text
        else:
            said.server[name] = text


def _statements(said: Said, value: str) -> None:
    """Of several caches, the smallest: where one is off, all are meant to be."""
    if not value.isdecimal():
        raise OptionError("a whole number")
    said.statements = int(value) if said.statements is None else min(said.statements, int(value))


def _pgbouncer(said: Said, value: str) -> None:
    said.pooled = boolean(value)


def _service_file(said: Said, value: str) -> None:
    said.service_file = value


def _same(name: str) -> Callable[[Said, str], None]:
    def read(said: Said, value: str) -> None:
        said.libpq[name] = value

    return read


def _setting(name: str) -> Callable[[Said, str], None]:
    def read(said: Said, value: str) -> None:
        add(said.settings, name, number(value, whole=name == "pool.max_size"))

    return read


_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,62}", re.ASCII)
_SETTING = re.compile(r"[A-Za-z_][\w.]{0,62}", re.ASCII)

TRANSLATED: Final[Mapping[str, Callable[[Said, str], None]]] = {
    # asyncpg, and SQLAlchemy in front of it
    "ssl": _ssl,
    "database": _same("dbname"),
    "direct_tls": _direct_tls,
    "server_settings": _server_settings,
    "servicefile": _service_file,
    "statement_cache_size": _statements,
    "prepared_statement_cache_size": _statements,
    "command_timeout": _setting("timeout"),
    "timeout": _setting("connect_timeout"),
    # Prisma, and what Supabase and Neon write for it
    "pgbouncer": _pgbouncer,
    "schema": _schema,
    "sslaccept": _ssl_accept,
    "connection_limit": _setting("pool.max_size"),
    "pool_timeout": _setting("pool.timeout"),
    "socket_timeout": _setting("timeout"),
    "max_connection_lifetime": _setting("pool.max_lifetime"),
    "max_idle_connection_lifetime": _setting("pool.max_idle"),
    # libpq's own, in whole seconds there
    "connect_timeout": _setting("connect_timeout"),
}
