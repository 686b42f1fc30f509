"""The two databases that sessions work on, each with a place of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.db import DataLayer
from app.db.relational import create_all

from .models import Model


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    sections: dict[str, Any] = {"synchronous": "normal"}
    if database == "postgres":
        sections = {"url": request.getfixturevalue("postgres_schemas")(), "pool": {"max_size": 5}}
    return {"data_dir": str(tmp_path), "connections": {database: sections}}


@pytest.fixture
async def data(config: dict[str, Any]) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config(config) as layer:
        await create_all(Model.metadata)
        yield layer


@pytest.fixture
async def sqlite_data(tmp_path: Path) -> AsyncIterator[DataLayer]:
    connections = {"sqlite": {"synchronous": "normal", "timeout": 10}}
    async with DataLayer.from_config({"data_dir": str(tmp_path), "connections": connections}) as layer:
        await create_all(Model.metadata)
        yield layer
