"""One writing operation on one connection, which may be in a transaction of the caller's."""

from typing import Any

import psycopg

from ...connections._postgres_exchange import execute, fetch, raw_cursor
from ._sql_backend import Write
from ._sql_rows import Row

Connection = psycopg.AsyncConnection[Any]


async def run(connection: Connection, write: Write) -> tuple[int, list[Row]]:
    """All of it or none; the number of records, and the rows it returned."""
    if not write.alone:
        async with connection.transaction():
            if write.first is not None:
                await execute(connection, *write.first)
            result = await _run_rows(connection, write)
            if write.then is not None:
                number, rows = await run(connection, write.then)
                result = (result[0] + number, [*result[1], *rows])
            if write.check is not None:
                write.check(*result)
            return result
    return await _run_rows(connection, write)


async def _run_rows(connection: Connection, write: Write) -> tuple[int, list[Row]]:
    if len(write.rows) > 1:
        return await _run_many(connection, write)
    [row] = write.rows
    if not write.returns:
        return await execute(connection, write.sql, row), []
    rows = await fetch(connection, write.sql, row)
    return len(rows), rows


async def _run_many(connection: Connection, write: Write) -> tuple[int, list[Row]]:
    """In one journey there and back."""
    cursor = raw_cursor(connection)
    await cursor.executemany(write.sql.encode(), write.rows, returning=write.returns)
    if not write.returns:
        return cursor.rowcount, []
    rows: list[Row] = []
    while True:
        rows += await cursor.fetchall()
        if not cursor.nextset():
            return len(rows), rows
