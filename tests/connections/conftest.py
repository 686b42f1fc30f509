"""The server that the tests of connections share, where they do nothing to it."""

import asyncio
from collections.abc import Iterator

import pytest

from .embedded.engines import make_engine


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = make_engine("postgres")
    with asyncio.Runner() as runner:
        lease = runner.run(engine.acquire(tmp_path_factory.mktemp("postgres")))
        yield lease.url
        runner.run(lease.release())
