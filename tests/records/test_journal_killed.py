"""A process that is killed between any two steps of a write with history and audit log, on every store."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.db import DataLayer
from app.db.backends import BackendRegistry, Capability
from app.testing.models import Account, Accounts

from .journal_program import OPERATIONS, STEPS

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[True, False], ids=["transactions", "intents"])
def with_transactions(request: pytest.FixtureRequest, store: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        backend = BackendRegistry.get(store)
        monkeypatch.setattr(backend, "capabilities", backend.capabilities - {Capability.TRANSACTIONS})
    elif store == "mongodb":
        pytest.skip("the stand-in is a single server, which has no transactions")
    return bool(request.param)


async def test_a_killed_write_is_all_there_or_not_acknowledged(
    config: dict[str, Any], *, with_transactions: bool
) -> None:
    names = [f"{operation}-{step}" for operation in OPERATIONS for step in range(1, STEPS + 1)]
    there_before = {name for name in names if not name.startswith("create")}
    async with DataLayer.from_config(config) as data:
        await data.repository(Accounts).create_many(Account(id=name, name=name) for name in sorted(there_before))
    acknowledged = killed_writes(config, with_transactions=with_transactions)
    steps = {operation: int(step) for operation, step in (name.split("-") for name in acknowledged)}
    assert steps.keys() == OPERATIONS.keys()
    assert min(steps.values()) > 3, "the steps were not seen"
    async with DataLayer.from_config(config) as data:
        accounts = data.repository(Accounts)
        for name in names:
            happened = await check(accounts, name, existed=name in there_before)
            assert happened or name not in acknowledged
            if await accounts.restore(name) is not None or await accounts.update(name, {"balance": 7}) is not None:
                assert await check(accounts, name, existed=name in there_before) or not happened


def killed_writes(config: dict[str, Any], *, with_transactions: bool) -> set[str]:
    """The records whose write was acknowledged."""
    command = [sys.executable, "-m", "tests.records.journal_program", json.dumps(config), str(with_transactions)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return {line.replace(" ", "-") for line in result.stdout.splitlines()}


async def check(accounts: Accounts, name: str, *, existed: bool) -> bool:
    """Whether the write happened, once record, history and audit log were seen to tell the same."""
    record = await accounts.with_deleted().get(name)
    states = await accounts.history(name)
    entries = (await accounts.audit_log(name))[::-1]
    assert "unknown" not in {entry.outcome for entry in entries}
    applied = [entry for entry in entries if entry.outcome == "applied"]
    if record is None:
        assert states == []
        assert [entry.action for entry in applied] == (["CREATE", "DELETE"] if existed else [])
        return existed
    assert [state.version for state in states] == list(range(1, record.version + 1))
    assert states[-1].entity == record
    assert [entry.after["version"] for entry in applied] == list(range(1, record.version + 1))
    assert [entry.before.get("version", 0) for entry in applied] == list(range(record.version))
    return record.version > int(existed)
