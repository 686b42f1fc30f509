"""The configuration files that come with the project."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from app.config import Settings, load
from app.config.settings import SQLiteSettings
from app.connections import ConnectionFactory, ConnectionType
from app.core.errors import ConfigurationError

CONFIG = Path(__file__).parents[2] / "config"

VARIABLES = {
    "mongodb": ("MONGODB_URI", "mongodb://127.0.0.1:27017/?replicaSet=rs0"),
    "redis": ("REDIS_URL", "redis://:manystore@127.0.0.1:6379/0"),
    "postgres": ("DATABASE_URL", "postgresql://manystore:manystore@127.0.0.1:5432/app"),
    "qdrant": ("QDRANT_URL", "http://127.0.0.1:6333"),
    "chromadb": ("CHROMADB_URL", "http://127.0.0.1:8000"),
}


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONGODB_DATABASE", "QDRANT_API_KEY", "OPENAI_API_KEY", *(name for name, _ in VARIABLES.values())):
        monkeypatch.delenv(name, raising=False)


def test_the_default_file_is_the_built_in_default() -> None:
    assert load(CONFIG / "default.yaml") == Settings()


def test_the_default_file_mentions_every_section_and_setting() -> None:
    """What it could set and does not would be news to who edits it; empty defaults are left to the reference."""
    given = yaml.safe_load((CONFIG / "default.yaml").read_text("utf-8"))
    assert list(given) == list(Settings.model_fields)
    defaults = Settings().model_dump(mode="json", exclude_none=True)
    for section in ("connections", "repositories", "vector_stores", "embeddings"):
        assert list(given[section]) == list(defaults[section])
        for name, entry in defaults[section].items():
            mentioned = {key for key, value in entry.items() if key != "type" and value not in ({}, [])}
            assert set(given[section][name]) == mentioned


def test_the_servers_file_takes_every_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.values():
        monkeypatch.setenv(name, value)
    settings = load(CONFIG / "servers.yaml")
    assert list(settings.connections) == list(VARIABLES)
    assert {*settings.connections} == {*ConnectionType} - {"sqlite"}
    for name, (_, value) in VARIABLES.items():
        section = settings.connections[name]
        assert not isinstance(section, SQLiteSettings)
        assert section.url is not None
        assert section.url.get_secret_value() == value
    assert {name: each.connection for name, each in settings.repositories.items()} == {
        "user": "mongodb",
        "signup_session": "redis",
    }
    assert settings.cache.connection == "redis"


@pytest.mark.parametrize("name", VARIABLES)
def test_every_connection_of_the_servers_file_has_its_manager(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, value = VARIABLES[name]
    monkeypatch.setenv(variable, value)
    connections = ConnectionFactory(load(CONFIG / "servers.yaml"))
    assert connections.get_connection_manager(name).connection_type == name
    assert connections.list_available_connections() == [name]
    manager = connections.get_connection_manager(name)
    assert str(urlsplit(value).hostname) in str(manager.get_connection_info())


@pytest.mark.parametrize("name", VARIABLES)
def test_a_connection_without_its_variable_raises_and_names_it(name: str) -> None:
    connections = ConnectionFactory(load(CONFIG / "servers.yaml"))
    with pytest.raises(
        ConfigurationError, match=f"the connection '{name}' is not configured: set {VARIABLES[name][0]}$"
    ):
        connections.get_connection_manager(name)
    assert not connections.is_connection_available(name)
    assert connections.get_connection_status()[name].endswith(f"set {VARIABLES[name][0]}")
    assert connections.list_available_connections() == []


def test_the_compose_file_has_every_server_on_this_machine_alone() -> None:
    compose = yaml.safe_load((CONFIG / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    assert set(services) == set(VARIABLES)
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert ":" in service["image"].partition("/")[2] or ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
        assert "healthcheck" in service, name
        assert [volume.partition(":")[0] for volume in service["volumes"]] == [name]
    assert set(compose["volumes"]) == set(services)


def test_the_addresses_in_the_comments_are_those_of_the_compose_file() -> None:
    text = (CONFIG / "servers.yaml").read_text("utf-8")
    for variable, value in VARIABLES.values():
        assert f'"${{{variable}}}"' in text
        assert f"# {value}" in text
