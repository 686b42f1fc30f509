"""What is asked of a pool of PostgreSQL connections, ours or the caller's: one statement, or a connection."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg.pq import ConnStatus, Format
from psycopg.rows import tuple_row

from ..core.errors import AppError, DeadlineExceededError, OutcomeUnknownError, StoreUnavailableError
from ._postgres_connection import Connection, ConnectionLostError, Row

if TYPE_CHECKING:
    from psycopg.abc import QueryNoTemplate

ConnectionT = TypeVar("ConnectionT", bound=psycopg.AsyncConnection[Any])


class Exchanges(ABC, Generic[ConnectionT]):
    """Runs statements on connections that `take` lends and `give` takes back."""

    address: str
    operation_timeout: float
    pooled = False
    """Whether each transaction may be on another session of the server's."""
    known: set[object]
    """What stands for each table that was found as it should be."""
    first_use: asyncio.Lock
    """Held by whoever looks at a table."""

    @abstractmethod
    async def take(self, seconds: float | None = None) -> ConnectionT:
        """Return an idle connection in autocommit; give it back with `give`."""

    @abstractmethod
    async def give(self, connection: ConnectionT) -> None:
        """Take it back. One that is not idle is closed, since nobody knows what it is in the middle of."""

    async def end(self) -> None:
        """Close it for good."""

    def abandon(self) -> None:
        """Let go of it, from no loop at all."""

    @abstractmethod
    def stats(self) -> dict[str, int]:
        """As `PostgresConnectionManager.get_pool_stats`."""

    async def fetch(self, sql: str, parameters: Row) -> list[Row]:
        """Run one reading statement of ours; run it again when its connection turns out to be dead."""
        start = monotonic()
        connection = await self.take()
        try:
            return await fetch(connection, sql, parameters)
        except psycopg.Error as error:
            ours = self.translated(error, connection, write=False)
            if ours is None:
                raise
            if not isinstance(ours, ConnectionLostError):
                raise ours from error
        finally:
            await self.give(connection)
        connection, left = await self._take_after_loss(start + self.operation_timeout - monotonic())
        _limit(connection, left)
        try:
            return await fetch(connection, sql, parameters)
        except psycopg.Error as error:
            raise self.translated(error, connection, write=False) or error from error
        finally:
            await self.give(connection)

    async def run(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any], *, write: bool
    ) -> list[Row]:
        """Run one statement of the caller's on one connection; return its rows."""
        return await self._run_on(await self.take(), sql, parameters, write=write)

    async def run_again(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any], seconds: float
    ) -> list[Row]:
        """Run a read that lost its connection, in what is left of its time, on one that is not lost as well."""
        connection, left = await self._take_after_loss(seconds)
        _limit(connection, left)
        return await self._run_on(connection, sql, parameters, write=False)

    @staticmethod
    def may_run_again(error: StoreUnavailableError) -> bool:
        """Whether a read failed because its connection was lost, and not for want of one."""
        return isinstance(error, ConnectionLostError)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[ConnectionT]:
        connection = await self.take()
        try:
            yield connection
        except psycopg.Error as error:
            ours = self.translated(error, connection, write=True)
            if ours is None:
                raise
            raise ours from error
        finally:
            await self.give(connection)

    def translated(self, error: psycopg.Error, connection: ConnectionT, *, write: bool) -> AppError | None:
        """Ours for what concerns connection and time; None for what the statement itself did wrong."""
        if isinstance(error, psycopg.errors.QueryCanceled):
            return DeadlineExceededError(
                f"PostgreSQL at {self.address} did not finish within {self.operation_timeout:g} s; nothing was changed"
            )
        if not is_lost(connection):
            return None
        expired = _has_expired(connection)
        if expired:
            told = f"PostgreSQL at {self.address} gave no answer within {self.operation_timeout:g} s"
        else:
            told = f"PostgreSQL at {self.address} closed the connection"
        if write:
            return OutcomeUnknownError(f"{told}: what was sent may have been done")
        return DeadlineExceededError(told) if expired else ConnectionLostError(told)

    async def _take_after_loss(self, seconds: float) -> tuple[ConnectionT, float]:
        """A connection that is not lost as well, and what is left of the time.

        Where one died others do, a moment later each; so those of before have to answer first.
        """
        lost_at = monotonic()
        while True:
            left = max(seconds - (monotonic() - lost_at), 0.001)
            connection = await self.take(left)
            _limit(connection, left)
            if _made(connection) > lost_at or await self._answers(connection):
                return connection, left
            await self.give(connection)

    async def _answers(self, connection: ConnectionT) -> bool:
        try:
            await connection.execute("")
        except psycopg.Error as error:
            if is_lost(connection) and not _has_expired(connection):
                return False
            await self.give(connection)
            raise self.translated(error, connection, write=False) or error from error
        except BaseException:
            await self.give(connection)
            raise
        return True

    async def _run_on(
        self,
        connection: ConnectionT,
        sql: "QueryNoTemplate",
        parameters: Sequence[Any] | Mapping[str, Any],
        *,
        write: bool,
    ) -> list[Row]:
        try:
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(sql, parameters or None)
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            ours = self.translated(error, connection, write=write)
            if ours is None:
                raise
            raise ours from error
        finally:
            await self.give(connection)


async def fetch(connection: psycopg.AsyncConnection[Any], sql: str, parameters: Row) -> list[Row]:
    """Run a statement of ours, with parameters as `$1`; return its rows."""
    query, cursor = _cursor(connection, sql)
    await cursor.execute(query, parameters)
    rows = await cursor.fetchall()
    _empty(cursor)
    return rows


async def execute(connection: psycopg.AsyncConnection[Any], sql: str, parameters: Row = ()) -> int:
    """As `fetch`, for a statement that returns no rows; how many records it touched."""
    query, cursor = _cursor(connection, sql)
    await cursor.execute(query, parameters)
    return cursor.rowcount


def _cursor(connection: psycopg.AsyncConnection[Any], sql: str) -> tuple[bytes, psycopg.AsyncRawCursor[Row]]:
    """The statement's own cursor, which knows how to write its parameters and to read its rows.

    Making one takes as much time as a fifth of a small statement. With one task at a time on a connection, what a
    cursor holds is fetched before anybody else can use it.
    """
    cursors = connection.cursors if isinstance(connection, Connection) else {}
    found = cursors.get(sql)
    if found is None:
        cursor = raw_cursor(connection)
        cursor.format = Format.BINARY
        if len(cursors) >= _MOST_CURSORS:
            cursors.clear()
        found = cursors[sql] = (sql.encode(), cursor)
    return found


def raw_cursor(connection: psycopg.AsyncConnection[Any]) -> psycopg.AsyncRawCursor[Row]:
    """A cursor for statements with `$1`."""
    kind = connection.raw_cursor_factory if isinstance(connection, Connection) else psycopg.AsyncRawCursor
    return kind(connection, row_factory=tuple_row)


def _empty(cursor: psycopg.AsyncRawCursor[Row]) -> None:
    """Let go of the rows, which the driver would keep until the cursor is used again."""
    cursor._reset()  # noqa: SLF001 - closing it is all that the driver offers
    cursor._tx.set_pgresult(None)  # noqa: SLF001


_MOST_CURSORS = 128


def is_lost(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server is gone, as far as the connection knows."""
    return connection.pgconn.status != ConnStatus.OK


def _has_expired(connection: psycopg.AsyncConnection[Any]) -> bool:
    return isinstance(connection, Connection) and connection.expired


def _made(connection: psycopg.AsyncConnection[Any]) -> float:
    return connection.made if isinstance(connection, Connection) else 0.0


def _limit(connection: psycopg.AsyncConnection[Any], seconds: float) -> None:
    if isinstance(connection, Connection):
        connection.timeout = seconds
