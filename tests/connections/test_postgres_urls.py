"""The addresses that people really have: what each comes to, option by option, or why it is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import PostgresPoolSettings, PostgresSettings
from app.connections.postgres import PostgresConnectionManager
from app.core.errors import ConfigurationError

pytest.importorskip("psycopg")

HOST = "db.example.com"
NEON = "ep-cool-darkness-123456.eu-central-1.aws.neon.tech"
NEON_POOLER = "ep-cool-darkness-123456-pooler.eu-central-1.aws.neon.tech"
SUPABASE = "aws-0-eu-central-1.pooler.supabase.com"
VERIFIED = {"sslmode": "verify-full", "sslrootcert": "system"}
POOLED: dict[str, Any] = {"pooled": True, "prepare_threshold": None}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def of(url: str, **settings: Any) -> dict[str, Any]:
    """All that the driver and the pool get of it."""
    manager = PostgresConnectionManager(PostgresSettings(url=SecretStr(url), **settings))
    options = manager.options()
    found: dict[str, Any] = dict(options.libpq)
    assert found.pop("fallback_application_name") == "manystore"
    defaults = {
        "pooled": False,
        "prepare_threshold": 5,
        "statements": None,
        "timeout": 5,
        "connect_within": 5,
        "max_size": 10,
        "wait": 5,
        "max_lifetime": 3600,
        "max_idle": 600,
    }
    ours = {
        "pooled": options.pooled,
        "prepare_threshold": options.kwargs["prepare_threshold"],
        "statements": options.statements,
        "timeout": options.timeout,
        "connect_within": options.connect_timeout,
        "max_size": options.max_size,
        "wait": options.wait,
        "max_lifetime": options.max_lifetime,
        "max_idle": options.max_idle,
    }
    return found | {key: value for key, value in ours.items() if value != defaults[key]}


def at(host: str, port: str = "", user: str = "ada", dbname: str = "app", **more: Any) -> dict[str, Any]:
    found = {"user": user, "password": "p", "host": host, "port": port, "dbname": dbname, **more}
    return {key: value for key, value in found.items() if value != ""}


UNDERSTOOD: dict[str, dict[str, Any]] = {
    # the plain forms
    f"postgresql://ada:p@{HOST}:5432/app": at(HOST, "5432", **VERIFIED),
    f"postgres://ada:p@{HOST}/app?sslmode=prefer": at(HOST, sslmode="prefer"),
    f"postgresql+psycopg://ada:p%40s%2F@{HOST}/app?sslmode=require": at(HOST, sslmode="require") | {"password": "p@s/"},
    # Neon
    f"postgresql://ada:p@{NEON}/app?sslmode=require&channel_binding=require": at(
        NEON, sslmode="require", channel_binding="require"
    ),
    f"postgresql://ada:p@{NEON_POOLER}/app?sslmode=require&channel_binding=require": at(
        NEON_POOLER, sslmode="require", channel_binding="require", **POOLED
    ),
    f"postgresql://ada:p@{NEON}/app?options=endpoint%3Dep-cool-darkness-123456&sslmode=require": at(
        NEON, sslmode="require", options="endpoint=ep-cool-darkness-123456"
    ),
    f"postgres://ada:p@{NEON_POOLER}/app?options=endpoint%3Dep-cool&connect_timeout=15&pool_timeout=20": at(
        NEON_POOLER, options="endpoint=ep-cool", connect_within=15, wait=20, **VERIFIED, **POOLED
    ),
    # Supabase: sessions on 5432, transactions on 6543
    f"postgresql://postgres.ref:p@{SUPABASE}:5432/postgres": at(
        SUPABASE, "5432", "postgres.ref", "postgres", **VERIFIED
    ),
    f"postgresql://postgres.ref:p@{SUPABASE}:6543/postgres": at(
        SUPABASE, "6543", "postgres.ref", "postgres", **VERIFIED, **POOLED
    ),
    f"postgres://postgres.ref:p@{SUPABASE}:6543/postgres?pgbouncer=true&connection_limit=1&schema=public": at(
        SUPABASE, "6543", "postgres.ref", "postgres", max_size=1, **VERIFIED, **POOLED
    ),
    f"postgres://postgres.ref:p@{SUPABASE}:6543/postgres?sslmode=require&supa=base-pooler.x": at(
        SUPABASE, "6543", "postgres.ref", "postgres", sslmode="require", **POOLED
    ),
    f"postgresql://postgres.ref:p@{SUPABASE}:6543/postgres?options=reference%3Dref": at(
        SUPABASE, "6543", "postgres.ref", "postgres", options="reference=ref", **VERIFIED, **POOLED
    ),
    # Amazon RDS, Heroku, Google Cloud SQL
    "postgresql://ada:p@x.eu-west-1.rds.amazonaws.com/app?sslmode=verify-full&sslrootcert=/etc/rds-global.pem": at(
        "x.eu-west-1.rds.amazonaws.com", sslmode="verify-full", sslrootcert="/etc/rds-global.pem"
    ),
    "postgres://ada:p@ec2-1-2-3-4.compute-1.amazonaws.com:5432/app?sslmode=require": at(
        "ec2-1-2-3-4.compute-1.amazonaws.com", "5432", sslmode="require"
    ),
    "postgresql://ada:p@localhost/app?host=/cloudsql/project:region:instance": at("/cloudsql/project:region:instance"),
    # pgbouncer and friends
    f"postgres://ada:p@{HOST}:6432/app?pgbouncer=true": at(HOST, "6432", **VERIFIED, **POOLED),
    # sockets
    "postgresql:///app?host=/var/run/postgresql": {"dbname": "app", "host": "/var/run/postgresql"},
    "postgresql://%2Fvar%2Frun%2Fpostgresql:5433/app": {
        "dbname": "app",
        "host": "/var/run/postgresql",
        "port": "5433",
    },
    "postgresql:///app": {"dbname": "app"},
    # several hosts
    "postgresql://ada:p@a.example,b.example:5433/app?target_session_attrs=read-write&load_balance_hosts=random": at(
        "a.example,b.example",
        ",5433",
        target_session_attrs="read-write",
        load_balance_hosts="random",
        connect_timeout="2",
        **VERIFIED,
    ),
    "postgresql+psycopg://ada:p@/app?host=a.example:5432&host=b.example:5433&sslmode=require": at(
        "a.example,b.example", "5432,5433", sslmode="require", connect_timeout="2"
    ),
    # asyncpg
    f"postgresql+asyncpg://ada:p@{HOST}/app?ssl=require": at(HOST, sslmode="require"),
    f"postgresql+asyncpg://ada:p@{HOST}/app?ssl=true&prepared_statement_cache_size=0&statement_cache_size=100": at(
        HOST, sslmode="require", prepare_threshold=None, statements=0
    ),
    f"postgresql+asyncpg://ada:p@{HOST}/app?ssl=verify-full&statement_cache_size=500&command_timeout=30&timeout=3": at(
        HOST, statements=500, timeout=30, connect_within=3, **VERIFIED
    ),
    'postgresql+asyncpg://ada:p@localhost/app?server_settings={"jit":"off","application_name":"shop"}': at(
        "localhost", application_name="shop", options="-c jit=off"
    ),
    "postgresql+asyncpg://ada:p@localhost/app?max_cached_statement_lifetime=0&async_fallback=true": at("localhost"),
    f"postgresql+asyncpg://ada:p@{HOST}/?database=app&direct_tls=true": at(HOST, sslnegotiation="direct", **VERIFIED),
    # Prisma
    "postgresql://ada:p@localhost/app?schema=Shop&connection_limit=3&pool_timeout=2&socket_timeout=7": at(
        "localhost", options='-c search_path="Shop"', max_size=3, wait=2, timeout=7, connect_within=7
    ),
    f"postgresql://ada:p@{HOST}/app?sslmode=require&sslaccept=strict": at(HOST, **VERIFIED),
    "postgresql://ada:p@localhost/app?max_connection_lifetime=60&max_idle_connection_lifetime=30": at(
        "localhost", max_lifetime=60, max_idle=30
    ),
    # libpq's own
    "postgresql://ada:p@localhost/app?application_name=shop&keepalives_idle=30&tcp_user_timeout=9000": at(
        "localhost", application_name="shop", keepalives_idle="30", tcp_user_timeout="9000"
    ),
    "postgresql://ada:p@localhost/app?options=-c%20search_path%3Dshop%20-c%20jit%3Doff": at(
        "localhost", options="-c search_path=shop -c jit=off"
    ),
    "postgresql://ada:p@localhost/app?client_encoding=utf8&uselibpqcompat=true": at(
        "localhost", client_encoding="utf8"
    ),
}

REFUSED: dict[str, str] = {
    f"postgresql://ada:p@{HOST}/app?sslmoed=require": r"'sslmoed'.*did you mean 'sslmode'",
    f"postgresql://ada:p@{HOST}/app?statement_timeout=5000": r"'statement_timeout'.*options=-c",
    f"postgresql://ada:p@{HOST}/app?sslmode=verify": r"'sslmode' can only be one of .*verify-full",
    f"postgresql+asyncpg://ada:p@{HOST}/app?ssl=yes": r"'sslmode' can only be",
    f"postgresql://ada:p@{HOST}/app?sslmode=require&sslmode=disable": r"'sslmode' twice",
    f"postgresql+asyncpg://ada:p@{HOST}/app?ssl=require&sslmode=disable": r"'sslmode' otherwise than",
    f"postgresql://ada:p@{HOST}/app?sslnegotiation=direct&direct_tls=false": r"'direct_tls' otherwise than",
    f'postgresql://ada:p@{HOST}/app?application_name=a&server_settings={{"application_name":"b"}}': r"otherwise than",
    f"postgresql://ada:p@{HOST}/app?options=-csearch_path%3Da&schema=b": r"'search_path' in `options` and once more",
    f"postgresql://ada:p@{HOST}/app?database=other": r"the dbname twice",
    f"postgresql://ada:p@{HOST}/app?password=other": r"the password twice",
    f"postgresql://ada:p@{HOST}/app?target_session_attrs=primari": r"'target_session_attrs' can only be",
    f"postgresql://ada:p@{HOST}/app?connect_timeout=0": r"'connect_timeout' can only be a number greater than 0",
    f"postgresql://ada:p@{HOST}/app?connection_limit=2.5": r"'connection_limit' can only be",
    f"postgresql://ada:p@{HOST}/app?keepalives_idle=soon": r"'keepalives_idle' can only be a whole number",
    f"postgresql://ada:p@{HOST}/app?client_encoding=latin1": r"'client_encoding' can only be",
    f"postgresql://ada:p@{HOST}/app?replication=database": r"'replication': a connection for replication",
    f"postgresql://ada:p@{HOST}/app?schema=a%22b": r"'schema' can only be",
    f"postgresql://ada:p@{HOST}/app?pgbouncer=maybe": r"'pgbouncer' can only be true or false",
    f"postgresql://ada:p@{HOST}/app?server_settings=jit": r"'server_settings' can only be a JSON object",
    f"postgresql://ada:p@{HOST}/app?statement_cache_size=many": r"'statement_cache_size' can only be",
    f"postgres://ada:p@{NEON_POOLER}/app?options=-c%20search_path%3Dx": r"keeps no settings of a session.*ALTER ROLE",
    f"postgres://ada:p@{HOST}/app?pgbouncer=true&schema=shop": r"keeps no settings of a session",
    f"postgresql://ada:p@{HOST},b.example/app?port=1,2,3": r"2 hosts and 3 ports",
    f"postgresql://ada:p@{HOST}/app?service=shop": r"the service that it names is in none of",
    f"jdbc:postgresql://{HOST}/app?user=ada": r"cannot be read",
    f"postgresql://ada:p@{HOST}/app?sslmode": r"cannot be read",
}


@pytest.mark.parametrize("url", UNDERSTOOD)
def test_what_an_address_comes_to(url: str) -> None:
    assert of(url) == UNDERSTOOD[url]


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[url]):
        of(url)


@pytest.mark.parametrize(
    "option",
    ["unheard_of=hunter2", "sslmode=hunter2", "pool_timeout=hunter2", "schema=hunter2%22", "server_settings=hunter2"],
)
def test_a_refusal_shows_the_name_and_no_value(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]) as caught:
        of(f"postgresql://ada:p@{HOST}/app?{option}")
    assert "hunter2" not in str(caught.value)
    for password in ("x?hunter2=y", "x@y?hunter2=z", "x@y?sslmode=hunter2&hunter2=z"):  # not encoded
        with pytest.raises(ConfigurationError) as caught:
            of(f"postgresql://ada:{password}@127.0.0.1/app")
        assert "hunter2" not in str(caught.value)


def test_the_settings_complete_the_address() -> None:
    url = "postgresql://ada:p@localhost/app"
    assert of(url, pooled=True) == at("localhost", **POOLED)
    assert of(url, application_name="shop", options={"sslrootcert": "/ca.pem", "keepalives": "0"}) == at(
        "localhost", application_name="shop", sslrootcert="/ca.pem", keepalives="0"
    )
    assert of(url, connect_timeout=20) == at("localhost", connect_within=20, wait=20)
    assert of(f"{url}?pool_timeout=3", pool=PostgresPoolSettings(timeout=3))["wait"] == 3
    neon = f"postgresql://ada:p@{NEON_POOLER}/app?sslmode=require"
    assert of(neon, pooled=False) == at(NEON_POOLER, sslmode="require"), "whoever says it knows better"


@pytest.mark.parametrize(
    ("option", "settings", "name"),
    [
        ("pgbouncer=true", {"pooled": False}, "pooled"),
        ("application_name=a", {"application_name": "b"}, "application_name"),
        ("sslmode=require", {"options": {"sslmode": "disable"}}, "sslmode"),
        ("pool_timeout=3", {"pool": PostgresPoolSettings(timeout=4)}, "pool.timeout"),
        ("command_timeout=3", {"timeout": 4}, "timeout"),
        ("a=b", {"options": {"sslmoed": "disable"}}, "'a'"),
        ("sslmode=require", {"options": {"sslmoed": "disable"}}, "sslmoed"),
        ("sslmode=require", {"options": {"pool_timeout": "3"}}, "a setting of its own"),
    ],
)
def test_what_address_and_settings_say_differently_is_refused(option: str, settings: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        of(f"postgresql://ada:p@localhost/app?{option}", **settings)


def test_a_service_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".pg_service.conf"
    file.write_text(f"# comment\n[shop]\nhost={HOST}\nport=5433\nuser=ada\npassword=p%1\ndbname=app\n")
    expected = at(HOST, "5433", **VERIFIED) | {"password": "p%1"}
    assert of("postgresql://?service=shop") == expected, "a host elsewhere has to prove who it is here too"
    assert of("postgresql://bob@/?service=shop") == expected | {"user": "bob"}, "what the address says comes first"
    other = file.rename(tmp_path / "other.conf")
    assert of(f"postgresql+asyncpg:///?service=shop&servicefile={other}") == expected
    monkeypatch.setenv("PGSERVICE", "shop")
    monkeypatch.setenv("PGSERVICEFILE", str(other))
    assert of("postgresql:///") == expected
    other.write_text("[shop]\nsslmoed=x\n")
    with pytest.raises(ConfigurationError, match="service file has the option 'sslmoed'"):
        of("postgresql:///")


def test_a_host_of_the_environment_has_to_prove_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", HOST)
    assert of("postgresql:///app") == {"dbname": "app", **VERIFIED}
