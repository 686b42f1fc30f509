"""Many new rows at once: COPY in its binary format.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS-BINARY-FORMAT
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import psycopg

from ..query.operations import Document
from ._postgres_binary import encode_columns
from ._sql_table import Table

Connection = psycopg.AsyncConnection[Any]

_BLOCK = 5_000
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = struct.pack("!h", -1)


async def copy_in(connection: Connection, table: Table, documents: Sequence[Document]) -> None:
    """Store all or none."""
    columns = ", ".join(table.quote(column.name) for column in table.table.c)
    cursor = connection.cursor()
    async with cursor.copy(
        f"COPY {table.quote(table.schema.name)} ({columns}) FROM STDIN (FORMAT BINARY)".encode()
    ) as copy:
        for block in _blocks(table, documents):
            await copy.write(block)


def _blocks(table: Table, documents: Sequence[Document]) -> Iterator[bytes]:
    start = struct.pack("!h", len(table.table.c))
    yield _HEADER
    for first in range(0, len(documents), _BLOCK):
        columns = [column.values for column in encode_columns(table, documents[first : first + _BLOCK], None)]
        yield b"".join(chain.from_iterable(zip(repeat(start), *columns, strict=False)))
    yield _TRAILER
