"""A lock in a store that can compare nothing, but that makes a collection of a name only once.

The lock is the collection of the highest number, which has the owner in its description. Whoever wants to change it
makes the collection of the next number, and only one can. It is right only while it is the highest: the number that
one has seen may have been passed and removed since, and then a higher one is there. A lower one is removed by whoever
has seen a higher one, never the highest, so the highest only grows; a lock that nobody has stays as the highest one.
"""

import asyncio
import contextlib
import json
from abc import abstractmethod
from dataclasses import asdict
from typing import Final

from ....core.errors import AppError, MigrationError, StoreUnavailableError
from ..ledger import LEDGER
from ..lock import Held, LockStore

LOCK: Final = "manystore_lock_"
_ATTEMPTS: Final = 50


class GenerationLock(LockStore):
    @abstractmethod
    async def collection_names(self) -> list[str]: ...

    @abstractmethod
    async def read_description(self, name: str) -> str | None:
        """What the collection was made with; None where it is gone."""

    @abstractmethod
    async def make_described(self, name: str, description: str) -> None:
        """Make a collection together with its description; MigrationError where there is one of that name."""

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Remove a collection, if it is there."""

    async def prepare(self) -> None:
        """The ledger is a collection as well."""
        if LEDGER not in await self.collection_names():
            try:
                await self.make_described(LEDGER, "ledger")
            except MigrationError:
                if LEDGER not in await self.collection_names():
                    raise

    async def read_lock(self) -> Held | None:
        return _owner((await self._highest())[1])

    async def swap_lock(self, old: Held | None, new: Held | None) -> bool:
        number, description = await self._highest()
        if _owner(description) != old:
            return False
        mine = f"{LOCK}{number + 1}"
        try:
            await self.make_described(mine, json.dumps({"held": new and asdict(new)}))
        except MigrationError:
            # It may be passed and removed by now, but then there is a higher one.
            if max(await self._numbers(), default=0) > number:
                return False
            raise
        numbers = await self._numbers()
        highest = max(numbers, default=0)
        with contextlib.suppress(AppError):  # what is left is removed by who comes next
            for each in numbers:
                if each < highest:
                    await self.remove(f"{LOCK}{each}")
        return highest == number + 1

    async def _highest(self) -> tuple[int, str | None]:
        """Its number and description; 0 where there was never one."""
        for _ in range(_ATTEMPTS):
            number = max(await self._numbers(), default=0)
            description = await self.read_description(f"{LOCK}{number}") if number else None
            if description is not None or not number:
                return number, description
            await asyncio.sleep(0.01)  # another has passed it meanwhile
        raise StoreUnavailableError("the migration lock changes faster than it can be read: try again")

    async def _numbers(self) -> list[int]:
        endings = [name.removeprefix(LOCK) for name in await self.collection_names() if name.startswith(LOCK)]
        return [int(each) for each in endings if each.isdecimal()]


def _owner(description: str | None) -> Held | None:
    held = None if description is None else json.loads(description)["held"]
    return None if held is None else Held(**held)
