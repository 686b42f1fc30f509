"""The entry of the migration that is being run."""

from typing import Any, Protocol

from .ledger import Entry
from .lock import Lock


class Ledger(Protocol):
    async def write_entry(self, entry: Entry) -> None: ...

    async def delete_entry(self, name: str) -> None: ...


class Journal:
    """What is written down of a run; only who holds the lock writes."""

    def __init__(self, ledger: Ledger, lock: Lock, entry: Entry) -> None:
        self._ledger = ledger
        self._lock = lock
        self.entry = entry

    async def ensure(self) -> None:
        """LockLostError where another runner has taken over; to be awaited before each write."""
        await self._lock.ensure()

    def note(self, **changes: Any) -> None:
        """Change the entry; the next `write` tells."""
        self.entry = self.entry.altered(**changes)

    async def write(self, **changes: Any) -> None:
        self.note(**changes)
        await self.ensure()
        await self._ledger.write_entry(self.entry)

    async def delete(self) -> None:
        await self.ensure()
        await self._ledger.delete_entry(self.entry.name)
