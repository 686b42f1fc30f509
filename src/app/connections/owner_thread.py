"""One thread that owns an in-process engine, used from any number of event loops and shared per path."""

import asyncio
import atexit
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, cast

from ..core.errors import StoreUnavailableError
from ..core.utils.logger import get_logger
from ._wakeup import Wakeup

logger = get_logger(__name__)

ResourceT = TypeVar("ResourceT")
R = TypeVar("R")

_RETRY_DELAY = 0.005


class Job(Generic[ResourceT]):
    """A function of the engine's resource, and the future on its caller's loop that waits for the outcome."""

    __slots__ = ("deadline", "error", "future", "result", "work", "write")

    def __init__(
        self, work: Callable[[ResourceT], Any], future: asyncio.Future[Any], *, write: bool, deadline: float
    ) -> None:
        self.work = work
        self.future = future
        self.write = write
        self.deadline = deadline
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, resource: ResourceT) -> None:
        try:
            self.result = self.work(resource)
        except StopIteration as error:  # a future refuses this one
            self.error = RuntimeError("the job raised StopIteration")
            self.error.__cause__ = error
        except Exception as error:  # noqa: BLE001 - carried to the caller, who raises it
            self.error = error


class OwnerThread(ABC, Generic[ResourceT]):
    """Runs jobs on the one thread that opened the resource.

    The queue is drained in one go and the outcomes of a batch wake each waiting loop once: at 32 concurrent callers
    that is a third of the cost of a wake-up per job. A job whose caller was cancelled before it started is skipped;
    one that has started is finished.
    """

    def __init__(self, label: str, timeout: float) -> None:
        self.label = label
        self.opened: Future[None] = Future()
        self.stopped: Future[None] = Future()
        self.ended = False
        """Whether the resource is closed, or was never opened."""
        self.users = 0
        self._timeout = timeout
        self._queue: SimpleQueue[Job[ResourceT] | None] = SimpleQueue()
        self._accepting = True
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wakeups: dict[asyncio.AbstractEventLoop, Wakeup[list[Job[ResourceT]]]] = {}

    @abstractmethod
    def _open(self) -> ResourceT:
        """Open the resource. Raise one of our errors; the thread then ends."""

    @abstractmethod
    def _close(self, resource: ResourceT) -> None: ...

    def _run(self, resource: ResourceT, jobs: list[Job[ResourceT]]) -> list[Job[ResourceT]]:
        """Run a batch. Return the jobs that have to be tried again a little later."""
        for job in jobs:
            job.run(resource)
        return []

    def _no_more(self, resource: ResourceT) -> None:
        """Called when no further job can come, and before those that have to be tried again are."""

    def _pause(self, waiting: list[Job[ResourceT]]) -> float:  # noqa: ARG002 - for those who know better
        """Seconds after which to try again, unless another job comes before."""
        return _RETRY_DELAY

    def start(self, after: "Future[None] | None" = None) -> None:
        """Start the thread, which opens the resource once `after` (its predecessor on the same path) has stopped."""
        self._thread = threading.Thread(target=self._main, args=(after,), name=self.label, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[ResourceT], R], *, write: bool = False) -> asyncio.Future[R]:
        """Hand over a function of the resource; the future belongs to the running loop."""
        future: asyncio.Future[R] = self._loop().create_future()
        self._put(Job(work, future, write=write, deadline=time.monotonic() + self._timeout))
        return future

    def _loop(self) -> asyncio.AbstractEventLoop:
        """The running loop, which can be woken from now on."""
        loop = asyncio.get_running_loop()
        if loop not in self._wakeups:
            with self._lock:
                if not self._accepting:
                    raise StoreUnavailableError(f"{self.label} is closed")
                ended = [each for each in self._wakeups if each.is_closed()]
                for each in ended:
                    self._wakeups.pop(each).end()
                self._wakeups[loop] = Wakeup(loop, _resolve)
        return loop

    def stop(self) -> "Future[None]":
        """Finish what was submitted, close the resource, end the thread; the future says when."""
        with self._lock:
            if self._accepting:
                self._accepting = False
                self._queue.put(None)
        return self.stopped

    def join(self) -> None:
        """Wait for the thread's last instructions, once it has `stopped`."""
        if self._thread is not None:
            self._thread.join()

    def forget(self) -> None:
        """In a forked child, where the thread does not run: refuse work that nobody would do."""
        self._lock = threading.Lock()
        self._accepting = False

    def _put(self, job: Job[ResourceT]) -> None:
        with self._lock:
            if not self._accepting:
                raise StoreUnavailableError(f"{self.label} is closed")
            self._queue.put(job)

    def _main(self, after: "Future[None] | None") -> None:
        try:
            if after is not None:
                after.result()
            resource = self._open()
        except Exception as error:  # noqa: BLE001 - raised to everyone who waits for `opened`
            self._accepting = False
            self.ended = True
            self.stopped.set_result(None)
            self.opened.set_exception(error)
            return
        self.opened.set_result(None)
        try:
            self._serve(resource)
        finally:
            try:
                self._close(resource)
            except Exception:
                logger.exception("closing %s failed", self.label)
            for wakeup in self._wakeups.values():
                wakeup.end()
            self.ended = True
            self.stopped.set_result(None)

    def _serve(self, resource: ResourceT) -> None:
        carried: list[Job[ResourceT]] = []
        stopping = False
        while not stopping or carried:
            jobs, ends = self._drain(wait=self._pause(carried) if carried else None)
            stopping = stopping or ends
            batch = [job for job in ([*carried, *jobs] if carried else jobs) if not job.future.cancelled()]
            try:
                carried = self._run(resource, batch)
            except BaseException as error:  # noqa: BLE001 - carried to the callers; the thread has to live on
                carried = []
                for job in batch:
                    job.error = job.error or error
            if carried:
                waiting = set(carried)
                batch = [job for job in batch if job not in waiting]
            self._deliver(batch)
            if stopping:
                self._no_more(resource)

    def _deliver(self, jobs: list[Job[ResourceT]]) -> None:
        """Wake each waiting loop once."""
        if len(jobs) == 1:
            self._wake(jobs[0].future.get_loop(), jobs)
            return
        by_loop: dict[asyncio.AbstractEventLoop, list[Job[ResourceT]]] = {}
        for job in jobs:
            by_loop.setdefault(job.future.get_loop(), []).append(job)
        for loop, finished in by_loop.items():
            self._wake(loop, finished)

    def _wake(self, loop: asyncio.AbstractEventLoop, finished: list[Job[ResourceT]]) -> None:
        wakeup = self._wakeups.get(loop)
        if wakeup is not None:  # else the loop has ended, and with it those who waited
            wakeup.send(finished)

    def _drain(self, wait: float | None) -> tuple[list[Job[ResourceT]], bool]:
        """Return all that is queued, after waiting for the first; and whether the end of the queue was met."""
        jobs: list[Job[ResourceT]] = []
        queue = self._queue
        try:
            job = queue.get() if wait is None else queue.get(timeout=wait)
        except Empty:
            return jobs, False
        while job is not None:
            jobs.append(job)
            if queue.empty():  # exact, since this thread alone takes from it
                return jobs, False
            job = queue.get()
        return jobs, True


def _resolve(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)


class SharedEngines:
    """The engines of this process, one per kind and path, counted by their users and stopped with the last one."""

    def __init__(self) -> None:
        self._engines: dict[tuple[type, str], OwnerThread[Any]] = {}
        self._stopping: dict[tuple[type, str], OwnerThread[Any]] = {}
        self._inherited: frozenset[tuple[type, str]] = frozenset()
        self._lock = threading.Lock()

    async def acquire(self, kind: type["EngineT"], path: str, make: Callable[[], "EngineT"]) -> "EngineT":
        """Return the open engine for a path, made on first use; give it back with `release`."""
        key = (kind, path)
        self.refuse_inherited(kind, path)
        with self._lock:
            engine = self._engines.get(key)
            if engine is None:
                engine = make()
                before = self._stopping.get(key)
                engine.start(after=None if before is None else before.stopped)
                self._engines[key] = engine
            engine.users += 1
        try:
            await asyncio.shield(asyncio.wrap_future(engine.opened))
        except BaseException:
            self.let_go(engine)
            raise
        return cast("EngineT", engine)

    def refuse_inherited(self, kind: type[OwnerThread[Any]], path: str) -> None:
        """StoreUnavailableError in a child whose parent had the path open when it forked."""
        if (kind, path) in self._inherited:
            # Locks that the parent holds look like this process's own here: what it writes could be lost.
            raise StoreUnavailableError(
                f"{path} was open when this process was forked: fork first, or start processes with spawn"
            )

    async def release(self, engine: OwnerThread[Any]) -> None:
        """Give an engine back; when it was the last user's, wait until it has stopped."""
        stopped = self.let_go(engine)
        if stopped is not None:
            await asyncio.shield(asyncio.wrap_future(stopped))
            engine.join()

    def let_go(self, engine: OwnerThread[Any]) -> "Future[None] | None":
        """Give an engine back without waiting."""
        with self._lock:
            key = next((key for key, each in self._engines.items() if each is engine), None)
            if key is None:
                return None
            engine.users -= 1
            if engine.users > 0:
                return None
            del self._engines[key]
            self._stopping = {key: each for key, each in self._stopping.items() if not each.ended}
            self._stopping[key] = engine
            return engine.stop()

    def stop_all(self) -> None:
        with self._lock:
            engines, self._engines = list(self._engines.values()), {}
            pending = [*self._stopping.values(), *engines]
        for engine in pending:
            try:
                engine.stop().result(timeout=10)
            except TimeoutError:
                logger.warning("an engine did not close in time at exit")

    def forget(self) -> None:
        """In a forked child: the threads are the parent's and do not run here."""
        for engine in self._engines.values():
            engine.forget()
        self._inherited |= {*self._engines, *(key for key, each in self._stopping.items() if not each.ended)}
        self._engines, self._stopping = {}, {}
        self._lock = threading.Lock()


EngineT = TypeVar("EngineT", bound=OwnerThread[Any])

engines = SharedEngines()
atexit.register(engines.stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=engines.forget)
