"""`migrate=True`: what is pending is applied before anything else is used, or nothing can be."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import ConfigurationError, MigrationError
from app.db import DataLayer


@pytest.fixture
async def config(tmp_path: Path) -> dict[str, Any]:
    found = {
        "data_dir": str(tmp_path),
        "connections": {"sqlite": {"path": "app.db"}},
        "repositories": {"user": {"connection": "sqlite"}},
        "migrations": {"path": str(tmp_path / "migrations")},
    }
    async with DataLayer.from_config(found) as data:
        await data.migrations.of("sqlite").new("create")
    return found


async def states(data: DataLayer) -> list[str]:
    return [each.state for each in await data.migrations.of("sqlite").status()]


async def test_entering_applies_what_is_pending(config: dict[str, Any]) -> None:
    async with DataLayer.from_config(config) as data:
        assert await states(data) == ["pending"]
    for _ in range(2):
        async with DataLayer.from_config(config, migrate=True) as data:
            assert await states(data) == ["applied"]
            assert await data.repository("user").count() == 0


async def test_so_does_starting(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config, migrate=True)
    try:
        for use in (
            lambda: data.connection("sqlite"),
            lambda: data.repository("user"),
            lambda: data.transaction("sqlite"),
            lambda: data.vector_store("documents"),
            lambda: data.relational,
        ):
            with pytest.raises(ConfigurationError, match=r"await data\.start\(\)"):
                use()
        await data.start()
        await data.start()
        assert await states(data) == ["applied"]
        assert await data.repository("user").count() == 0
    finally:
        await data.close()


def test_and_the_sync_face(config: dict[str, Any]) -> None:
    with DataLayer.from_config(config, migrate=True).sync() as data:
        assert data.repository("user").count() == 0
        assert [each.state for each in data.migrations.of("sqlite").status()] == ["applied"]


async def test_a_failing_migration_leaves_nothing_open(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "migrations" / "sqlite" / "001_create.py"
    path.write_text(path.read_text().replace("def upgrade() -> None:", "def upgrade() -> None:\n    raise OSError"))
    data = DataLayer.from_config(config, migrate=True)
    with pytest.raises(MigrationError, match="001_create"):
        async with data:
            pytest.fail("it was entered")
    assert data.closed

    def enter() -> None:
        with DataLayer.from_config(config, migrate=True).sync():
            pytest.fail("it was entered")

    with pytest.raises(MigrationError, match="001_create"):
        await asyncio.to_thread(enter)


async def test_without_it_first_use_says_what_is_missing(config: dict[str, Any]) -> None:
    async with DataLayer.from_config(config, migrate=True) as data:
        await data.migrations.of("sqlite").down()
    async with DataLayer.from_config(config) as data:
        with pytest.raises(MigrationError, match="manystore migrate up"):
            await data.repository("user").count()
