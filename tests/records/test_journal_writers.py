"""Two writers at once, doing whatever comes to them: no version is lost, and no write is without its row."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from app.core.actor import acting_as
from app.core.errors import DuplicateRecordError, RecordNotFoundError, StaleRecordError, TransactionError
from app.db import CachePolicy, DataLayer
from app.db.backends import BackendRegistry, Capability
from app.testing.models import Account, Accounts

from .stand_in import stands_in


class KeptAccounts(Accounts):
    """Everything that the library does to a record, all at once."""

    cache = CachePolicy(ttl=60)


REFUSED = (DuplicateRecordError, RecordNotFoundError, StaleRecordError)
Do = Callable[[Accounts, str, str], Awaitable[object]]


async def save(accounts: Accounts, key: str, _: str) -> object:
    account = await accounts.get_or_raise(key)
    account.balance += 1
    return await accounts.save(account)


async def several(accounts: Accounts, key: str, name: str) -> int:
    """In a transaction of the caller's, which a store may refuse because of the other writer."""
    try:
        async with accounts.transaction() as tx:
            written = await tx.put_if_absent(Account(id=key, name=name)) + await tx.delete(key)
    except TransactionError:
        return 0
    return int(written)


OPERATIONS: dict[str, Do] = {
    "create": lambda accounts, key, name: accounts.create(Account(id=key, name=name)),
    "put": lambda accounts, key, name: accounts.put_if_absent(Account(id=key, name=name)),
    "update": lambda accounts, key, name: accounts.update(key, {"name": name}),
    "increment": lambda accounts, key, _: accounts.increment(key, "balance"),
    "versioned": lambda accounts, key, _: accounts.update(key, {"balance": 5}, version=2),
    "save": save,
    "upsert": lambda accounts, key, name: accounts.upsert(Account(id=key, name=name), on="name"),
    "all": lambda accounts, key, _: accounts.update_many({"id": {"$startswith": key[:-1]}}, {"balance": 3}),
    "mark": lambda accounts, key, _: accounts.delete(key),
    "restore": lambda accounts, key, _: accounts.restore(key),
    "revert": lambda accounts, key, _: accounts.revert(key, 1),
    "purge": lambda accounts, key, _: accounts.only_deleted().delete(key, hard=True),
    "several": several,
}
NEEDS_TRANSACTIONS = {"all", "several"}


def writers(config: dict[str, Any], how: str) -> type[RuleBasedStateMachine]:
    """A machine on a store: the writers are `together` in one process with a cache, or apart as two processes would be,
    with transactions or with `intents`.
    """
    apart = how != "together"
    operations = sorted(OPERATIONS.keys() - (NEEDS_TRANSACTIONS if how == "intents" else set()))
    given = st.tuples(st.sampled_from(operations), st.integers(0, 2), st.integers(0, 2))

    class Writers(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.layers = [DataLayer.from_config(config) for _ in range(2 if apart else 1)]
            kind = Accounts if apart else KeptAccounts
            self.writers = [(self.layers * 2)[number].repository(kind) for number in range(2)]
            self.prefix = f"{uuid4().hex}-"
            self.written = 0

        @rule(first=given, second=given)
        def write(self, first: tuple[str, int, int], second: tuple[str, int, int]) -> None:
            self.runner.run(self.together(first, second))

        async def together(self, *given: tuple[str, int, int]) -> None:
            one, other = (self.one(*each) for each in zip(self.writers, given, ("alice", "bob"), strict=True))
            self.written += sum(await asyncio.gather(one, other))
            await self.check()

        async def one(self, accounts: Accounts, given: tuple[str, int, int], actor: str) -> int:
            """How many records it wrote."""
            operation, key, name = given
            with acting_as(actor):
                try:
                    done = await OPERATIONS[operation](accounts, f"{self.prefix}{key}", f"{self.prefix}{name}")
                except REFUSED:
                    return 0
            own = done is not None and done is not False
            return done if operation in ("all", "several") and isinstance(done, int) else int(own)

        async def check(self) -> None:
            accounts = self.writers[0]
            entries = [
                entry for entry in (await accounts.audit_log(limit=5000))[::-1] if entry.record.startswith(self.prefix)
            ]
            assert len(entries) == self.written
            assert {entry.outcome for entry in entries} <= {"applied"}
            assert {entry.actor for entry in entries} <= {"alice", "bob"}
            for key in (f"{self.prefix}{number}" for number in range(3)):
                await self.check_record(accounts, key, [entry for entry in entries if entry.record == key])

        async def check_record(self, accounts: Accounts, key: str, entries: list[Any]) -> None:
            record = await accounts.with_deleted().get(key)
            shown = [await each.get(key) for each in self.writers]
            assert shown == [None if record is None or record.deleted_at is not None else record] * 2
            states = await accounts.history(key)
            versions = list(range(1, 1 if record is None else record.version + 1))
            assert [state.version for state in states] == versions
            assert not states or states[-1].entity == record
            lives = [number for number, entry in enumerate(entries) if entry.action == "CREATE"]
            life = entries[lives[-1] :] if lives and record is not None else []
            assert sorted(entry.after["version"] for entry in life) == versions
            for entry in life:
                assert entry.before.get("version", 0) == entry.after["version"] - 1

        def teardown(self) -> None:
            async def close() -> None:
                for layer in self.layers:
                    await layer.close()

            self.runner.run(close())
            self.runner.close()

    return Writers


@pytest.mark.parametrize("how", ["together", "apart", "intents"])
def test_two_writers_lose_nothing(
    config: dict[str, Any], store: str, how: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "intents":
        backend = BackendRegistry.get(store)
        monkeypatch.setattr(backend, "capabilities", backend.capabilities - {Capability.TRANSACTIONS})
    if stands_in(store):
        reason = "stand-in: a datetime that $set wrote comes back as text, and it has no transactions"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    run_state_machine_as_test(
        writers(config, how),
        settings=settings(
            max_examples=20,
            stateful_step_count=15,
            deadline=None,
            phases=(Phase.generate,),  # what two tasks do together does not shrink
            suppress_health_check=list(HealthCheck),
        ),
    )
