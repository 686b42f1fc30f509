"""From the addresses that people have to what libpq takes. No message of this module repeats a value of an address."""

import configparser
import ipaddress
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from psycopg import Error, pq
from psycopg.conninfo import conninfo_to_dict

from ..core.errors import ConfigurationError, did_you_mean
from ._postgres_foreign import IGNORED, TRANSLATED, Said
from ._url_options import OptionError

APPLICATION_NAME = "manystore"

_SCHEME = re.compile(r"postgres(?:ql)?(\+(?:asyncpg|psycopg|psycopg2|psycopg_async))?://")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]+(%\w+)?|[/@].*")
_HOST_AND_PORT = re.compile(r"([^:/@]+|\[[^]]+\]):(\d*)")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,40}", re.ASCII)
_ESCAPED_BADLY = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_ODD = re.compile(r"[\s/@:?#\x00-\x1f]")
_ROOT_FILE = Path("~/.postgresql/root.crt")
_LAST_PORT = 65535
# Supabase's pooler has sessions on 5432 and transactions on 6543; Neon's has transactions only.
_SUPABASE, _SUPABASE_TRANSACTIONS = ".pooler.supabase.com", "6543"

_TLS = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
_CHOICES: Final[Mapping[str, frozenset[str]]] = {
    "sslmode": frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}),
    "channel_binding": frozenset({"disable", "prefer", "require"}),
    "target_session_attrs": frozenset({"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}),
    "load_balance_hosts": frozenset({"disable", "random"}),
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "sslcertmode": frozenset({"disable", "allow", "require"}),
    "gssencmode": frozenset({"disable", "prefer", "require"}),
    "ssl_min_protocol_version": _TLS,
    "ssl_max_protocol_version": _TLS,
    "client_encoding": frozenset({"utf8", "utf-8", "UTF8", "UTF-8"}),  # what is sent is encoded so
}
_NUMBERS = frozenset({"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"})
_REFUSED: Final[Mapping[str, str]] = {"replication": "a connection for replication runs no statements"}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """What a url says: to libpq, and of our own settings."""

    libpq: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, float]
    """By their dotted names."""
    session: Mapping[str, str] = field(repr=False)
    """Settings of the server's, for each session."""
    pooled: bool | None
    """Whether each transaction may be on another session, where an option says that."""
    is_pooler: bool
    """Whether the host is one that is known to do so."""
    statements: int | None
    """How many statements a connection may keep prepared, where it says that."""


def parse(name: str, url: str, options: Mapping[str, str] | None = None) -> PostgresAddress:
    """Read the url of the connection `name`, and what its settings add for libpq.

    Every option is translated, knowingly ignored (`IGNORED` says why) or refused by its name. What the url says about
    TLS is done. Where it says nothing, a host that is not this machine has to prove who it is (`verify-full`, against
    the certificates of the system unless `sslrootcert` names others).
    """
    scheme = _SCHEME.match(url)
    rest = url[scheme.end() :] if scheme else ""
    authority, _, query = rest.partition("?")
    pairs = _pairs(query)
    address = None
    with suppress(Error, ValueError):  # their text repeats what they could not read, so it is in no context of ours
        address = {key: str(value) for key, value in conninfo_to_dict(f"postgresql://{authority}").items() if value}
    if scheme is None or pairs is None or address is None or not _is_whole(address, pairs):
        raise ConfigurationError(
            f"the url of the connection {name!r} cannot be read: write postgresql://user:password@host:5432/database, "
            "with the characters /:@?#% and blanks in user and password percent-encoded"
        )
    said = Said()
    _read_options(name, "url", pairs, said, hidden="@" in query)
    for key in ("user", "password", "dbname"):
        if key in address and said.libpq.get(key, address[key]) != address[key]:
            raise _wrong(name, f"its url has the {key} twice, with different values")
    for key in said.server:
        if re.search(rf"(-c\s*|--){re.escape(key)}\s*=", said.libpq.get("options", "")):
            raise _wrong(name, f"its url has {key!r} in `options` and once more: say it in one place")
    libpq = {**address, **said.libpq}
    extra = Said()
    _read_options(name, "`options`", list((options or {}).items()), extra)
    for key, value in extra.libpq.items():
        if libpq.setdefault(key, value) != value:
            raise _wrong(name, f"its url and its settings differ about {key!r}: say it in one place")
    if extra != Said(libpq=extra.libpq, service_file=extra.service_file):
        raise _wrong(name, "`options` are libpq's; what else there is has a setting of its own")
    _join_service(name, libpq, extra.service_file or said.service_file)
    _check(name, libpq)
    _secure(libpq)
    libpq.setdefault("fallback_application_name", APPLICATION_NAME)
    return PostgresAddress(
        libpq=libpq,
        settings=said.settings,
        session=said.server,
        pooled=said.pooled,
        is_pooler=_is_pooler(libpq),
        statements=said.statements,
    )


def _pairs(query: str) -> list[tuple[str, str]] | None:
    """The options in their order, decoded; None where they are none."""
    found = []
    for pair in query.split("&") if query else []:
        key, equals, value = pair.partition("=")
        if not equals or not _NAME.fullmatch(key) or _ESCAPED_BADLY.search(value):
            return None
        found.append((key, unquote(value)))
    return found


def _is_whole(address: Mapping[str, str], pairs: list[tuple[str, str]]) -> bool:
    """Whether nothing looks like a piece of a password that was not encoded."""
    given = {*address, *(key for key, _ in pairs)}
    alone = "host" in address and not given & {"user", "dbname", "database", "service"}
    return not alone and not _ODD.search(address.get("dbname", "")) and _has_places(address)


def _has_places(address: Mapping[str, str]) -> bool:
    hosts, ports = address.get("host", "").split(","), address.get("port", "").split(",")
    return all(not host or _HOST.fullmatch(host) for host in hosts) and all(
        not port or (port.isdecimal() and int(port) <= _LAST_PORT) for port in ports
    )


def _read_options(name: str, place: str, pairs: list[tuple[str, str]], said: Said, *, hidden: bool = False) -> None:
    """Translate them one by one. `hidden`: their names may be pieces of a password."""
    known = {each.keyword.decode() for each in pq.Conninfo.get_defaults()}
    seen: dict[str, str] = {}
    hosts: list[str] = []
    for key, value in pairs:
        shown = "…" if hidden else key
        if key in _REFUSED:
            raise _wrong(name, f"its {place} has the option {key!r}: {_REFUSED[key]}")
        if key not in IGNORED and key not in TRANSLATED and key not in known:
            near = "" if hidden else did_you_mean(key, [*known, *TRANSLATED])
            raise _wrong(
                name,
                f"its {place} has the option {shown!r}, which neither libpq nor we understand{near}; a setting of the "
                "server's is written options=-c%20name%3Dvalue, or belongs to the role (ALTER ROLE … SET …)",
            )
        if key == "host":  # several, as SQLAlchemy writes them
            hosts.append(value)
            continue
        if seen.setdefault(key, value) != value:
            raise _wrong(name, f"its {place} has the option {shown!r} twice, with different values")
        before = {**said.server, **said.libpq}
        if key in TRANSLATED:
            try:
                TRANSLATED[key](said, value)
            except OptionError as error:
                raise _wrong(name, f"the option {shown!r} can only be {error}") from None
        elif key not in IGNORED:
            said.libpq[key] = value
        after = {**said.server, **said.libpq}
        if any(after[each] != value for each, value in before.items()):
            raise _wrong(name, f"its {place} says in the option {shown!r} otherwise than in one before it")
    if hosts:
        _set_hosts(said.libpq, hosts)


def _set_hosts(libpq: dict[str, str], hosts: list[str]) -> None:
    split = [_HOST_AND_PORT.fullmatch(host) for host in hosts]
    libpq["host"] = ",".join(found[1].strip("[]") if found else host for found, host in zip(split, hosts, strict=True))
    if any(split) and "port" not in libpq:
        libpq["port"] = ",".join(found[2] if found else "" for found in split)


def _join_service(name: str, libpq: dict[str, str], file: str | None) -> None:
    """Take what is not said from the service file, as libpq would, so that it is known here who is spoken to."""
    service = libpq.pop("service", os.environ.get("PGSERVICE"))
    if not service:
        return
    own = file or os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf"
    files = [Path(own).expanduser()]
    if "PGSYSCONFDIR" in os.environ:
        files.append(Path(os.environ["PGSYSCONFDIR"]) / "pg_service.conf")
    for each in files:
        parser = configparser.RawConfigParser(delimiters="=", comment_prefixes="#", strict=False, default_section="")
        with suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read_string(each.read_text("utf-8"))
            if parser.has_section(service):
                said = Said()
                _read_options(name, "service file", parser.items(service), said)
                libpq.update({key: value for key, value in said.libpq.items() if key not in libpq})
                return
    raise _wrong(name, f"the service that it names is in none of {', '.join(map(str, files))}")


def _check(name: str, libpq: dict[str, str]) -> None:
    accept = libpq.pop("sslaccept", None)
    if accept is not None and libpq.get("sslmode", "prefer") in {"prefer", "require"}:
        libpq["sslmode"] = accept
    for key, choices in _CHOICES.items():
        if libpq.get(key, next(iter(choices))) not in choices:
            raise _wrong(name, f"the option {key!r} can only be one of {', '.join(sorted(choices))}")
    for key in _NUMBERS & libpq.keys():
        if not libpq[key].isdecimal():
            raise _wrong(name, f"the option {key!r} can only be a whole number")
    if not _has_places(libpq):
        raise _wrong(name, "one of its hosts or ports can be none")
    hosts, ports = libpq.get("host", "").split(","), libpq.get("port", "").split(",")
    if 1 < len(ports) != len(hosts):
        raise _wrong(name, f"it has {len(hosts)} hosts and {len(ports)} ports")


def _secure(libpq: dict[str, str]) -> None:
    hosts = libpq.get("host") or libpq.get("hostaddr") or os.environ.get("PGHOST") or os.environ.get("PGHOSTADDR", "")
    if "sslmode" not in libpq and "PGSSLMODE" not in os.environ and not all(map(is_here, hosts.split(","))):
        libpq["sslmode"] = "verify-full"
    if libpq.get("sslmode", os.environ.get("PGSSLMODE")) == "verify-full" and not _names_authorities(libpq):
        libpq["sslrootcert"] = "system"


def _names_authorities(values: Mapping[str, str]) -> bool:
    """Whether address, environment or libpq's own place for it has a file of authorities."""
    return "sslrootcert" in values or "PGSSLROOTCERT" in os.environ or _ROOT_FILE.expanduser().exists()


def _is_pooler(libpq: Mapping[str, str]) -> bool:
    host = libpq.get("host", "")
    supabase = host.endswith(_SUPABASE) and libpq.get("port") == _SUPABASE_TRANSACTIONS
    return supabase or "-pooler." in host


def is_here(host: str) -> bool:
    """Whether a host of libpq's is this machine: a socket, or a loopback address."""
    if not host or host[0] in "/@" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_address(parameters: Mapping[str, object]) -> str:
    """Hosts and ports, for messages."""
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "a local socket").split(",")
    ports = str(parameters.get("port") or "").split(",")
    ports *= len(hosts) if len(ports) == 1 else 1
    return ",".join(
        f"{host}:{port}" if port and host[:1] not in ("/", "@") else host
        for host, port in zip(hosts, ports, strict=False)
    )


def _wrong(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"the connection {name!r}: {reason}")
