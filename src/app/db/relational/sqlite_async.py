"""aiosqlite's connection, whose thread ends in peace where its event loop ended before it."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL, set_exception, set_result


class AsyncConnection(aiosqlite.Connection):
    """What `open_file` gives is closed on the thread that opened it, also where nobody waited for that."""

    def __init__(self, open_file: Callable[[], sqlite3.Connection]) -> None:
        opened: list[sqlite3.Connection] = []

        def connect() -> sqlite3.Connection:
            opened.append(open_file())
            return opened[0]

        super().__init__(connect, iter_chunk_size=64)
        self._thread = Thread(target=_work, args=(self._tx, opened), name="sqlite session", daemon=True)

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            # Nobody wants the answer, and the rollback would wait for it. Whether a commit is done must stay certain.
            if self._connection is not None and getattr(fn, "__name__", "") != "commit":
                self._connection.interrupt()
            raise


def _work(queue: Any, opened: list[sqlite3.Connection]) -> None:
    """As the library's own, which dies of the first answer that no loop takes any more, with all that is queued."""
    result = None
    while result is not _STOP_RUNNING_SENTINEL:
        future, function = queue.get()
        result, error = _run(function)
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            # A traceback that holds the cursor would keep the connection, and its lock, beyond `close`.
            _run(opened[0].rollback)
        if future is not None:
            with suppress(RuntimeError):  # the loop is closed
                if error is None:
                    future.get_loop().call_soon_threadsafe(set_result, future, result)
                else:
                    future.get_loop().call_soon_threadsafe(set_exception, future, error)
        del future, function, error
    for each in opened:
        each.close()


def _run(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - carried to the caller
        return None, error
