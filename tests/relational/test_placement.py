"""Which connection the engines lead to, and which layer's."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app.config import load
from app.config.settings import PostgresSettings, SQLiteSettings
from app.core.errors import ConfigurationError
from app.db import DataLayer
from app.db.relational import engine, get_db

POSTGRES = {"url": "postgresql://localhost/db"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "sqlite"),
        ({"connections": {"sqlite": {}, "postgres": POSTGRES}}, "postgres"),
        ({"connections": {"sqlite": {}, "postgres": {"url": "${NOT_SET_AT_ALL}"}}}, "sqlite"),
        ({"connections": {"sqlite": {}, "main": {"type": "postgres", **POSTGRES}}}, "main"),
        ({"connections": {"sqlite": {}, "postgres": POSTGRES}, "relational": {"connection": "sqlite"}}, "sqlite"),
    ],
)
async def test_the_connection_that_is_meant(config: dict[str, Any], expected: str) -> None:
    async with DataLayer.from_config(config) as data:
        assert data.relational.connection.name == expected


async def test_without_any_it_says_what_to_add() -> None:
    async with DataLayer.from_config({"connections": {"redis": {"url": "redis://localhost"}}}):
        with pytest.raises(ConfigurationError, match=r"relational: \{connection: …\}"):
            async with get_db():
                pass


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"relational": {"connection": "sqlit"}}, "did you mean 'sqlite'"),
        ({"relational": {"connection": "qdrant"}}, "one to PostgreSQL or SQLite"),
        ({"relational": {"engine": "x"}}, "unknown key 'engine'"),
    ],
)
def test_a_section_that_cannot_be(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load(config)


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_elsewhere")
def test_the_environment_names_a_database_where_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://anna:secret@db.example/app")
    settings = load()
    assert [*settings.connections] == ["sqlite", "qdrant", "postgres"]
    found = settings.connections["postgres"]
    assert isinstance(found, PostgresSettings)
    assert found.url == SecretStr("postgresql+asyncpg://anna:secret@db.example/app")
    assert settings.repositories["user"].connection == "sqlite"
    for url, path in (
        ("sqlite:///app.db", tmp_path / "app.db"),
        ("sqlite+aiosqlite:////data/app.db", Path("/data/app.db")),
        ("sqlite://", Path(":memory:")),
        ("sqlite:///:memory:", Path(":memory:")),
    ):
        monkeypatch.setenv("DATABASE_URL", url)
        section = load().connections["sqlite"]
        assert isinstance(section, SQLiteSettings)
        assert section.path == path
    monkeypatch.setenv("DATABASE_URL", "sqlite:///app.db?mode=ro")
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        load()
    monkeypatch.delenv("DATABASE_URL")
    assert [*load().connections] == ["sqlite", "qdrant"]


@pytest.mark.usefixtures("_elsewhere")
def test_a_file_says_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/db")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/default.yaml").write_text("connections: {sqlite: {}}")
    assert [*load().connections] == ["sqlite"]


async def test_two_layers_have_an_engine_each(tmp_path: Path) -> None:
    layers = [DataLayer.from_config({"data_dir": str(tmp_path / name)}) for name in ("one", "two")]
    for number, data in enumerate(layers):
        async with data:
            with engine.begin() as connection:
                connection.execute(sa.text("CREATE TABLE t (x)"))
                connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": number})
            async with get_db() as db:
                assert await db.scalar(sa.text("SELECT x FROM t")) == number


@pytest.mark.usefixtures("leaves_nothing")
def test_a_layer_that_was_forgotten_leaves_nothing_open(tmp_path: Path) -> None:
    data = DataLayer.from_config({"data_dir": str(tmp_path)})
    with data.relational.engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    del data, connection
    asyncio.run(asyncio.sleep(0))
