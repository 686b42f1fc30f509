"""From the addresses that people have to what libpq takes. No message of this module repeats any part of an address."""

import ipaddress
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..core.errors import ConfigurationError

APPLICATION_NAME = "manystore"

_SCHEME = re.compile(r"postgres(?:ql)?(\+(?:asyncpg|psycopg|psycopg2|psycopg_async))?://")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]+(%\w+)?|[/@].*")
_ROOT_FILE = Path("~/.postgresql/root.crt")
_LAST_PORT = 65535
_ODD = re.compile(r"[\s/@:?#\x00-\x1f]")
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


def conninfo(name: str, url: str) -> str:
    """Return libpq's form of the url of the connection `name`; ConfigurationError when it is none.

    What the url says about TLS is done. Where it says nothing, a host that is not this machine has to prove who it is
    (`verify-full`, against the certificates of the system unless `sslrootcert` names others).
    """
    malformed = ConfigurationError(
        f"the url of the connection {name!r} cannot be read: write postgresql://user:password@host:5432/database, with "
        "the characters /:@?#% and blanks in user and password percent-encoded"
    )
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise malformed
    parameters = None
    with suppress(Error, ValueError):  # their text repeats what they could not read, so it is in no context of ours
        parameters = conninfo_to_dict(_without_foreign("postgresql://" + url[scheme.end() :]))
    if parameters is None:
        raise malformed
    values = {key: str(value) for key, value in parameters.items() if value is not None}
    hosts = values.get("host", "").split(",")
    plausible = (
        all(not host or _HOST.fullmatch(host) for host in hosts)
        and all(
            not port or (port.isdecimal() and int(port) <= _LAST_PORT) for port in values.get("port", "").split(",")
        )
        # Signs of a password that was not encoded: it would end up in the name of the host or the database.
        and not _ODD.search(values.get("dbname", ""))
        and not (values.keys() & {"host"} and not values.keys() & {"user", "dbname"})
        and values.get("sslmode", "disable") in _SSL_MODES
        and values.get("channel_binding", "disable") in {"disable", "prefer", "require"}
        and values.get("connect_timeout", "0").isdecimal()
    )
    if not plausible:
        raise malformed
    if "sslmode" not in values and "PGSSLMODE" not in os.environ and not all(map(is_here, hosts)):
        values["sslmode"] = "verify-full"
    if values.get("sslmode", os.environ.get("PGSSLMODE")) == "verify-full" and not _names_authorities(values):
        values["sslrootcert"] = "system"
    values.setdefault("fallback_application_name", APPLICATION_NAME)
    return make_conninfo("", **values)


def _names_authorities(values: Mapping[str, str]) -> bool:
    """Whether address, environment or libpq's own place for it has a file of authorities."""
    return "sslrootcert" in values or "PGSSLROOTCERT" in os.environ or _ROOT_FILE.expanduser().exists()


def _without_foreign(url: str) -> str:
    """Translate asyncpg's `ssl`, and take out what is for other drivers, which libpq would refuse."""
    address, mark, query = url.partition("?")
    kept = []
    for pair in query.split("&") if mark else []:
        key, _, value = pair.partition("=")
        if key == "ssl":
            kept.append("sslmode=" + {"true": "require", "false": "disable"}.get(value.lower(), value))
        elif key != "pgbouncer":
            kept.append(pair)
    return f"{address}?{'&'.join(kept)}" if kept else address


def prepares(url: str) -> bool:
    """Whether statements may be prepared: not through a pooler that hands each transaction to another session."""
    return re.search(r"[?&]pgbouncer=true\b|-pooler\.", url) is None


def is_here(host: str) -> bool:
    """Whether a host of libpq's is this machine: a socket, or a loopback address."""
    if not host or host[0] in "/@" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_address(parameters: Mapping[str, object]) -> str:
    """Host and port, for messages."""
    host = str(parameters.get("host") or "a local socket")
    port = parameters.get("port")
    return f"{host}:{port}" if port and host[0] not in "/@" else host
