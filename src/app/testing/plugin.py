"""A pytest plugin: `pytest_plugins = ["app.testing.plugin"]` in the conftest.py at the root of an application's tests.

It is not loaded by itself, since an application that is called `app` too would hide it.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..db.data_layer import DataLayer


@pytest.fixture
def data_layer(tmp_path: Path) -> Iterator[DataLayer]:
    """A DataLayer of its own for each test: records and sessions in memory, vectors in the test's own folder.

    While the test runs it is the current one, so `UserRepository()` and `RepositoryRegistry.get("user")` mean it too.
    A session's first use of a vector store loads the embedding model, which takes a second.
    """
    config = {"data_dir": str(tmp_path), "connections": {"sqlite": {"path": ":memory:"}, "qdrant": {"url": "embedded"}}}
    layer = DataLayer.from_config(config)
    try:
        yield layer
    finally:
        asyncio.run(layer.close())
