"""Does each write in processes of their own, killed before its first step, its second, and so on to the end.

`python -m tests.records.journal_program CONFIG WITH_TRANSACTIONS` prints `operation step` for each write that was
acknowledged.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from app.core.actor import acting_as
from app.db import DataLayer
from app.db.backends import BackendRegistry, Capability, StorageBackend
from app.testing.models import Account, Accounts

OPERATIONS: dict[str, Callable[[Accounts, str], Awaitable[Any]]] = {
    "create": lambda accounts, name: accounts.create(Account(id=name, name=name, balance=1)),
    "update": lambda accounts, name: accounts.update(name, {"balance": 1, "token": "t"}),
    "upsert": lambda accounts, name: accounts.upsert(Account(name=name, balance=1), on="name"),
    "mark": lambda accounts, name: accounts.delete(name),
    "remove": lambda accounts, name: accounts.delete(name, hard=True),
}
STEPS = 16
"""More than any of the writes has."""


class Steps:
    """Counts calls of the store, and ends the process before one of them."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: type[Any], *names: str) -> None:
        for name in names:
            setattr(owner, name, self._watched(getattr(owner, name)))

    def _watched(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*args: Any, **options: Any) -> Any:
            self.step()
            return await method(*args, **options)

        return watched


async def write(config: dict[str, Any], operation: str, step: int) -> None:
    [store] = config["connections"]
    backend: type[StorageBackend] = BackendRegistry.get(store)
    async with DataLayer.from_config(config) as data:
        accounts = data.repository(Accounts)
        await accounts.audit_log(limit=1)  # connected, and all collections there
        steps = Steps(step)
        steps.watch(backend, "insert", "upsert", "find", "update", "delete")
        if Capability.TRANSACTIONS in backend.capabilities:
            begun = await backend.begin(data.connections.get_connection_manager(store))
            await begun.rollback()
            steps.watch(type(begun), "commit")
        with acting_as("alice"):
            await OPERATIONS[operation](accounts, f"{operation}-{step}")
        steps.step()
        print(operation, step, flush=True)


def main() -> None:
    config = json.loads(sys.argv[1])
    [store] = config["connections"]
    backend = BackendRegistry.get(store)
    gc.freeze()  # so that no child copies all of it
    if sys.argv[2] == "False":
        backend.capabilities -= {Capability.TRANSACTIONS}
    for operation in OPERATIONS:
        for step in range(1, STEPS + 1):
            pid = os.fork()
            if pid == 0:
                asyncio.run(write(config, operation, step))
                os._exit(0)
            status = os.waitpid(pid, 0)[1]
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                break
            if code != -signal.SIGKILL:
                sys.exit(f"{operation} {step} ended with {code}")


if __name__ == "__main__":
    main()
