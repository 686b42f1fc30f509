"""Connections whose statements are timed, made only where a connection has `slow_query` set."""

from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Self

import psycopg

from ._postgres_connection import Connection, Row
from ._slow_queries import SlowQueries


class WatchedConnection(Connection):
    watch: SlowQueries

    @classmethod
    async def connect(cls, conninfo: str = "", *, watch: SlowQueries, **kwargs: Any) -> Self:  # type: ignore[override]
        connection = await super().connect(conninfo, **kwargs)
        connection.watch = watch
        connection.cursor_factory = _WatchedCursor
        connection.raw_cursor_factory = _WatchedRawCursor
        return connection

    def _exec_command(self, command: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        """What begins and ends transactions; the driver has no cursor for it."""
        start = monotonic()
        try:
            return (yield from super()._exec_command(command, *args, **kwargs))
        finally:
            self.watch.note(command, monotonic() - start)


class _Watched:
    """Over a cursor of the driver's."""

    _conn: WatchedConnection

    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        start = monotonic()
        try:
            return await super().execute(query, *args, **kwargs)  # type: ignore[misc]  # the driver's cursor
        finally:
            self._conn.watch.note(query, monotonic() - start)

    async def executemany(self, query: Any, params_seq: Iterable[Any], **kwargs: Any) -> None:
        start = monotonic()
        try:
            await super().executemany(query, params_seq, **kwargs)  # type: ignore[misc]
        finally:
            self._conn.watch.note(query, monotonic() - start)

    @asynccontextmanager
    async def copy(self, statement: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """From its beginning to its end, the making of the rows included."""
        start = monotonic()
        try:
            async with super().copy(statement, *args, **kwargs) as copy:  # type: ignore[misc]
                yield copy
        finally:
            self._conn.watch.note(statement, monotonic() - start)


class _WatchedCursor(_Watched, psycopg.AsyncCursor[Row]):  # type: ignore[misc]
    pass


class _WatchedRawCursor(_Watched, psycopg.AsyncRawCursor[Row]):  # type: ignore[misc]
    pass
