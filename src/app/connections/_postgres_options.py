"""What a connection's settings and its url come to together: the one source for every pool and engine on it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.conninfo import make_conninfo

from ..config.settings import PostgresSettings
from ..core.errors import ConfigurationError
from ._postgres_url import parse, shown_address
from ._url_options import settled

_LEAST = 2
"""Seconds that the driver gives a host at the least."""
_PREPARE_AFTER = 5


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """`psycopg.connect(options.conninfo, **options.kwargs)`, sync or async, connects as the pool does."""

    libpq: Mapping[str, str]
    address: str
    """Hosts and ports, for messages."""
    pooled: bool
    """Whether each transaction may be on another session: nothing that outlives one can be relied on."""
    statements: int | None
    """How many statements a connection keeps prepared at the most; None is the driver's own number."""
    timeout: float
    connect_timeout: float
    max_size: int
    wait: float
    """Seconds that a caller waits for a free connection."""
    max_lifetime: float
    max_idle: float

    @property
    def conninfo(self) -> str:
        """The form that libpq takes, the password included."""
        return make_conninfo("", **self.libpq)

    @property
    def prepares(self) -> bool:
        return not self.pooled and self.statements != 0

    @property
    def kwargs(self) -> dict[str, Any]:
        return {"autocommit": True, "prepare_threshold": _PREPARE_AFTER if self.prepares else None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"


def options_of(name: str, settings: PostgresSettings, url: str) -> PostgresOptions:
    """ConfigurationError for what cannot be, and for what url and settings say differently."""
    added = dict(settings.options)
    if settings.application_name is not None:
        added["application_name"] = settings.application_name
    address = parse(name, url, added)
    settings = settled(name, settings, address.settings)
    if None not in (settings.pooled, address.pooled) and settings.pooled is not address.pooled:
        raise ConfigurationError(
            f"the connection {name!r}: its url has `pgbouncer`, and its settings deny it: `pooled`"
        )
    pooled = next(each for each in (settings.pooled, address.pooled, address.is_pooler) if each is not None)
    libpq = dict(address.libpq)
    _set_for_sessions(name, libpq, address.session, pooled=pooled)
    connect_timeout, wait = settings.connect_timeout or settings.timeout, settings.pool.timeout
    if settings.connect_timeout is not None and "timeout" not in settings.pool.model_fields_set:
        wait = max(wait, connect_timeout)  # else nobody would wait for so long
    hosts = len(libpq.get("host", "").split(","))
    if hosts > 1:
        # Each in its turn; without this one that says nothing would take all of the time.
        libpq["connect_timeout"] = str(max(_LEAST, int(connect_timeout / hosts)))
        connect_timeout = max(connect_timeout, _LEAST * hosts)
    return PostgresOptions(
        libpq=libpq,
        address=shown_address(libpq),
        pooled=pooled,
        statements=address.statements,
        timeout=settings.timeout,
        connect_timeout=connect_timeout,
        max_size=settings.pool.max_size,
        wait=wait,
        max_lifetime=settings.pool.max_lifetime,
        max_idle=settings.pool.max_idle,
    )


def _set_for_sessions(name: str, libpq: dict[str, str], settings: Mapping[str, str], *, pooled: bool) -> None:
    options = libpq.get("options", "")
    # What a proxy reads for itself, such as Neon's `endpoint=…`, sets nothing; and `public` is where a session begins.
    if pooled and (any(each.startswith("-") for each in options.split()) or settings.items() - _BY_DEFAULT):
        raise ConfigurationError(
            f"the connection {name!r} goes through a pooler, which keeps no settings of a session (options, schema, "
            "server_settings): set them for the role (ALTER ROLE … SET search_path = …), or connect directly"
        )
    if settings and not pooled:
        escaped = {key: re.sub(r"([\\\s])", r"\\\1", value) for key, value in settings.items()}
        libpq["options"] = " ".join([options, *(f"-c {key}={value}" for key, value in escaped.items())]).strip()


_BY_DEFAULT = {("search_path", '"public"')}
