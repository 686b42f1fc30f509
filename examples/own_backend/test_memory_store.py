"""The library's contract on the backend of this folder: `pytest -o asyncio_mode=auto examples/own_backend`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from memory_store import MemoryManager

from app.db import DataLayer
from app.testing import contract
from app.testing.contract import OpenPlace, Place


@pytest.fixture
def open_place() -> OpenPlace:
    manager = MemoryManager()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Place]:
        async with manager:
            yield lambda repository: repository(manager)

    return opened


class TestRecords(contract.RecordContract):
    pass


class TestChanges(contract.ChangeContract):
    pass


class TestQueries(contract.QueryContract):
    pass


class TestPages(contract.PageContract):
    pass


class TestStreams(contract.StreamContract):
    pass


class TestUpserts(contract.UpsertContract):
    pass


class TestSoftDeletes(contract.SoftDeleteContract):
    pass


class TestVersions(contract.VersionContract):
    pass


class TestCaching(contract.CachingContract):
    pass


class TestHistory(contract.HistoryContract):
    pass


class TestAudit(contract.AuditContract):
    pass


class TestAggregates(contract.AggregateContract):
    pass


class TestTransactions(contract.TransactionContract):
    pass


async def test_an_application_in_memory(data_layer: DataLayer) -> None:
    users = data_layer.repository("user")
    created = await users.create_user("ann@example.com", "ann", "Ann", "Lee", "$2b$12$" + "x" * 53)
    assert created is not None
    assert await users.get_user_by_email("ANN@example.com") == created


async def test_each_test_begins_empty(data_layer: DataLayer) -> None:
    assert await data_layer.repository("user").count() == 0
