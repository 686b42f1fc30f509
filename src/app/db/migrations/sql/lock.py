"""One runner at a time for each database. The lock ends with its process, however that ends."""

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from filelock import FileLock, Timeout

from .engine import Interrupt

_KEY: Final = int.from_bytes(b"many", "big")
_TRY = sa.text("SELECT pg_try_advisory_xact_lock(:key, :schema)")
_HELD = sa.text(
    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()"
    " WHERE l.locktype = 'advisory' AND l.classid = :key AND l.objid = :schema AND l.objsubid = 2)"
)
# An open transaction that does nothing is what these end.
_NO_TIMEOUTS = sa.text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)


@contextmanager
def locked(engine: sa.Engine, path: Path | None, interrupt: Interrupt, *, wait: float) -> Iterator[None]:
    """Wait for the lock for at most `wait` seconds and hold it inside. `path` is SQLite's file.

    On PostgreSQL it is a transaction's advisory lock, on a connection of its own, so it works behind pgbouncer in
    transaction mode too. It is asked for again and again, since who waits inside a statement has a snapshot, for which
    a CREATE INDEX CONCURRENTLY of the one who has the lock would wait in turn.
    """
    deadline = time.monotonic() + wait
    busy = f"another process has been migrating for {wait:g} s"
    if path is not None:
        lock = _file(path)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                interrupt.wait(deadline, busy)
        try:
            yield
        finally:
            lock.release()
        return
    with engine.connect() as connection:
        while True:
            connection.execute(_NO_TIMEOUTS)
            if connection.execute(_TRY, _names(connection)).scalar_one():
                break
            connection.rollback()
            interrupt.wait(deadline, busy)
        # The statement before keeps its snapshot until another comes, for which that index would wait as well.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        yield


def is_locked(connection: sa.Connection, path: Path | None) -> bool:
    """Whether somebody is migrating now."""
    if path is None:
        return bool(connection.execute(_HELD, _names(connection)).scalar_one())
    lock = _file(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _file(path: Path) -> FileLock:
    """Beside the database: a lock on that file itself would end SQLite's own, which belong to the process."""
    return FileLock(f"{path}-migrations.lock", thread_local=False)


def _names(connection: sa.Connection) -> dict[str, int]:
    schema = connection.dialect.default_schema_name or ""
    return {"key": _KEY, "schema": zlib.crc32(schema.encode()) & 0x7FFFFFFF}
