"""Rows into the table of a collection: few by one statement, many by binary COPY."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import psycopg

from ...connections._postgres_exchange import execute, fetch
from . import pgvector_sql as sql
from .payload import Row
from .pgvector_rows import arrays, copy_blocks, text_array
from .pgvector_table import TableReplacedError, VectorTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Connection = psycopg.AsyncConnection[Any]

AT_ONCE: Final = 400
"""Rows up to which arrays in one statement are faster than COPY into a table of their own, and for which an index has
the time of one exchange.
"""


async def store(
    connection: Connection,
    table: VectorTable,
    rows: Sequence[Row],
    vectors: "NDArray[np.float32]",
    embedded_at: str,
    *,
    indexed: bool,
) -> None:
    """Rows of different ids, all or none; in the place of those with the same id. TableReplacedError, with nothing
    written, where the table is no longer the one that was found.

    An index on the vectors takes some milliseconds for each row, of the timeout that each exchange has: so where it is
    `indexed` there are few rows in each.
    """
    order = sorted(range(len(rows)), key=lambda place: rows[place].id)  # so that no two writers wait for each other
    rows, vectors = [rows[place] for place in order], vectors[order]
    if len(rows) <= AT_ONCE:
        await _insert(connection, table, rows, vectors, embedded_at)
        return
    async with connection.transaction():
        if indexed:
            for start in range(0, len(rows), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                await _insert(connection, table, rows[part], vectors[part], embedded_at)
            return
        # Into the table itself where all are new: half the work. What another writes meanwhile is a conflict then.
        [[old]] = await fetch(connection, sql.count_of(table), (text_array([row.id for row in rows]),))
        if not await fetch(connection, sql.same(table), ()):  # which the look has locked
            raise TableReplacedError(f"{table.name}: another table has taken its place")
        if not old:
            try:
                async with connection.transaction():
                    await _copy(connection, sql.copy(table), table, rows, vectors, embedded_at)
            except psycopg.errors.UniqueViolation:
                pass
            else:
                return
        await execute(connection, sql.create_staging(table))
        await _copy(connection, sql.copy(), table, rows, vectors, embedded_at)
        await execute(connection, sql.upsert_staging(table))
        await execute(connection, sql.DROP_STAGING)


async def _insert(
    connection: Connection, table: VectorTable, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str
) -> None:
    given: tuple[Any, ...] = tuple(arrays(rows, vectors, embedded_at, half=table.half, oid=table.oid))
    if rows and not await execute(connection, sql.upsert_arrays(table), given):
        raise TableReplacedError(f"{table.name}: another table has taken its place")


async def _copy(
    connection: Connection,
    statement: str,
    table: VectorTable,
    rows: Sequence[Row],
    vectors: "NDArray[np.float32]",
    embedded_at: str,
) -> None:
    cursor = psycopg.AsyncCursor(connection)
    async with cursor.copy(statement.encode()) as copy:
        for block in copy_blocks(rows, vectors, embedded_at, half=table.half):
            await copy.write(block)


def distinct(rows: Sequence[Row], vectors: "NDArray[np.float32]") -> "tuple[Sequence[Row], NDArray[np.float32]]":
    """The last of those with the same id, as if they had been stored one after the other."""
    places = {row.id: place for place, row in enumerate(rows)}
    if len(places) == len(rows):
        return rows, vectors
    kept = sorted(places.values())
    return [rows[place] for place in kept], vectors[kept]
