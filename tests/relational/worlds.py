"""One store of a data layer, with its repositories and with sessions on the same tables."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.db import DataLayer
from app.db.relational import Session

__all__ = ["World", "section", "store", "world"]


class World:
    """One store, by a repository and by an engine of SQLAlchemy's."""

    def __init__(self, data: DataLayer) -> None:
        self.data = data

    @property
    def engine(self) -> sa.Engine:
        return self.data.relational.engine

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Commits at the end."""
        with Session(self.engine) as session:
            yield session
            session.commit()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def section(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    if store == "sqlite":
        return {"path": str(tmp_path / "both.db"), "synchronous": "normal"}
    return {"url": request.getfixturevalue("postgres_schemas")()}


@pytest.fixture
async def world(store: str, section: dict[str, Any]) -> AsyncIterator[World]:
    async with DataLayer.from_config({"connections": {store: section}}) as data:
        yield World(data)
