"""Chroma inside this process: one thread owns the client of a directory."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..core.errors import OutcomeUnknownError, StoreUnavailableError
from ._server import import_package
from .owner_thread import Job, OwnerThread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from chromadb.api import ClientAPI
    from filelock import BaseFileLock

R = TypeVar("R")

_LOCK = ".manystore.lock"


class ChromaEngine(OwnerThread["ClientAPI"]):
    """The one client of this process for one directory. Give collections no embedding function: vectors come with us.

    Chroma does not lock its directory, and two processes lose each other's writes, so a lock of ours is held meanwhile.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__(f"chromadb {path}", timeout)
        self.path = path
        self._lock_file: BaseFileLock | None = None

    def read(self, work: "Callable[[ClientAPI], R]") -> "asyncio.Future[R]":
        return self.submit(work)

    def write(self, work: "Callable[[ClientAPI], R]") -> "asyncio.Future[R]":
        """Run a function that changes collections; nothing else runs between its steps."""
        return self.submit(work, write=True)

    def _open(self) -> "ClientAPI":
        chromadb = import_package("chromadb", "chromadb", "chromadb")
        from filelock import FileLock, Timeout  # noqa: PLC0415 - 20 ms that only embedded stores need

        path = Path(self.path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path / _LOCK, timeout=0, thread_local=False)
            lock.acquire()
        except Timeout as error:
            raise StoreUnavailableError(
                f"another process has the Chroma directory {path} open: embedded vectors mean one process; "
                "stop the other one"
            ) from error
        except OSError as error:
            raise StoreUnavailableError(f"cannot open the Chroma directory {path}: {error}") from error
        try:
            settings = chromadb.config.Settings(anonymized_telemetry=False)
            client: ClientAPI = chromadb.PersistentClient(path=self.path, settings=settings)
        except Exception as error:
            lock.release()
            raise StoreUnavailableError(f"cannot open the Chroma directory {path}: {error}") from error
        self._lock_file = lock
        return client

    def _close(self, resource: "ClientAPI") -> None:
        try:
            resource.close()  # type: ignore[attr-defined]
        finally:
            if self._lock_file is not None:
                self._lock_file.release()

    def _run(self, resource: "ClientAPI", jobs: "list[Job[ClientAPI]]") -> "list[Job[ClientAPI]]":
        for job in jobs:
            try:
                job.run(resource)
            except BaseException as panic:  # noqa: BLE001 - a Rust panic is no Exception; the caller gets it as ours
                job.error = self._panicked(panic, write=job.write)
        return []

    def _panicked(self, panic: BaseException, *, write: bool) -> Exception:
        kind = OutcomeUnknownError if write else StoreUnavailableError
        ours = kind(f"the Chroma directory {self.path} failed: {panic}")
        ours.__cause__ = panic
        return ours
