"""Engines on PostgreSQL: psycopg's connections, made with the options of the connection that the repositories use."""

import asyncio
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ...config.settings import EMBEDDED
from ...connections.postgres import PostgresConnectionManager
from ...core.errors import MissingDependencyError, StoreUnavailableError
from .errors import COMMITTING

if TYPE_CHECKING:
    from ...connections._postgres_options import PostgresOptions
    from ...connections.embedded.server import Lease


class PostgresEngines:
    """Makes engines on the server of one connection, and holds a lease where it runs for us."""

    def __init__(self, manager: PostgresConnectionManager) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._options = None if _is_embedded(manager) else manager.options()

    def make(self, **options: Any) -> sa.Engine:
        engine: sa.Engine = _made(
            sa.create_engine, "postgresql+psycopg://", creator=self._connect, **self._pool, **options
        )
        _watch(engine)
        return engine

    def make_async(self, opened: Any, **options: Any) -> AsyncEngine:
        """`opened` is awaited with each connection of the driver's."""

        async def connect() -> Any:
            return await opened(await self._connect_async())

        url = "postgresql+psycopg_async://"
        engine: AsyncEngine = _made(create_async_engine, url, async_creator=connect, **self._pool, **options)
        _watch(engine.sync_engine)
        return engine

    def release(self) -> None:
        """Give the server back, where it runs for us."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.let_go()

    @property
    def _pool(self) -> dict[str, Any]:
        given, options = self._manager.settings.pool, self._options
        return {
            "pool_size": options.max_size if options else given.max_size,
            "max_overflow": 0,
            "pool_timeout": options.wait if options else given.timeout,
            "pool_recycle": round(options.max_lifetime if options else given.max_lifetime),
            "pool_pre_ping": given.pre_ping is not False,
        }

    def _connect(self) -> Any:
        from ...connections._postgres_blocking import connect_blocking  # noqa: PLC0415 - an optional package

        try:
            return connect_blocking(self._ready_options())
        except StoreUnavailableError:
            if not self._revived():
                raise
        return connect_blocking(self._ready_options())

    async def _connect_async(self) -> Any:
        options = self._options
        if options is None:
            options = await asyncio.to_thread(self._ready_options)
        try:
            return await _connect_async(options)
        except StoreUnavailableError:
            if not await asyncio.to_thread(self._revived):
                raise
        return await _connect_async(await asyncio.to_thread(self._ready_options))

    def _ready_options(self) -> "PostgresOptions":
        """What to connect with, after starting the server if it is ours to start."""
        if self._options is not None:
            return self._options
        with self._lock:
            if self._lease is None:
                from ...connections.embedded import postgres as embedded  # noqa: PLC0415 - an optional package

                self._lease = _await(embedded.acquire(self._manager.path))
            return self._manager.options(self._lease.url)

    def _revived(self) -> bool:
        """Start a server of ours again that was killed; False where it is none of ours."""
        with self._lock:
            if self._lease is None:
                return False
            _await(self._lease.revive())
            return True


def _is_embedded(manager: PostgresConnectionManager) -> bool:
    url = manager.settings.url
    return url is not None and url.get_secret_value() == EMBEDDED


def _await(coroutine: Any) -> Any:
    """Run it where no loop is in the way: this may be called from a thread that has one."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


async def _connect_async(options: "PostgresOptions") -> Any:
    from ...connections._postgres_connection import Connection  # noqa: PLC0415 - an optional package

    return await Connection.connect(
        options.conninfo,
        **{**options.kwargs, "autocommit": False},
        limit=options.timeout,
        within=options.connect_timeout,
        statements=options.statements,
        failed=lambda error: None,  # noqa: ARG005 - nobody else waits for this one
        address=options.address,
    )


def _made(make: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return make(*arguments, **options)
    except ModuleNotFoundError as error:
        raise MissingDependencyError.for_extra("psycopg", "postgres") from error


def _watch(engine: sa.Engine) -> None:
    event.listen(engine, "checkout", _refuse_dead)
    event.listen(engine, "commit", _note_commit)
    event.listen(engine, "begin", _note_begin)


def _refuse_dead(adapted: Any, record: Any, proxy: Any) -> None:
    """Look at the socket of a connection that lay idle: what its server has closed has something to read."""
    del adapted, proxy
    pgconn = record.driver_connection.pgconn
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN | select.POLLERR | select.POLLHUP | select.POLLNVAL)
    if not poll.poll(0):
        return
    import psycopg  # noqa: PLC0415 - an optional package

    with suppress(psycopg.Error):
        pgconn.consume_input()
        if not poll.poll(0):
            return
    raise exc.DisconnectionError("the server has closed the connection")


def _note_commit(connection: sa.Connection) -> None:
    connection.info[COMMITTING] = True


def _note_begin(connection: sa.Connection) -> None:
    connection.info[COMMITTING] = False
