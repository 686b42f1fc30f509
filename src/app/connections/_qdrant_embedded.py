"""Qdrant inside this process: one thread owns every collection of a directory."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from ..core.errors import (
    AppError,
    ConfigurationError,
    MissingDependencyError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from ._json_file import write_json
from .owner_thread import Job, OwnerThread

if TYPE_CHECKING:
    import asyncio

    from filelock import BaseFileLock
    from qdrant_edge import EdgeShard

R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_CONTRACT = "contract.json"
_SHARD = "shard"
_UNFINISHED = ".new-"
_REPLACEMENT = ".replacement.json"
_FLUSH_AFTER = 1_000
"""Points, which take 15 ms, and ten times as many 70. Without it the next start has all of them to do again."""


def check_collection_name(name: str) -> str:
    """Return the name if it can be a directory of its own on every system; ConfigurationError otherwise."""
    if not _NAME.fullmatch(str(name)):
        raise ConfigurationError(
            f"{name!r} is not a collection name: up to 100 letters, digits, '_' and '-'; rename it in the configuration"
        )
    return name


class Kept:
    """What the user of a collection keeps of it as long as it is open and its contract the same."""

    def __init__(self) -> None:
        self.indexed: set[str] = set()
        """The fields that need no further thought."""
        self.contract: Any = None
        """Its contract, as the user reads it."""


class Collections:
    """The collections of one directory: `<name>/shard` is the engine's, `<name>/contract.json` says how it was made.

    Used on the owner thread alone. The lock is held for the object's life: the engine holds the interpreter's lock in
    every call and its files can be open only once, so embedded vectors mean one process.
    """

    def __init__(self, path: Path, lock: "BaseFileLock") -> None:
        self.path = path
        self._lock = lock
        self._shards: dict[str, EdgeShard] = {}
        self._contracts: dict[str, dict[str, Any]] = {}
        self._unflushed: dict[str, int] = {}
        self._kept: dict[str, Kept] = {}

    def names(self) -> list[str]:
        return sorted(
            each.parent.name for each in self.path.glob(f"*/{_CONTRACT}") if _NAME.fullmatch(each.parent.name)
        )

    def contract(self, name: str) -> dict[str, Any] | None:
        """What was given to `create`; None when there is no such collection."""
        contract = self._contracts.get(name)
        if contract is None and (file := self._home(name) / _CONTRACT).is_file():
            try:
                contract = self._contracts[name] = dict(json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise StoreUnavailableError(
                    f"cannot read {file}: {error}; restore it or delete its directory"
                ) from error
        return contract

    def shard(self, name: str) -> "EdgeShard":
        """The open collection. It must exist: ask `contract` first."""
        shard = self._shards.get(name)
        if shard is None:
            from qdrant_edge import EdgeShard  # noqa: PLC0415 - an optional package

            shard = self._shards[name] = EdgeShard.load(str(self._home(name) / _SHARD))
        return shard

    def create(self, name: str, contract: Mapping[str, Any], make: "Callable[[str], EdgeShard]") -> "EdgeShard":
        """Make a collection; `make` creates the shard in the directory it is given.

        It appears under its name by one rename when all of it is on the disk, so a process killed before that leaves
        only what the next opening removes.
        """
        unfinished = self.path / f"{_UNFINISHED}{check_collection_name(name)}"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / _SHARD).mkdir(parents=True)
        make(str(unfinished / _SHARD)).close()
        write_json(unfinished / _CONTRACT, dict(contract))
        unfinished.rename(self._home(name))
        return self.shard(name)

    def amend(self, name: str, contract: Mapping[str, Any]) -> None:
        """Put another contract in the place of a collection's own."""
        write_json(self._home(name) / _CONTRACT, dict(contract))
        self._contracts[name] = dict(contract)
        self.kept(name).contract = None

    def wrote(self, name: str, points: int) -> None:
        """Count what was written, and now and then make the engine's log short again."""
        unflushed = self._unflushed.get(name, 0) + points
        if unflushed >= _FLUSH_AFTER:
            self.shard(name).flush()
            unflushed = 0
        self._unflushed[name] = unflushed

    def kept(self, name: str) -> Kept:
        return self._kept.setdefault(name, Kept())

    def drop(self, name: str) -> bool:
        """Delete a collection with all it holds; False when there is none."""
        if self.contract(name) is None:
            return False
        self._let_go(name)
        removed = self.path / f"{_UNFINISHED}{name}"
        shutil.rmtree(removed, ignore_errors=True)
        self._home(name).rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        return True

    def replace(self, name: str, staged: str, contract: Mapping[str, Any]) -> None:
        """Give one collection the name of another, which goes, and a contract.

        What is to be done is written down first, so that the next opening finishes what a killed process has begun.
        """
        for each in (name, staged):
            self._let_go(each)
        write_json(self.path / _REPLACEMENT, {"name": name, "staged": staged, "contract": dict(contract)})
        self._finish_replacement()

    def _finish_replacement(self) -> None:
        journal = self.path / _REPLACEMENT
        if not journal.is_file():
            return
        told = json.loads(journal.read_text(encoding="utf-8"))
        name, home, staged = told["name"], self._home(told["name"]), self._home(told["staged"])
        removed = self.path / f"{_UNFINISHED}{name}"
        if staged.is_dir():
            if home.is_dir():
                shutil.rmtree(removed, ignore_errors=True)
                home.rename(removed)
            try:
                staged.rename(home)
            except OSError:  # nobody may find nothing there, and make it
                removed.rename(home)
                journal.unlink()
                raise
        self.amend(name, told["contract"])
        journal.unlink()
        shutil.rmtree(removed, ignore_errors=True)

    def finish(self) -> None:
        """Finish, or remove, what a killed process left unfinished."""
        self._finish_replacement()
        for each in self.path.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(each, ignore_errors=True)

    def close(self) -> None:
        try:
            for shard in self._shards.values():
                shard.flush()
                shard.close()
        finally:
            self._lock.release()

    def _let_go(self, name: str) -> None:
        """Close a collection, and know nothing of it."""
        shard = self._shards.pop(name, None)
        if shard is not None:
            shard.flush()
            shard.close()
        self._contracts.pop(name, None)
        self._unflushed.pop(name, None)
        self._kept.pop(name, None)

    def _home(self, name: str) -> Path:
        return self.path / check_collection_name(name)


class QdrantEngine(OwnerThread[Collections]):
    """All the collections of one directory in this process."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__(f"qdrant {path}", timeout)
        self.path = path

    def read(self, work: Callable[[Collections], R]) -> "asyncio.Future[R]":
        return self.submit(work)

    def write(self, work: Callable[[Collections], R]) -> "asyncio.Future[R]":
        """Run a function that changes collections; nothing else runs between its steps."""
        return self.submit(work, write=True)

    def _open(self) -> Collections:
        try:
            import qdrant_edge  # noqa: F401, PLC0415 - an optional package
        except ImportError as error:
            raise MissingDependencyError.for_extra("qdrant-edge-py", "embedded") from error
        from filelock import FileLock, Timeout  # noqa: PLC0415 - 20 ms that only this store needs

        path = Path(self.path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path / ".lock", timeout=0, thread_local=False)
            lock.acquire()
        except Timeout as error:
            raise StoreUnavailableError(
                f"another process has the embedded vectors in {path} open: embedded vectors mean one process; "
                "stop the other one, or use a Qdrant server for more"
            ) from error
        except OSError as error:
            raise StoreUnavailableError(f"cannot open the embedded vectors in {path}: {error}") from error
        collections = Collections(path, lock)
        collections.finish()
        return collections

    def _close(self, resource: Collections) -> None:
        resource.close()

    def _run(self, resource: Collections, jobs: list[Job[Collections]]) -> list[Job[Collections]]:
        for job in jobs:
            try:
                job.run(resource)
            except BaseException as panic:  # noqa: BLE001 - a Rust panic is no Exception; the caller gets it as ours
                job.error = self._translated(panic, write=job.write)
            if _is_the_engines(job.error):
                job.error = self._translated(job.error, write=job.write)
        return []

    def _translated(self, error: BaseException, *, write: bool) -> AppError:
        ours: AppError
        if write:
            ours = OutcomeUnknownError(f"a write to the embedded vectors in {self.path} failed half-way: {error}")
        else:
            ours = StoreUnavailableError(f"the embedded vectors in {self.path} failed: {error}")
        ours.__cause__ = error
        return ours


def _is_the_engines(error: BaseException | None) -> TypeGuard[Exception]:
    """The engine raises bare `Exception`; its files raise OSError, which our own connection errors are too."""
    return type(error) is Exception or (isinstance(error, OSError) and not isinstance(error, AppError))
