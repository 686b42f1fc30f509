"""Ctrl-C: one line and exit code 130, never a traceback. It loads nothing, since loading is what it may interrupt.

Python would raise KeyboardInterrupt wherever it happens to be: in an import, in a destructor, or at exit.
"""

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import asyncio

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def leave_on_interrupt() -> None:
    """From now on Ctrl-C ends the process at once. Stores are made for a process that ends at any moment."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _leave)
        # Registered first, so the last at exit: what is left of Python then has no handlers, and the work is done.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextmanager
def cancelled_by_interrupt(task: "asyncio.Task[object]") -> Iterator[None]:
    """The first Ctrl-C inside this cancels the task, so that it closes what it opened. The next is as it was before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def cancel(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        task.get_loop().call_soon_threadsafe(task.cancel)

    signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_: object) -> NoReturn:
    os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED)
