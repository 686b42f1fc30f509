"""Many writes, all or none. The driver's bulk API wraps each of them several times, a third of what an upsert costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, DocumentTooLarge

from ._mongodb_access import Access, Collection, Stored
from ._mongodb_transaction import atomically

_MOST: Final = 100_000  # writes in one command, by every server


@dataclass(frozen=True, slots=True)
class Bulk:
    """Writes of one collection, in no order."""

    command: Literal["insert", "update"]
    number: int
    make: Callable[[], list[Stored]]
    """Documents, or updates as the command has them. Made when it is their turn, since what waits is gone through by
    every garbage collection."""

    async def write(self, access: Access, collection: Collection) -> None:
        """In the transaction of `access`, else in one of its own."""

        async def in_parts(session: AsyncClientSession | None) -> None:
            await access.write(lambda: self._in_parts(collection, session))

        async def at_once(session: AsyncClientSession) -> None:
            if not await access.write(lambda: self._at_once(collection, session)):
                raise _TooLargeError

        # At once only in a transaction of its own: where a command is too large the driver sends nothing of it, but
        # takes the transaction for begun on the server, so that it is of no more use.
        if access.transaction is not None:
            await in_parts(access.session)
            return
        if self.number <= _MOST:
            try:
                await atomically(access.manager, at_once)
            except _TooLargeError:
                pass
            else:
                return
        await atomically(access.manager, in_parts)

    async def _at_once(self, collection: Collection, session: AsyncClientSession) -> bool:
        """False, with nothing sent, where they are more than the 16 MB that the driver lets one command have."""
        name = "documents" if self.command == "insert" else "updates"
        command: dict[str, Any] = {self.command: collection.name, "ordered": False, name: self.make()}
        try:
            reply = await collection.database.command(command, codec_options=collection.codec_options, session=session)
        except DocumentTooLarge:
            return False
        if reply.get("writeErrors"):
            raise BulkWriteError(reply)
        return True

    async def _in_parts(self, collection: Collection, session: AsyncClientSession | None) -> None:
        writes = self.make()
        if self.command == "insert":
            await collection.insert_many(writes, ordered=False, session=session)
        else:
            updates = [UpdateOne(each["q"], each["u"], upsert=each["upsert"]) for each in writes]
            await collection.bulk_write(updates, ordered=False, session=session)


class _TooLargeError(Exception):
    """For one command."""
