"""psycopg's connection with one deadline for each exchange, and errors of connecting that are ours."""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Self, TypeAlias, TypeVar

import psycopg
from psycopg.pq import ConnStatus

from ..core.errors import AppError, StoreUnavailableError
from ._postgres_binary import Binary, BinaryDumper
from ._postgres_logging import without_parts

Row: TypeAlias = tuple[Any, ...]
R = TypeVar("R")

_GRACE = 0.05  # of the timeout: what a server that is slow, but not silent, has to say that it gave up
_OPEN = select.POLLIN | select.POLLERR | select.POLLHUP | select.POLLNVAL


class ConnectionLostError(StoreUnavailableError):
    """The connection died under a read, which may be run again."""


class Connection(psycopg.AsyncConnection[Row]):
    """A connection that ends when its server is silent for longer than `timeout` seconds.

    The driver's own way, a cancellation of the task, may wait for ten more seconds. Closing the socket ends it.
    """

    timeout: float | None = None
    address = ""
    expired = False
    made = 0.0
    cursors: "dict[str, tuple[bytes, psycopg.AsyncRawCursor[Row]]]"
    """One for each statement of ours, see `_postgres_exchange`."""
    raw_cursor_factory: "type[psycopg.AsyncRawCursor[Row]]" = psycopg.AsyncRawCursor
    rests_since = 0.0
    told: "Mapping[str, str] | None" = None
    """What the session was last told of how to search vectors."""
    _poll: "select.poll | None" = None

    @classmethod
    async def connect(  # type: ignore[override]  # psycopg types each parameter of libpq
        cls,
        conninfo: str = "",
        *,
        within: float,
        limit: float,
        failed: Callable[[AppError], Any],
        address: str,
        statements: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """Connect `within` seconds, to the millisecond (libpq knows whole ones, two at the least).

        `limit` is the connection's own timeout then.
        """
        ours: AppError
        try:
            async with asyncio.timeout(within):
                with without_parts():
                    connection = await super().connect(conninfo, **kwargs)
        except TimeoutError:
            ours = StoreUnavailableError(f"PostgreSQL at {address} gave no answer within {within:g} s")
        except psycopg.Error as error:
            ours = StoreUnavailableError(f"cannot connect to PostgreSQL at {address}: {_reason(error)}")
        else:
            connection.timeout = limit
            if statements is not None:
                connection.prepared_max = statements
            connection.address = address
            connection.made = monotonic()
            connection.cursors = {}
            connection.adapters.register_dumper(Binary, BinaryDumper)
            return connection
        # Not `from` the driver's: its text repeats what it took for user and database, which may be a password.
        failed(ours)
        raise ours

    def __repr__(self) -> str:  # the driver's has user and database, and its pool logs it
        return f"<{type(self).__name__} {self.info.status.name} to PostgreSQL at {self.address}>"

    async def wait(  # type: ignore[override]  # the parent has a timeout of another kind, since 3.3
        self, gen: Generator[Any, Any, R], interval: float = 0.1, **kwargs: Any
    ) -> R:
        if self.timeout is None:
            return await super().wait(gen, interval, **kwargs)
        watch = asyncio.get_running_loop().call_later(self.timeout, self._expire)
        try:
            return await super().wait(gen, interval, **kwargs)
        finally:
            watch.cancel()

    @property
    def lost(self) -> bool:
        """Whether the server is gone, as far as this connection knows."""
        return self.pgconn.status != ConnStatus.OK

    def has_news(self) -> bool:
        """Whether an idle connection has something to read: the server's farewell, or the end. Costs 1 µs."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, _OPEN)
        return bool(self._poll.poll(0))

    def _expire(self) -> None:
        """Ask the server to give up; a little later, hang up."""
        self.expired = True
        loop = asyncio.get_running_loop()
        grace = _GRACE * (self.timeout or 0)
        asking = loop.create_task(self._ask_to_cancel(grace))
        loop.call_later(grace, self._hang_up, asking)

    async def _ask_to_cancel(self, seconds: float) -> None:
        if psycopg.capabilities.has_cancel_safe():
            with suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.cancel_safe(timeout=seconds)

    def _hang_up(self, asking: "asyncio.Task[None]") -> None:
        asking.cancel()
        if self.lost or self.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
            return
        # Not close: its number could be another connection's before the driver notices.
        with suppress(OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as end:
            end.shutdown(socket.SHUT_RDWR)


# What libpq says, as far as it holds no part of the address. The first that is found in its text stands for all of it.
_REASONS = (
    ("Connection refused", "connection refused"),
    ("No such file or directory", "there is no such socket"),
    ("Unix-domain socket path", "the path of its socket is longer than the system allows"),
    ("Permission denied", "permission denied"),
    ("password authentication failed", "it refused the user or the password"),
    ("no password supplied", "it asks for a password"),
    ("certificate verify failed", "its certificate is not to be trusted; name its authority with sslrootcert"),
    ("does not match host name", "its certificate is another host's"),
    ("server does not support SSL", "it has no TLS; sslmode=disable in the url goes without"),
    ("SSL error", "TLS failed"),
    ("resolve host", "the host is not known"),
    ("translate host name", "the host is not known"),
    ("Network is unreachable", "the network is unreachable"),
    ("No route to host", "there is no route to the host"),
    ("server closed the connection", "it closed the connection"),
    ("Connection reset", "it closed the connection"),
    ("timeout expired", "no answer in time"),
    ("timed out", "no answer in time"),
    ("starting up", "it is starting up"),
    ("shutting down", "it is shutting down"),
    ("recovery mode", "it is recovering"),
    ("too many clients", "it has too many clients"),
    ("remaining connection slots", "it has too many clients"),
    ("pg_hba.conf", "it does not admit this user from here (pg_hba.conf)"),
    ("unsupported startup parameter", "it is a pooler, which takes no options for its sessions"),
    ("session is not read-write", "none of its hosts takes writes (target_session_attrs)"),
    ("session is read-only", "none of its hosts takes writes (target_session_attrs)"),
    ("session is not read-only", "none of its hosts is as target_session_attrs asks"),
    ("server is in hot standby mode", "none of its hosts is as target_session_attrs asks"),
    ("server is not in hot standby mode", "none of its hosts is as target_session_attrs asks"),
    ("does not exist", "there is no such user or database"),
)


def _reason(error: psycopg.Error) -> str:
    text = str(error)
    return next((ours for theirs, ours in _REASONS if theirs in text), f"{type(error).__name__}")
