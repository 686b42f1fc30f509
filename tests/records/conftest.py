"""The stores that the contract runs on, each with a place of its own; a new store joins by its section here."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.connections.base import ConnectionManager
from app.db import DataLayer
from app.db.backends import BackendRegistry

SECTIONS: dict[str, dict[str, Any]] = {"sqlite": {"path": "records.db", "synchronous": "normal"}}


@pytest.fixture(params=BackendRegistry.names())
def store(request: pytest.FixtureRequest) -> str:
    """A store of the library, by its connection type."""
    return str(request.param)


@pytest.fixture
def config(store: str, tmp_path: Path) -> dict[str, Any]:
    return {
        "data_dir": str(tmp_path),
        "connections": {store: SECTIONS[store]},
        "repositories": {"user": {"connection": store}, "signup_session": {"connection": store}},
    }


@pytest.fixture
async def data(config: dict[str, Any]) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config(config) as layer:
        yield layer


@pytest.fixture
def manager(data: DataLayer, store: str) -> ConnectionManager[Any]:
    return data.connections.get_connection_manager(store)
