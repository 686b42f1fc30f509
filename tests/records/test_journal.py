"""History and audit log: their contract on every store, and the whole contract with both of them behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.db import CachePolicy, DataLayer, Repository, Versioned
from app.db.backends import BackendRegistry, Capability
from app.testing import contract
from app.testing.contract import OpenPlace, Place

from .stand_in import stands_in


def journaled(repository: type[Repository[Any]]) -> type[Repository[Any]]:
    """The repository with everything declared that its model can have: one class for each."""
    if repository in _journaled:
        return _journaled[repository]
    kept = CachePolicy(ttl=60)
    declared = {"audited": True, "keeps_history": issubclass(repository.model, Versioned), "cache": kept}
    return _journaled.setdefault(repository, type(repository.__name__, (repository,), declared))


_journaled: dict[type[Repository[Any]], type[Repository[Any]]] = {}


@pytest.fixture
def open_place(config: dict[str, Any], store: str, request: pytest.FixtureRequest) -> OpenPlace:
    with_journal = getattr(request.cls, "with_journal", False)
    if with_journal and stands_in(store):
        pytest.skip("where the stand-in for MongoDB fails the contract is known without a journal")

    @asynccontextmanager
    async def opened() -> AsyncIterator[Place]:
        async with DataLayer.from_config(config) as data:
            if with_journal:
                yield lambda repository: data.repository(journaled(repository))
            else:
                yield data.repository

    return opened


@pytest.fixture
def without_transactions(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = BackendRegistry.get(store)
    monkeypatch.setattr(backend, "capabilities", backend.capabilities - {Capability.TRANSACTIONS})


class TestHistory(contract.HistoryContract):
    pass


class TestAudit(contract.AuditContract):
    pass


@pytest.mark.usefixtures("without_transactions")
class TestHistoryWithoutTransactions(contract.HistoryContract):
    pass


@pytest.mark.usefixtures("without_transactions")
class TestAuditWithoutTransactions(contract.AuditContract):
    pass


class TestRecordsWithAJournal(contract.RecordContract):
    with_journal = True


class TestChangesWithAJournal(contract.ChangeContract):
    with_journal = True


class TestUpsertsWithAJournal(contract.UpsertContract):
    with_journal = True


class TestSoftDeletesWithAJournal(contract.SoftDeleteContract):
    with_journal = True


class TestVersionsWithAJournal(contract.VersionContract):
    with_journal = True


class TestTransactionsWithAJournal(contract.TransactionContract):
    with_journal = True


@pytest.mark.usefixtures("without_transactions")
class TestChangesWithIntents(contract.ChangeContract):
    with_journal = True


@pytest.mark.usefixtures("without_transactions")
class TestUpsertsWithIntents(contract.UpsertContract):
    with_journal = True


@pytest.mark.usefixtures("without_transactions")
class TestVersionsWithIntents(contract.VersionContract):
    with_journal = True
