"""A write that is cancelled in a transaction of the caller's, who goes on and commits."""

import asyncio

import pytest

from app.core.errors import TransactionError
from app.db import DataLayer
from app.db.backends import Capability
from app.testing.models import Account, Accounts


async def test_a_cancelled_write_has_its_row_or_is_not_there(data: DataLayer) -> None:
    accounts = data.repository(Accounts)
    await accounts.count()
    if Capability.TRANSACTIONS not in accounts.capabilities:
        pytest.skip("the store has no transactions")
    written = 0
    for turn in range(40):
        account = await accounts.create(Account(name=f"n{turn}"))
        try:
            async with accounts.transaction() as tx:
                writing = asyncio.ensure_future(tx.update(account.id, {"balance": 7}))
                for _ in range(turn % 12):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.0004 * turn if turn > 10 else 0)
                writing.cancel()
                await asyncio.wait([writing])
        except TransactionError:
            pass
        now = await accounts.get_or_raise(account.id)
        rows, states = await accounts.audit_log(account.id), await accounts.history(account.id)
        changes = int(now.balance == 7)
        written += changes
        assert (len(rows), len(states), now.version) == (1 + changes, 1 + changes, 1 + changes)
    assert written
