"""One runner at a time for each database. The lock ends with its process, however that ends."""

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import sqlalchemy as sa
from filelock import FileLock, Timeout

from ....core.errors import StoreUnavailableError
from .engine import Interrupt

Announce: TypeAlias = Callable[[str], object]
"""Says to `announced` what is being done under the lock."""

_KEY: Final = int.from_bytes(b"many", "big")
_TRY = sa.text("SELECT pg_try_advisory_xact_lock(:key, :schema)")
# Without the right to see another user's sessions, there is no name.
_HELD = sa.text(
    "SELECT coalesce(a.application_name, '') FROM pg_locks l"
    " JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()"
    " LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.classid = :key AND l.objid = :schema AND l.objsubid = 2"
)
_NO_SNAPSHOT: Final = "SET LOCAL statement_timeout = 0"
_SAY = sa.text("SELECT set_config('application_name', :name, true)")
# An open transaction that does nothing is what these end.
_NO_TIMEOUTS = sa.text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)


@contextmanager
def locked(engine: sa.Engine, path: Path | None, interrupt: Interrupt, *, wait: float) -> Iterator[Announce]:
    """Wait for the lock for at most `wait` seconds and hold it inside. `path` is SQLite's file.

    On PostgreSQL it is a transaction's advisory lock, on a connection of its own, so it works behind pgbouncer in
    transaction mode too. It is asked for again and again, since who waits inside a statement has a snapshot, for which
    a CREATE INDEX CONCURRENTLY of the one who has the lock would wait in turn.
    """
    deadline = time.monotonic() + wait
    busy = f"another process has been migrating for {wait:g} s"
    if path is not None:
        lock, said = _file(path), _said(path)
        while not _taken(lock):
            interrupt.wait(deadline, busy)
        try:
            with _allowed(said):
                said.unlink(missing_ok=True)  # by one who was killed
            yield partial(_say, said)
        finally:
            with suppress(OSError):  # the next one removes it
                said.unlink(missing_ok=True)
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
        connection.exec_driver_sql(_NO_SNAPSHOT)

        def announce(what: str) -> None:
            connection.execute(_SAY, {"name": what})
            connection.exec_driver_sql(_NO_SNAPSHOT)

        yield announce


def announced(connection: sa.Connection, path: Path | None) -> str | None:
    """What somebody who is migrating now has said, perhaps nothing; None where nobody is."""
    if path is None:
        said: str | None = connection.execute(_HELD, _names(connection)).scalar_one_or_none()
        return said
    lock = _file(path)
    if not Path(lock.lock_file).exists():
        return None
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            return _said(path).read_text("utf-8")
        except OSError:
            return ""
    except PermissionError:  # another user's: who may not take it cannot tell
        return None
    lock.release()
    return None


def _file(path: Path) -> FileLock:
    """Beside the database: a lock on that file itself would end SQLite's own, which belong to the process. Who may
    write the database may take it.
    """
    mode = path.stat().st_mode & 0o666 if path.exists() else 0o644
    return FileLock(f"{path}-migrations.lock", mode=mode, thread_local=False)


def _taken(lock: FileLock) -> bool:
    with _allowed(Path(lock.lock_file)):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
    return True


def _say(file: Path, what: str) -> None:
    with _allowed(file):
        file.write_text(what, "utf-8")


@contextmanager
def _allowed(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"{file}, by which one process at a time migrates, cannot be written ({error.strerror}): migrate as the "
            "user who owns it, or give this one the right to write it and its directory"
        ) from error


def _said(path: Path) -> Path:
    """Not in the file of the lock, which filelock may empty for each who tries."""
    return Path(f"{path}-migrations.running")


def _names(connection: sa.Connection) -> dict[str, int]:
    schema = connection.dialect.default_schema_name or ""
    return {"key": _KEY, "schema": zlib.crc32(schema.encode()) & 0x7FFFFFFF}
