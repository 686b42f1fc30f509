"""The entries of indexes for what was stored before the indexes were."""

from typing import Any

from ...core.errors import DuplicateRecordError, MigrationError
from ..query.predicates import ALL
from ._redis_query import matcher
from ._redis_records import BATCH, Mode, StoredRecords, replacement


async def ensure(client: Any, stored: StoredRecords) -> None:
    """Make the indexes of the model, and remove others: the collection remembers which indexes are complete."""
    keys = stored.keys
    complete: dict[str, str] = await client.hgetall(keys.meta)
    wanted = {name: keys.signature(index) for name, index in keys.indexes.items()}
    if complete == wanted:
        return
    for name in complete.keys() - {name for name in wanted if complete.get(name) == wanted[name]}:
        await drop(client, stored, name)
    await build(client, stored)
    await client.hset(keys.meta, mapping=wanted)


async def drop(client: Any, stored: StoredRecords, name: str) -> None:
    await client.hdel(stored.keys.meta, name)
    await stored.remove_entries(client, name)


async def build(client: Any, stored: StoredRecords) -> None:
    """Write the entries of every document. MigrationError for two with one unique value."""
    keys = stored.keys
    async for batch in stored.batches(client, ALL, BATCH):
        pending = batch
        while pending:
            try:
                answers = await stored.write(
                    client, [replacement(keys, each, each, entries=True) for each in pending], Mode.EACH
                )
            except DuplicateRecordError as error:
                raise MigrationError(
                    f"{keys.name}: stored records have the same {', '.join(error.fields)}, so that cannot be made "
                    "unique: migrate them"
                ) from error
            pending = stored.overtaken(answers, matcher(ALL))
