from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import SecretStr

from app.config.settings import PostgresSettings
from app.connections.postgres import PostgresConnectionManager


@pytest.fixture
def url(postgres_schemas: Callable[[], str]) -> str:
    return postgres_schemas()


@pytest.fixture
async def manager(url: str) -> AsyncIterator[PostgresConnectionManager]:
    async with PostgresConnectionManager(PostgresSettings(url=SecretStr(url))) as manager:
        yield manager
