"""Writers in each other's way: what the one read before its change is still there when it changes it."""

import asyncio
from typing import Any

import pytest

from app.core.errors import ConfigurationError, OutcomeUnknownError, TransactionError
from app.db import AuditedRepository, DataLayer, Entity, Versioned, acting_as
from app.db.backends import BackendRegistry, Capability
from app.db.middleware.audit import Audit
from app.db.query.operations import Upsert
from app.testing.models import Account, Accounts, AuditedProducts, Product

from .stand_in import stands_in


def without_transactions(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = BackendRegistry.get(store)
    monkeypatch.setattr(backend, "capabilities", backend.capabilities - {Capability.TRANSACTIONS})


class Counter(Entity, Versioned):
    name: str = ""
    number: int = 0


class Counters(AuditedRepository[Counter]):
    pass


@pytest.mark.parametrize("with_transactions", [True, False], ids=["transactions", "intents"])
async def test_two_processes_see_each_other_before_they_write(
    config: dict[str, Any], store: str, monkeypatch: pytest.MonkeyPatch, *, with_transactions: bool
) -> None:
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB loses updates")
    if not with_transactions:
        without_transactions(store, monkeypatch)
    async with DataLayer.from_config(config) as one, DataLayer.from_config(config) as other:
        writers = [layer.repository(AuditedProducts) for layer in (one, other)]
        await writers[0].create(Product(id="1", name="a"))
        for _ in range(15):
            await asyncio.gather(*(each.increment("1", "sold") for each in writers for _ in range(2)))
        entries = await writers[0].audit_log("1", action="UPDATE")
        assert sorted((entry.before["sold"] or 0, entry.after["sold"]) for entry in entries) == [
            (i, i + 1) for i in range(60)
        ]


@pytest.mark.parametrize("with_transactions", [True, False], ids=["transactions", "intents"])
async def test_two_processes_upsert_one_new_record(
    config: dict[str, Any], store: str, monkeypatch: pytest.MonkeyPatch, *, with_transactions: bool
) -> None:
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB ignores $setOnInsert")
    if not with_transactions:
        without_transactions(store, monkeypatch)
    async with DataLayer.from_config(config) as one, DataLayer.from_config(config) as other:
        writers = [layer.repository(Accounts) for layer in (one, other)]
        for number in range(15):
            name = f"n{number}"
            stored = await asyncio.gather(*(each.upsert(Account(name=name), on="name") for each in writers))
            assert stored[0].id == stored[1].id
            entries = (await writers[0].audit_log(stored[0].id))[::-1]
            assert [(entry.action, entry.after["version"]) for entry in entries] == [("CREATE", 1), ("UPDATE", 2)]
            assert [state.version for state in await writers[0].history(stored[0].id)] == [1, 2]


@pytest.mark.parametrize("several", [False, True])
async def test_what_an_upsert_was_to_change_goes_before_it_does(
    config: dict[str, Any], store: str, monkeypatch: pytest.MonkeyPatch, *, several: bool
) -> None:
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB ignores $setOnInsert")
    without_transactions(store, monkeypatch)
    async with DataLayer.from_config(config) as layer:
        accounts = layer.repository(Accounts)
        old = await accounts.create(Account(name="a"))
        carry_out = Audit._carry_out_alone

        async def later(self: Audit, operation: Any, *given: Any) -> Any:
            if isinstance(operation, Upsert):
                monkeypatch.setattr(Audit, "_carry_out_alone", carry_out)
                assert await accounts.delete(old.id)
            return await carry_out(self, operation, *given)

        monkeypatch.setattr(Audit, "_carry_out_alone", later)
        if several:
            await accounts.upsert_many([Account(id="new", name="a"), Account(id="other", name="b")], on="name")
        else:
            await accounts.upsert(Account(id="new", name="a"), on="name")
        entries = await accounts.audit_log("new")
        assert [(entry.action, entry.before, entry.after["version"]) for entry in entries] == [("CREATE", {}, 1)]
        assert [entry.action for entry in await accounts.audit_log(old.id)] == ["DELETE", "CREATE"]
        assert [state.version for state in await accounts.history("new")] == [1]


async def test_a_change_of_many_meets_a_new_record(config: dict[str, Any], store: str) -> None:
    """Whatever another writer adds meanwhile is changed with its row, or not at all."""
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB has no transactions")
    async with DataLayer.from_config(config) as one, DataLayer.from_config(config) as other:
        first, second = one.repository(Counters), other.repository(Counters)
        for number in range(10):
            await asyncio.gather(
                first.update_many({"number": {"$gte": 0}}, {"name": f"{number}"}),
                second.create_many([Counter(id=f"{number}-{i}") for i in range(3)]),
                second.update_many({"number": {"$gte": 0}}, {"name": f"-{number}"}),
            )
        entries = await first.audit_log(limit=1000)
        for counter in await first.all():
            own = sorted(entry.after["version"] for entry in entries if entry.record == counter.id)
            assert own == list(range(1, counter.version + 1))


async def test_in_the_callers_transaction_a_conflict_is_the_callers(config: dict[str, Any], store: str) -> None:
    if store != "redis":
        pytest.skip("on the other stores the second writer waits")
    async with DataLayer.from_config(config) as data:
        counters = data.repository(Counters)
        await counters.create(Counter(id="1"))

        async def overtaken() -> None:
            async with counters.transaction() as tx:
                await tx.increment("1", "number")
                await counters.increment("1", "number")

        with pytest.raises(TransactionError):
            await overtaken()
        assert [entry.after["version"] for entry in await counters.audit_log("1")] == [2, 1]


async def test_a_row_that_cannot_be_completed_is_no_acknowledged_write(
    config: dict[str, Any], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transactions: the log breaks after the record is written."""
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB finds no intent again")
    backend = BackendRegistry.get(store)
    monkeypatch.setattr(backend, "capabilities", backend.capabilities - {Capability.TRANSACTIONS})
    async with DataLayer.from_config(config) as data:
        counters = data.repository(Counters)
        await counters.create(Counter(id="1"))
        update = backend.update

        async def broken(self: Any, operation: Any) -> Any:
            if self.schema.name.endswith("_audit"):
                raise TransactionError("broken")
            return await update(self, operation)

        monkeypatch.setattr(backend, "update", broken)
        with pytest.raises(OutcomeUnknownError, match="audit log"):
            await counters.increment("1", "number")
        [entry, _] = await counters.audit_log("1")
        assert (entry.action, entry.outcome, entry.after["number"]) == ("UPDATE", "applied", 1)


async def test_the_settings_decide_over_the_class(config: dict[str, Any], store: str) -> None:
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB gives a datetime back as text")
    section = {"connection": store, "audited": False, "keeps_history": True}
    async with DataLayer.from_config({**config, "repositories": {"counters": section}}) as data:
        counters = data.repository(Counters)
        await counters.create(Counter(id="1"))
        assert [state.version for state in await counters.history("1")] == [1]
        with pytest.raises(ConfigurationError, match="audited: true"):
            await counters.audit_log()


def test_without_await(config: dict[str, Any], store: str) -> None:
    if stands_in(store):
        pytest.skip("the stand-in for MongoDB gives a datetime back as text")
    with DataLayer.from_config(config).sync() as data:
        accounts = data.repository(Accounts)
        with acting_as("alice"):
            accounts.create(Account(id="1", name="a"))
            with accounts.transaction() as tx:
                tx.update("1", {"balance": 1})
        assert [entry.actor for entry in accounts.audit_log("1")] == ["alice", "alice"]
        assert [state.entity.balance for state in accounts.history("1")] == [0, 1]
