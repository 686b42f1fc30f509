"""Servers that start with their first user and end with the last one: one per directory, shared by processes.

A user is a process. Each holds a shared lock on one file for as long as it uses the server; the kernel gives it back
however the process ends. `supervisor.py` waits for that lock.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from ...core.errors import StoreUnavailableError
from ...core.utils.logger import get_logger
from . import supervisor

logger = get_logger(__name__)

R = TypeVar("R")

START_TIMEOUT = 30.0
_STOP_TIMEOUT = 15.0
_SOCKET_PATH_LIMIT = 107  # bytes, the kernel's


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server. `{data}` and `{sockets}` in a command stand for its directories."""

    command: list[str]
    prepare: list[str] | None  # makes the data directory
    stale: list[str]  # files in the data directory that a killed server leaves
    stop_signal: int
    death_signal: int  # when its supervisor dies
    unprivileged: bool  # whether it refuses to run as root
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Engine:
    """What differs between the servers. Nothing in it does I/O before it is called."""

    name: str
    launch: Callable[[], Launch]
    """Find the binary, or raise one of our errors that says what to do without it."""
    socket: str
    """The file in the directory of sockets."""
    probe: Callable[[Path], bool]
    """Whether the server answers on its socket, within a second."""
    url: Callable[[Path], str]
    """What a driver connects to, for a directory of sockets."""


class Lease:
    """A server that is running for us. Given back by `release`, or by the end of the process."""

    def __init__(self, share: "_Share") -> None:
        self._share: _Share | None = share
        self._pid = os.getpid()
        self.url = share.url

    async def revive(self) -> None:
        """Return when the server answers: at once if it does, else after starting it anew. The url stays the same."""
        share = self._share
        if share is not None and self._pid == os.getpid():
            await _in_thread(share.ensure)
            self.url = share.url

    async def release(self) -> None:
        """Give the server back; when this process was its last user, wait until it has ended."""
        share, self._share = self._share, None
        if share is not None and self._pid == os.getpid():
            await _in_thread(lambda: _shares.give_back(share, wait=True))

    def let_go(self) -> None:
        """Give the server back without waiting for its end."""
        share, self._share = self._share, None
        if share is not None and self._pid == os.getpid():
            _shares.give_back(share, wait=False)


async def acquire(engine: Engine, path: Path) -> Lease:
    """Return a lease on the server of a directory, started if it does not run, after its first answer."""

    def join() -> Lease:
        share = _shares.take(engine, path)
        try:
            share.ensure()
            return Lease(share)
        except BaseException:
            _shares.give_back(share, wait=False)
            raise

    return await _in_thread(join, undo=Lease.let_go)


async def _in_thread(work: Callable[[], R], undo: Callable[[R], None] | None = None) -> R:
    """Run in a thread. When the caller is cancelled, what the work gave is undone once it is there."""
    future = asyncio.get_running_loop().run_in_executor(None, work)

    def forget(done: "asyncio.Future[R]") -> None:
        if not done.cancelled() and done.exception() is None and undo is not None:
            undo(done.result())

    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(forget)
        raise


class _Share:
    """This process's use of one server, whatever the number of its leases."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.engine = engine
        self.path = path
        self.run_dir = path / "run"
        self.leases = 0
        self.url = ""
        self._busy = threading.Lock()
        self._descriptor: int | None = None

    def ensure(self) -> None:
        """Hold the users' lock, and return when the server answers."""
        with self._busy:
            deadline = time.monotonic() + START_TIMEOUT
            launch = self.engine.launch()
            self._make_directories()
            try:
                with self._locked("start.lock", deadline):
                    self._join_users(deadline)
                    self.url = self.engine.url(self._started(launch, deadline))
            except (OSError, subprocess.SubprocessError) as error:
                if isinstance(error, StoreUnavailableError):
                    raise
                raise self._unavailable(str(error)) from error

    def leave(self, *, wait: bool) -> None:
        with self._busy:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is None:
                return
            server = self._state().get("pid")
            last = _try_lock(descriptor, exclusive=True)
            # Not by closing alone: a child that was forked a moment ago may have the descriptor too.
            _unlock(descriptor)
            os.close(descriptor)
        deadline = time.monotonic() + (_STOP_TIMEOUT if wait else 0)
        while last and (self._supervised() or self._held(supervisor.SERVER_LOCK)):
            if self._state().get("pid", server) != server or time.monotonic() > deadline:
                return  # somebody has come and started the next one
            time.sleep(0.005)
        if last:
            self._clean_up(server)

    def _clean_up(self, server: str | None) -> None:
        """Remove what a killed supervisor left, unless somebody is about to start the next one, who does it too."""
        try:
            descriptor = os.open(self.run_dir / "start.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # the directory was deleted
            return
        try:
            if _try_lock(descriptor, exclusive=True):
                state = self._state()
                if state and state["pid"] == server and not self._supervised():
                    shutil.rmtree(state["sockets"], ignore_errors=True)
                    (self.run_dir / supervisor.STATE).unlink(missing_ok=True)
                _unlock(descriptor)
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """In a forked child: the lock is the parent's, and closing this copy does not give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
        self._busy = threading.Lock()

    def _make_directories(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.run_dir.mkdir(mode=0o700)
            found = self.run_dir.lstat()
        except OSError as error:
            raise self._unavailable(str(error)) from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise self._unavailable("the directory belongs to another user; run as that user, or use another data_dir")

    @contextmanager
    def _locked(self, name: str, deadline: float) -> Iterator[None]:
        descriptor = self._take(name, deadline, exclusive=True)
        try:
            yield
        finally:
            _unlock(descriptor)
            os.close(descriptor)

    def _join_users(self, deadline: float) -> None:
        if self._descriptor is not None:
            file = self.run_dir / supervisor.USERS_LOCK
            if file.exists() and os.path.samestat(os.fstat(self._descriptor), file.stat()):
                return
            os.close(self._descriptor)  # of a directory that was deleted since
            self._descriptor = None
        self._descriptor = self._take(supervisor.USERS_LOCK, deadline, exclusive=False)

    def _take(self, name: str, deadline: float, *, exclusive: bool) -> int:
        descriptor = os.open(self.run_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while not _try_lock(descriptor, exclusive=exclusive):
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise self._unavailable(f"{name} stayed locked for {START_TIMEOUT:g} s")
            time.sleep(0.005)
        return descriptor

    def _started(self, launch: Launch, deadline: float) -> Path:
        """Return the directory of the sockets of a server that has answered, starting one unless there is one."""
        starting: _Starting | None = None
        try:
            while time.monotonic() < deadline:
                sockets = self._state().get("sockets")
                # In this order: a server outlives its supervisor by a moment, in which it still answers.
                if sockets is not None and self.engine.probe(Path(sockets) / self.engine.socket) and self._supervised():
                    return Path(sockets)
                if starting is None:
                    if not self._supervised():
                        starting = _Starting(self._spec(launch))
                elif starting.ended():
                    if starting.reason:
                        raise self._unavailable(f"{starting.reason}{self._last_words()}")
                    starting.close()
                    starting = None
                time.sleep(0.01)
        finally:
            if starting is not None:
                starting.close()
        raise self._unavailable(f"it gave no answer in {START_TIMEOUT:g} s{self._last_words()}")

    def _spec(self, launch: Launch) -> str:
        log = self.run_dir / supervisor.LOG
        with suppress(FileNotFoundError):
            log.replace(log.with_suffix(".log.old"))
        spec = {**asdict(launch), "home": str(self.path), "sockets": str(self._sockets()), "namespace": NAMESPACE}
        return json.dumps(spec)

    def _sockets(self) -> Path:
        """Where the sockets may be: short under any directory, and another one when the directory was made anew."""
        found = self.run_dir.stat()
        name = f"{os.geteuid()}:{found.st_dev}:{found.st_ino}:{self.path}"
        name = f"manystore-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
        sockets = Path(tempfile.gettempdir()).absolute() / name
        if len(os.fsencode(sockets / f"-{'x' * 8}" / self.engine.socket)) > _SOCKET_PATH_LIMIT:
            sockets = Path("/tmp") / name  # noqa: S108 - the supervisor checks whose it is
        return sockets

    def _state(self) -> dict[str, str]:
        try:
            return dict(json.loads((self.run_dir / supervisor.STATE).read_text("utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def _supervised(self) -> bool:
        return self._held(supervisor.SUPERVISOR_LOCK)

    def _held(self, name: str) -> bool:
        try:
            descriptor = os.open(self.run_dir / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, exclusive=False)
        finally:
            os.close(descriptor)

    def _last_words(self) -> str:
        try:
            lines = (self.run_dir / supervisor.LOG).read_text("utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f"; {lines[-1].strip()} ({self.run_dir / supervisor.LOG})" if lines else ""

    def _unavailable(self, reason: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"the embedded {self.engine.name} in {self.path} does not run: {reason}")


NAMESPACE = True
"""Whether a server that refuses to run as root may use a user namespace, where the kernel gives one."""


class _Starting:
    """A supervisor that was started and has not been heard of; it says why it ends, if it does."""

    def __init__(self, spec: str) -> None:
        reader, writer = os.pipe()
        self._reader: int | None = reader
        self.reason = ""
        # What it inherits stays with it, so it gets nothing of the environment, where secrets live, but what it needs.
        environment = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
        try:
            subprocess.run(  # noqa: S603 - this interpreter and our own file
                [sys.executable, "-I", "-S", supervisor.__file__, spec],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                check=True,
            )
        except BaseException:
            self.close()
            raise
        finally:
            os.close(writer)

    def ended(self) -> bool:
        assert self._reader is not None  # noqa: S101 - it is asked before it is closed
        while select.select([self._reader], [], [], 0)[0]:
            said = os.read(self._reader, 65536)
            if not said:
                return True
            self.reason += said.decode(errors="replace")
        return False

    def close(self) -> None:
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None


class _Shares:
    """The servers that this process uses, one share per engine and directory."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, str], _Share] = {}
        self._lock = threading.Lock()

    def take(self, engine: Engine, path: Path) -> _Share:
        real = os.path.realpath(path)
        with self._lock:
            share = self._shares.setdefault((engine.name, real), _Share(engine, Path(real)))
            share.leases += 1
            return share

    def give_back(self, share: _Share, *, wait: bool) -> None:
        with self._lock:
            share.leases -= 1
            if share.leases:
                return
            self._shares = {key: each for key, each in self._shares.items() if each is not share}
        share.leave(wait=wait)

    def forget(self) -> None:
        for share in self._shares.values():
            share.forget()
        self._shares = {}
        self._lock = threading.Lock()


_shares = _Shares()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shares.forget)


def _try_lock(descriptor: int, *, exclusive: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
