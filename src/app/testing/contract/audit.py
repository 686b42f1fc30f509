"""The audit log: who changed what, for every write that was acknowledged and for no other."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from ...core.actor import acting_as
from ...core.errors import (
    ConfigurationError,
    DuplicateRecordError,
    InvalidChangeError,
    InvalidFilterError,
    StaleRecordError,
)
from ...db.backends.base import Capability
from ...db.repositories.journaled import AuditEntry
from ..models import Account, Accounts, AuditedProducts, Product, Products, fill
from .base import Contract, Place
from .history import InterruptedWorkError, moment

_MANAGED = ("version", "updated_at", "deleted_at")


async def oldest_first(repository: Any, id: str | None = None) -> list[AuditEntry]:
    entries: list[AuditEntry] = await repository.audit_log(id, limit=1000)
    assert {entry.outcome for entry in entries} <= {"applied"}
    return entries[::-1]


def changes(entry: AuditEntry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Before and after without what the library sets."""
    before, after = ({k: v for k, v in each.items() if k not in _MANAGED} for each in (entry.before, entry.after))
    return before, after


class AuditContract(Contract):
    @pytest.fixture
    def accounts(self, place: Place) -> Accounts:
        accounts: Accounts = place(Accounts)
        return accounts

    async def test_what_is_no_moment_is_an_error(self, accounts: Accounts) -> None:
        for wrong in ("2026", 5, datetime(2026, 1, 1)):  # noqa: DTZ001 - refused for that
            for call in (
                lambda wrong=wrong: accounts.audit_log(since=wrong),
                lambda wrong=wrong: accounts.audit_log(until=wrong),
                lambda wrong=wrong: accounts.as_of("1", wrong),
            ):
                with pytest.raises(InvalidFilterError):
                    await call()
        unknown: Any = "x"
        with pytest.raises(InvalidFilterError):
            await accounts.audit_log(after=unknown)

    async def test_every_write_path_leaves_its_row(self, accounts: Accounts) -> None:
        async def last(number: int = 1) -> list[tuple[str, str, Any, Any]]:
            entries = (await accounts.audit_log(limit=number))[::-1]
            return [(entry.record, entry.action, *changes(entry)) for entry in entries]

        await accounts.create(Account(id="1", name="a"))
        [(record, action, before, after)] = await last()
        assert (record, action, before, after["name"], after["balance"]) == ("1", "CREATE", {}, "a", 0)
        await accounts.create_many([Account(id="2", name="b"), Account(id="3", name="c")])
        assert [each[:2] for each in await last(2)] == [("2", "CREATE"), ("3", "CREATE")]
        assert await accounts.put_if_absent(Account(id="4", name="d"))
        assert [each[:2] for each in await last()] == [("4", "CREATE")]
        await accounts.update("1", {"name": "x", "balance": 0})
        assert await last() == [("1", "UPDATE", {"name": "a"}, {"name": "x"})]
        await accounts.increment("1", "balance", 5)
        assert await last() == [("1", "UPDATE", {"balance": 0}, {"balance": 5})]
        await accounts.compare_and_set("1", {"balance": 5}, {"notes": {"k": [1, None]}})
        assert await last() == [("1", "UPDATE", {"notes": {}}, {"notes": {"k": [1, None]}})]
        await accounts.upsert(Account(id="1", name="x"))
        assert await last() == [("1", "UPDATE", {"balance": 5, "notes": {"k": [1, None]}}, {"balance": 0, "notes": {}})]
        await accounts.upsert(Account(id="9", name="x", balance=7), on="name")
        assert await last() == [("1", "UPDATE", {"balance": 0}, {"balance": 7})]
        assert await accounts.update_many({"name": {"$in": ["b", "c"]}}, {"balance": 1}) == 2
        assert sorted(await last(2)) == [(each, "UPDATE", {"balance": 0}, {"balance": 1}) for each in "23"]
        assert await accounts.upsert_many([Account(id="2", name="b"), Account(id="5", name="e")]) == 2
        assert sorted(each[:2] for each in await last(2)) == [("2", "UPDATE"), ("5", "CREATE")]
        account = await accounts.get_or_raise("3")
        account.balance = 2
        await accounts.save(account)
        assert await last() == [("3", "UPDATE", {"balance": 1}, {"balance": 2})]
        await accounts.delete("4")
        await accounts.restore("4")
        assert [each[:2] for each in await last(2)] == [("4", "DELETE"), ("4", "RESTORE")]
        await accounts.delete_many({"name": {"$in": ["c", "d"]}})
        assert sorted(each[:2] for each in await last(2)) == [("3", "DELETE"), ("4", "DELETE")]
        await accounts.purge()
        assert sorted(each[:2] for each in await last(2)) == [("3", "PURGE"), ("4", "PURGE")]
        await accounts.delete("5", hard=True)
        [(record, action, before, after)] = await last()
        assert (record, action, before["name"], after) == ("5", "DELETE", "e", {})
        assert len(await accounts.audit_log()) == 21

    async def test_versions_are_audited_without_a_gap(self, accounts: Accounts) -> None:
        await accounts.create(Account(id="1", name="a"))
        await asyncio.gather(*(accounts.increment("1", "balance") for _ in range(20)))
        entries = (await oldest_first(accounts, "1"))[1:]
        chain = sorted((entry.before["version"], entry.after["version"]) for entry in entries)
        assert chain == [(i, i + 1) for i in range(1, 21)]
        assert all(entry.after["balance"] == entry.after["version"] - 1 for entry in entries)

    async def test_without_versions_and_soft_deletes(self, place: Place) -> None:
        products: AuditedProducts = place(AuditedProducts)
        await fill(products, "a", "b")
        await asyncio.gather(*(products.increment("id-a", "sold") for _ in range(10)))
        await products.upsert(Product(name="x", sku="b"), on="sku")
        await products.delete("id-b")
        entries = await oldest_first(products)
        assert [entry.action for entry in entries] == ["CREATE"] * 2 + ["UPDATE"] * 11 + ["DELETE"]
        assert sorted(entry.before["sold"] or 0 for entry in entries[2:12]) == [*range(10)]
        assert (entries[12].before, entries[12].after) == ({"name": "b"}, {"name": "x"})
        assert (entries[13].before["name"], entries[13].after) == ("x", {})

    async def test_what_was_not_written_has_no_row(self, accounts: Accounts) -> None:
        await accounts.create_many([Account(id="1", name="a"), Account(id="2", name="b")])
        for refused, error in (
            (lambda: accounts.create(Account(name="a")), DuplicateRecordError),
            (lambda: accounts.create_many([Account(name="c"), Account(name="a")]), DuplicateRecordError),
            (lambda: accounts.update("1", {"name": "b"}), DuplicateRecordError),
            (lambda: accounts.upsert(Account(id="3", name="a")), DuplicateRecordError),
            (lambda: accounts.update("1", {"balance": 1}, version=7), StaleRecordError),
            (lambda: accounts.delete("1", version=7), StaleRecordError),
            (lambda: accounts.update("1", {"version": 7}), InvalidChangeError),
        ):
            with pytest.raises(error):
                await refused()
        assert await accounts.compare_and_set("1", {"balance": 7}, {"balance": 8}) is None
        assert await accounts.put_if_absent(Account(id="2", name="z")) is False
        assert await accounts.update_many({"name": "z"}, {"balance": 1}) == 0
        assert await accounts.delete_many({"name": "z"}) == 0
        assert await accounts.delete("none") is False
        assert await accounts.restore("1") is None
        assert [entry.action for entry in await oldest_first(accounts)] == ["CREATE", "CREATE"]

    async def test_no_secret_is_in_the_log(self, accounts: Accounts) -> None:
        secrets = {"password_hash": "hunter2-a", "token": "hunter2-b", "phrase": "hunter2-c"}
        account = Account(id="1", name="a", pin=SecretStr("hunter2-d"), notes={"password": "hunter2-e"}, **secrets)
        await accounts.create(account)
        for name in secrets:
            await accounts.update("1", {name: "hunter2-f"})
        await accounts.update("1", {"pin": "hunter2-g", "notes": {"list": [{"password_hash": "hunter2-h"}]}})
        await accounts.upsert(Account(id="1", name="a", phrase="hunter2-i"))
        await accounts.delete("1", hard=True)
        entries = await oldest_first(accounts)
        assert "hunter2" not in repr(entries)
        assert [changes(entry) for entry in entries[1:4]] == [({name: "***"}, {name: "***"}) for name in secrets]
        assert changes(entries[4])[1] == {"pin": "***", "notes": {"list": [{"password_hash": "***"}]}}
        assert "balance" in entries[0].after

    async def test_the_actor(self, accounts: Accounts) -> None:
        async def create(name: str) -> None:
            await asyncio.sleep(0)
            await accounts.create(Account(id=name, name=name))

        async def act(name: str) -> None:
            with acting_as(name):
                await create(f"{name}-self")
                await asyncio.gather(create(f"{name}-task"), asyncio.create_task(create(f"{name}-more")))
                with acting_as(f"{name}'s"):
                    await create(f"{name}-inner")
                await create(f"{name}-after")

        await create("nobody")
        await asyncio.gather(act("alice"), act("bob"))
        with pytest.raises(InterruptedWorkError), acting_as("carol"):
            raise InterruptedWorkError
        await create("nobody-again")
        actors = {entry.record: entry.actor for entry in await oldest_first(accounts)}
        assert actors == {
            "nobody": None,
            "nobody-again": None,
            **{f"{name}-{what}": name for name in ("alice", "bob") for what in ("self", "task", "more", "after")},
            **{f"{name}-inner": f"{name}'s" for name in ("alice", "bob")},
        }
        for wrong in (None, 5, "", "\0", "\ud800"):
            with pytest.raises((TypeError, ValueError)), acting_as(wrong):  # type: ignore[arg-type]
                pass

    async def test_asking_the_log(self, accounts: Accounts) -> None:
        with acting_as("alice"):
            await accounts.create_many(Account(id=f"{i}", name=f"{i}") for i in range(5))
        between = await moment()
        with acting_as("bob"):
            await accounts.update_many(None, {"balance": 1}, everything=True)
            await accounts.delete("0")
        log = accounts.audit_log
        assert [entry.action for entry in await log("0")] == ["DELETE", "UPDATE", "CREATE"]
        assert len(await log(actor="alice")) == 5
        assert {entry.actor for entry in await log(since=between)} == {"bob"}
        assert {entry.actor for entry in await log(until=between)} == {"alice"}
        assert [entry.record for entry in await log(action="DELETE", actor="bob", since=between)] == ["0"]
        assert await log("none") == await log(actor="carol") == await log("\0") == []
        everything = await log()
        assert len(everything) == 11
        assert [(entry.at, entry.id) for entry in everything] == sorted(
            ((entry.at, entry.id) for entry in everything), reverse=True
        )
        pages: list[AuditEntry] = []
        while page := await log(limit=3, after=pages[-1] if pages else None):
            assert len(page) <= 3
            pages += page
        assert pages == everything
        with pytest.raises(ValueError, match="NEVER"):
            await log(action="NEVER")

    async def test_in_a_transaction(self, accounts: Accounts) -> None:
        await accounts.create(Account(id="1", name="a"))
        if Capability.TRANSACTIONS not in accounts.capabilities:
            pytest.skip("the store has no transactions")
        with pytest.raises(InterruptedWorkError):
            async with accounts.transaction() as tx:
                await tx.update("1", {"balance": 1})
                await tx.delete("1")
                assert [entry.action for entry in await tx.audit_log()] == ["DELETE", "UPDATE", "CREATE"]
                raise InterruptedWorkError
        assert len(await oldest_first(accounts)) == 1
        async with accounts.transaction() as tx:
            with acting_as("alice"):
                await tx.update("1", {"balance": 1})
                await tx.upsert_many([Account(id="1", name="x"), Account(id="2", name="b")])
            if Capability.SAVEPOINTS in accounts.capabilities:
                with pytest.raises(DuplicateRecordError):
                    await tx.upsert_many([Account(id="2", name="c"), Account(id="3", name="x")])
        assert [each.name for each in await accounts.all()] == ["x", "b"]
        entries = await oldest_first(accounts)
        assert [(entry.action, entry.actor) for entry in entries[:2]] == [("CREATE", None), ("UPDATE", "alice")]
        assert sorted(entry.action for entry in entries[2:]) == ["CREATE", "UPDATE"]

    async def test_moments_are_those_of_the_writes(self, accounts: Accounts) -> None:
        before = datetime.now(UTC)
        await accounts.create(Account(id="1", name="a"))
        [entry] = await oldest_first(accounts)
        assert 0 <= (entry.at - before).total_seconds() + 0.001 < 30

    async def test_auditing_has_to_be_declared(self, products: Products) -> None:
        with pytest.raises(ConfigurationError, match="audited"):
            await products.audit_log()
