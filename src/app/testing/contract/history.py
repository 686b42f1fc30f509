"""The history of records: every state that was ever stored, whatever wrote it."""

import asyncio
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from ...core.errors import (
    ConfigurationError,
    DuplicateRecordError,
    InvalidChangeError,
    RecordNotFoundError,
    StaleRecordError,
)
from ...db.backends.base import Capability, Index
from ...db.middleware.history import StateRow
from ...db.repositories.base import Repository
from ..models import Account, Accounts, Drafts, Product
from .base import Contract, Place


class InterruptedWorkError(Exception):
    """Raised to leave a block."""


class UnnumberedProducts(Repository[Product]):
    keeps_history = True


class StoredStates(Repository[StateRow]):
    COLLECTION_NAME = "accounts_history"
    indexes = (Index("record"),)


class Renaming(BaseModel):
    name: str | None = None


async def whole(accounts: Accounts) -> dict[str, list[int]]:
    """The versions that the history of each record has, once its last state was seen to be the record."""
    versions = {}
    for account in await accounts.with_deleted().all():
        states = await accounts.history(account.id)
        assert states[-1].entity == account
        assert [state.entity.version for state in states] == [state.version for state in states]
        assert [state.at for state in states] == sorted(state.at for state in states)
        versions[account.id] = [state.version for state in states]
    return versions


async def moment() -> datetime:
    """A time with nothing else in its millisecond."""
    await asyncio.sleep(0.003)
    now = datetime.now(UTC)
    await asyncio.sleep(0.003)
    return now


class HistoryContract(Contract):
    @pytest.fixture
    def accounts(self, place: Place) -> Accounts:
        accounts: Accounts = place(Accounts)
        return accounts

    async def test_every_write_path_leaves_its_state(self, accounts: Accounts) -> None:
        await accounts.create(Account(id="1", name="a"))
        await accounts.create_many([Account(id="2", name="b"), Account(id="3", name="c")])
        assert await accounts.put_if_absent(Account(id="4", name="d"))
        assert await whole(accounts) == {each: [1] for each in "1234"}
        for write in (
            lambda: accounts.update("1", Renaming(name="x")),
            lambda: accounts.increment("1", "balance", 5),
            lambda: accounts.compare_and_set("1", {"balance": 5}, {"balance": 6}),
            lambda: accounts.upsert(Account(id="1", name="y")),
            lambda: accounts.upsert(Account(id="9", name="y", balance=7), on="name"),
        ):
            assert await write() is not None
        assert await whole(accounts) == {"1": [1, 2, 3, 4, 5, 6], "2": [1], "3": [1], "4": [1]}
        assert await accounts.update_many({"name": {"$in": ["b", "c"]}}, {"balance": 1}) == 2
        assert await accounts.upsert_many([Account(id="2", name="b"), Account(id="5", name="e")]) == 2
        account = await accounts.get_or_raise("3")
        account.notes = {"a": [1, None, datetime(2026, 1, 10, tzinfo=UTC)]}
        await accounts.save(account)
        assert await accounts.delete("4")
        assert await accounts.restore("4") is not None
        assert await accounts.delete_many({"name": {"$in": ["c", "d"]}}) == 2
        assert await whole(accounts) == {
            "1": [1, 2, 3, 4, 5, 6],
            "2": [1, 2, 3],
            "3": [1, 2, 3, 4],
            "4": [1, 2, 3, 4],
            "5": [1],
        }
        states = [state.entity for state in await accounts.history("1")]
        assert [(each.name, each.balance) for each in states] == [
            ("a", 0),
            ("x", 0),
            ("x", 5),
            ("x", 6),
            ("y", 0),
            ("y", 7),
        ]
        assert [state.entity.deleted_at is not None for state in await accounts.history("4")] == [0, 1, 0, 1]

    async def test_what_was_not_written_is_no_state(self, accounts: Accounts) -> None:
        await accounts.create_many([Account(id="1", name="a"), Account(id="2", name="b")])
        for refused, error in (
            (lambda: accounts.create(Account(name="a")), DuplicateRecordError),
            (lambda: accounts.create_many([Account(name="c"), Account(name="a")]), DuplicateRecordError),
            (lambda: accounts.update("1", {"name": "b"}), DuplicateRecordError),
            (lambda: accounts.update("1", {"balance": 1}, version=7), StaleRecordError),
            (lambda: accounts.delete("1", version=7), StaleRecordError),
            (lambda: accounts.increment("1", "balance", 2**63 - 1), None),
            (lambda: accounts.increment("1", "balance", 2**63 - 1), InvalidChangeError),
        ):
            if error is None:
                await refused()
                continue
            with pytest.raises(error):
                await refused()
        assert await accounts.compare_and_set("2", {"balance": 7}, {"balance": 8}) is None
        assert await accounts.put_if_absent(Account(id="2", name="z")) is False
        assert await accounts.update_many({"name": "z"}, {"balance": 1}) == 0
        assert await accounts.delete_many({"name": "z"}) == 0
        assert await accounts.update("none", {"balance": 1}) is None
        assert await whole(accounts) == {"1": [1, 2], "2": [1]}
        for none in ("none", None, "\0", 5):
            assert await accounts.history(none) == []
            assert await accounts.as_of(none, datetime.now(UTC)) is None

    async def test_the_record_as_of_a_moment(self, accounts: Accounts) -> None:
        before = await moment()
        await accounts.create(Account(id="1", name="a"))
        created = await moment()
        await accounts.update("1", {"balance": 1})
        changed = await moment()
        await accounts.delete("1")
        deleted = await moment()
        await accounts.restore("1")
        found = [await accounts.as_of("1", each) for each in (before, created, changed, deleted, datetime.now(UTC))]
        assert [each and each.version for each in found] == [None, 1, 2, None, 4]
        assert found[-1] == await accounts.get("1")
        with pytest.raises(ValueError, match="time zone"):
            await accounts.as_of("1", datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused

    async def test_reverting_is_a_new_version(self, accounts: Accounts) -> None:
        first = await accounts.create(Account(id="1", name="a", notes={"k": [1, {"x": None}]}))
        await accounts.update("1", {"name": "b", "balance": 5, "notes": {}})
        reverted = await accounts.revert("1", 1)
        assert reverted == await accounts.get("1")
        assert (reverted.version, reverted.name, reverted.balance, reverted.notes) == (3, "a", 0, first.notes)
        assert reverted.created_at == first.created_at
        assert await whole(accounts) == {"1": [1, 2, 3]}
        await accounts.create(Account(id="2", name="b"))
        with pytest.raises(DuplicateRecordError):
            await accounts.revert("1", 2)
        for unknown, version in (("1", 4), ("1", 0), ("none", 1), (None, 1)):
            with pytest.raises(RecordNotFoundError):
                await accounts.revert(unknown, version)
        await accounts.delete("1")
        with pytest.raises(RecordNotFoundError, match="restore"):
            await accounts.revert("1", 1)
        assert await whole(accounts) == {"1": [1, 2, 3, 4], "2": [1]}

    async def test_what_is_removed_for_good_takes_its_states_along(self, place: Place, accounts: Accounts) -> None:
        await accounts.create_many(Account(id=f"{i}", name=f"{i}") for i in range(6))
        await accounts.update_many(None, {"balance": 1}, everything=True)
        assert await accounts.delete("0", hard=True)
        assert await accounts.delete_many({"name": {"$in": ["1", "2"]}}, hard=True) == 2
        await accounts.delete("3")
        assert await accounts.purge() == 1
        assert await whole(accounts) == {"4": [1, 2], "5": [1, 2]}
        for gone in "0123":
            assert await accounts.history(gone) == []
            assert await accounts.as_of(gone, datetime.now(UTC)) is None
        stored: StoredStates = place(StoredStates)
        assert sorted([state.record async for state in stored.stream()]) == ["4", "4", "5", "5"]
        again = await accounts.create(Account(id="0", name="again"))
        assert [state.entity for state in await accounts.history("0")] == [again]

    async def test_concurrent_writers_lose_no_state(self, accounts: Accounts) -> None:
        await accounts.create(Account(id="1", name="a"))
        await asyncio.gather(*(accounts.increment("1", "balance") for _ in range(20)))
        states = await accounts.history("1")
        assert [(state.version, state.entity.balance) for state in states] == [(i + 1, i) for i in range(21)]

    async def test_in_a_transaction(self, accounts: Accounts) -> None:
        await accounts.create(Account(id="1", name="a"))
        if Capability.TRANSACTIONS not in accounts.capabilities:
            pytest.skip("the store has no transactions")
        with pytest.raises(InterruptedWorkError):
            async with accounts.transaction() as tx:
                await tx.update("1", {"balance": 1})
                await tx.create(Account(id="2", name="b"))
                assert [state.version for state in await tx.history("1")] == [1, 2]
                raise InterruptedWorkError
        assert await whole(accounts) == {"1": [1]}
        assert await accounts.history("2") == []
        async with accounts.transaction() as tx:
            await tx.update("1", {"balance": 1})
            await tx.revert("1", 1)
            assert await tx.as_of("1", datetime.now(UTC)) == await tx.get("1")
        assert await whole(accounts) == {"1": [1, 2, 3]}

    async def test_history_has_to_be_declared(self, place: Place, accounts: Accounts) -> None:
        drafts: Drafts = place(Drafts)
        for call in (drafts.history("1"), drafts.as_of("1", datetime.now(UTC)), drafts.revert("1", 1)):
            with pytest.raises(ConfigurationError, match="keeps_history"):
                await call
        with pytest.raises(ConfigurationError, match="Versioned"):
            await place(UnnumberedProducts).all()
        assert await accounts.count() == 0
