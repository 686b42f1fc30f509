"""A thread that owns an event loop, for callers who have none to await on."""

import asyncio
import atexit
import os
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from inspect import isawaitable
from typing import Any, Final

from ..errors import ConfigurationError


class Portal:
    """Runs functions on its loop, awaits what they return, and hands the outcome to the thread that waits.

    Any number of threads may call. A call that is interrupted (Ctrl-C) is cancelled on the loop, and ends there before
    the interrupt goes on. Called where a loop is running it raises, since it would block that loop, unless it was
    made to be called `from_loops` too.

    `at_end` closes what lives on the loop; `close` awaits it. A portal that is forgotten does the same, and warns.
    """

    def __init__(self, name: str, at_end: Callable[[], Awaitable[None]], *, from_loops: bool = False) -> None:
        self._from_loops = from_loops
        self._loop = asyncio.new_event_loop()
        self._closing = False
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._at_end = at_end
        # The thread must not know the portal: nobody would ever see that it was forgotten.
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name=name, daemon=True)
        self._thread.start()
        self._forgotten = weakref.finalize(self, _forget, self._loop, at_end, name, os.getpid())
        self._forgotten.atexit = False
        _open.add(self)

    @property
    def closed(self) -> bool:
        return self._closing

    def call(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Call it on the loop and return its result, awaited where it is awaitable."""
        self._refuse()
        call = _Call(function, args, options)
        with self._lock:
            if self._closing:
                raise ConfigurationError(_CLOSED)
            # In the context of the caller, which is what the loop copies here.
            self._loop.call_soon_threadsafe(call.start, self._loop)
        try:
            return call.outcome.result()
        except asyncio.CancelledError:
            if self._closing:
                raise ConfigurationError(_CLOSED) from None
            raise
        except BaseException:
            if not call.outcome.done():  # this thread was interrupted
                self._tell(call.cancel)
                with suppress(BaseException):  # a second interrupt does not wait
                    call.outcome.exception()
            raise

    def tell(self, function: Callable[[], object]) -> None:
        """Have it called on the loop, without waiting; a portal that is closed has ended whatever it is about."""
        if self._process == os.getpid():
            self._tell(function)

    def close(self) -> None:
        """Close what lives on the loop, cancel what still runs, end the thread; idempotent. Not in a forked child."""
        if self._process != os.getpid():
            return
        self._refuse()
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._forgotten.detach()
        _open.discard(self)
        closing = _Call(_shut_down, (self._at_end,), {})
        self._tell(lambda: closing.start(self._loop))
        try:
            closing.outcome.result()
        finally:
            self._tell(self._loop.stop)
            self._thread.join()

    def _refuse(self) -> None:
        if self._process != os.getpid():
            raise ConfigurationError("this process was forked from the one that made the sync face: make another here")
        loop = _running_loop()
        if loop is not None and (loop is self._loop or not self._from_loops):
            raise ConfigurationError(
                "the sync face would block the event loop that runs in this thread: await the async methods here, or "
                "call the sync face in a thread (asyncio.to_thread)"
            )

    def _tell(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function)


class _Call:
    """One function to call on the loop, and its outcome."""

    __slots__ = ("_arguments", "_function", "_options", "_task", "outcome")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.outcome: Future[Any] = Future()
        self._function = function
        self._arguments = arguments
        self._options = options
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            result = self._function(*self._arguments, **self._options)
            if isawaitable(result):
                result = await result
        except BaseException as error:  # noqa: BLE001 - carried to the caller; a KeyboardInterrupt would end the loop
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)

    def _ended(self, _: object) -> None:
        if not self.outcome.done():  # cancelled before it began
            self.outcome.set_exception(asyncio.CancelledError())


_CLOSED: Final = "this sync face is closed: open another with DataLayer.from_config(...).sync()"
_open: weakref.WeakSet[Portal] = weakref.WeakSet()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _shut_down(at_end: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    try:
        await at_end()
    finally:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()


def _forget(loop: asyncio.AbstractEventLoop, at_end: Callable[[], Awaitable[None]], name: str, process: int) -> None:
    """Nobody can call it any more. This may run in any thread, so it waits for nothing."""
    if process != os.getpid():
        return

    async def end() -> None:
        try:
            await _shut_down(at_end)
        finally:
            loop.stop()

    def begin() -> None:
        task = loop.create_task(end())
        task.add_done_callback(lambda each: each.cancelled() or each.exception())

    with suppress(RuntimeError):
        loop.call_soon_threadsafe(begin)
    warnings.warn(f"{name} was forgotten: use it as `with … as data`, or close it", ResourceWarning, stacklevel=2)


def _at_exit() -> None:
    """The thread is a daemon, so that it holds up no exit; what is open gets a moment to close."""
    for portal in list(_open):
        found = portal._forgotten.detach()  # noqa: SLF001 - the same module
        if found is not None:
            _, forget, arguments, _ = found
            try:
                forget(*arguments)
            finally:
                portal._thread.join(_LAST_MOMENT)  # noqa: SLF001


_LAST_MOMENT: Final = 2.0
atexit.register(_at_exit)
