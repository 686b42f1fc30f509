"""An engine of SQLAlchemy for one run: the connection's own options, no pool, and transactions that are real."""

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import registry

from ....connections._sqlite_open import MEMORY, is_busy, open_database
from ....connections.base import ConnectionManager
from ....connections.sqlite import SQLiteConnectionManager
from ....core.errors import DeadlineExceededError, MigrationError
from ...backends._sqlite_dialect import register_functions

WRITES = "manystore_writes"
"""Execution option of a connection whose transactions take SQLite's write lock at their beginning."""
_LOOK = 0.05

registry.register("sqlite.manystore", f"{__package__}.sqlite_dialect", "ReflectingDialect")


class Interrupt:
    """Lets another thread end what runs on the engine."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._connections: set[Any] = set()

    def opened(self, connection: Any) -> None:
        self._connections.add(connection)

    def closed(self, connection: Any) -> None:
        self._connections.discard(connection)

    def set(self) -> None:
        self._set.set()
        for connection in list(self._connections):
            with suppress(Exception):
                (getattr(connection, "interrupt", None) or connection.cancel)()

    def wait(self, deadline: float, busy: str) -> None:
        """Wait a little for somebody else; DeadlineExceededError when the time is up, MigrationError when it is set."""
        if self._set.wait(_LOOK):
            raise MigrationError("interrupted: what was not done yet is left")
        if time.monotonic() > deadline:
            raise DeadlineExceededError(f"{busy}: wait for it, or raise migrations.wait")


@asynccontextmanager
async def connected(manager: ConnectionManager[Any], interrupt: Interrupt, *, wait: float) -> AsyncIterator[sa.Engine]:
    """Make the engine; an embedded server runs for as long. Each checkout is a connection of its own."""
    client = await manager.connect()
    if isinstance(manager, SQLiteConnectionManager):
        engine = _sqlite(manager, interrupt, wait)
    else:
        engine = _postgres(client, interrupt)
    try:
        yield engine
    finally:
        engine.dispose()


def _sqlite(manager: SQLiteConnectionManager, interrupt: Interrupt, wait: float) -> sa.Engine:
    if manager.path == MEMORY:
        raise MigrationError(
            f"{manager.name}: a database in memory begins empty each time, so there is nothing to migrate: its tables "
            "are made on first use"
        )

    def connect() -> Any:
        connection = open_database(manager.path, manager.settings)
        register_functions(connection)
        # A table that is rebuilt is dropped, which would take the rows that refer to it with it. `Run` checks instead.
        connection.execute("PRAGMA foreign_keys = OFF")
        return connection

    engine = _engine("sqlite+manystore://", connect, interrupt)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            return
        deadline = time.monotonic() + wait
        mode = "IMMEDIATE" if connection.get_execution_options().get(WRITES) else "DEFERRED"
        while True:
            try:
                connection.exec_driver_sql(f"BEGIN {mode}")
                break
            except sa.exc.OperationalError as error:
                if not is_busy(error.orig):  # type: ignore[arg-type]
                    raise
                interrupt.wait(deadline, f"{manager.name}: something has been writing to SQLite for {wait:g} s")

    return engine


def _postgres(pool: Any, interrupt: Interrupt) -> sa.Engine:
    import psycopg  # noqa: PLC0415 - an optional package

    def connect() -> Any:
        return psycopg.connect(pool.conninfo, prepare_threshold=None)

    return _engine("postgresql+psycopg://", connect, interrupt, use_native_hstore=False)


def _engine(url: str, connect: Callable[[], Any], interrupt: Interrupt, **options: Any) -> sa.Engine:
    engine = sa.create_engine(url, creator=connect, poolclass=sa.pool.NullPool, hide_parameters=True, **options)
    sa.event.listen(engine, "connect", lambda connection, _: interrupt.opened(connection))
    sa.event.listen(engine, "close", lambda connection, _: interrupt.closed(connection))
    return engine
