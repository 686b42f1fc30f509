"""The contract that `app.testing` publishes, on every store of the library."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.db import DataLayer
from app.testing import contract
from app.testing.contract import OpenPlace, Place


@pytest.fixture
def open_place(config: dict[str, Any]) -> OpenPlace:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Place]:
        async with DataLayer.from_config(config) as data:
            yield data.repository

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


class TestAttribution(contract.AttributionContract):
    pass


class TestCaching(contract.CachingContract):
    pass


class TestAggregates(contract.AggregateContract):
    pass


class TestTransactions(contract.TransactionContract):
    pass
