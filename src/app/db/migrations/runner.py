"""Migrations of document, key-value and vector stores: step by step, each step written down when it is done."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import MigrationError, UnsupportedOperationError
from ...core.utils.logger import get_logger
from .execution import Execution
from .files import MigrationFile, find, load, write_new
from .journal import Journal
from .ledger import LEDGER, Direction, Entry, State, Status, now
from .lock import LEASE, Lock, is_dead, locked
from .migration import Migration
from .migrator import Events, Migrator, Report
from .steps import Step
from .store import MigrationStore

logger = get_logger(__name__)

REPAIR = "`manystore migrate repair` finishes it, and with --revert takes it back"


@dataclass(frozen=True, slots=True)
class _Known:
    """A migration: its file, and what the store has of it. One of the two may be missing."""

    name: str
    file: MigrationFile | None
    entry: Entry | None

    @property
    def state(self) -> str:
        if self.entry is None:
            return "pending"
        if not self.entry.complete:
            return "failed" if self.entry.state is State.FAILED else "interrupted"
        if self.file is None:
            return "missing"
        return "edited" if self.file.checksum != self.entry.checksum else "applied"


class StepMigrator(Migrator):
    def __init__(
        self, connection: str, directory: Path, store: MigrationStore, *, wait: float, lease: float = LEASE
    ) -> None:
        self.connection = connection
        self.directory = directory
        self._store = store
        self._wait = wait
        self._lease = lease

    async def status(self) -> list[Status]:
        held = await self._store.read_lock()
        busy = held is not None and not is_dead(held)
        return [self._status(each, busy=busy) for each in await self._known()]

    async def check(self) -> list[str]:
        return [
            f"{self.connection}: {each.name} is {each.state}"
            for each in await self.status()
            if each.state not in ("applied", "running")
        ]

    async def up(self, to: str | None = None, *, dry_run: bool = False, events: Events | None = None) -> Report:
        if dry_run:
            pending = _until(await self._sound(), to)
            return Report(self.connection, plan=tuple(self._plan(each, Direction.UP) for each in pending))
        # What is missing may be a newer version's, of which this one is restarted beside it.
        if to is None and all(each.state in ("applied", "missing") for each in await self._known()):
            return Report(self.connection)  # the usual start of an application: two reads, and no lock
        async with self._locked() as lock:
            pending = _until(await self._sound(), to)
            loaded = [(each, self._steps(each, Direction.UP)) for each in pending]
            for known, steps in loaded:
                await self._begin(lock, known, Direction.UP, steps, events)
        return Report(self.connection, applied=tuple(each.name for each in pending))

    async def _take_back(self, to: str | None, steps: int, *, dry_run: bool, events: Events | None) -> Report:
        if dry_run:
            chosen = _behind(await self._sound(), to, steps)
            return Report(self.connection, plan=tuple(self._plan(each, Direction.DOWN) for each in chosen))
        async with self._locked() as lock:
            chosen = _behind(await self._sound(), to, steps)
            loaded = [(each, self._steps(each, Direction.DOWN)) for each in chosen]
            for known, taken in loaded:
                await self._begin(lock, known, Direction.DOWN, taken, events)
        return Report(self.connection, reverted=tuple(each.name for each in chosen))

    async def repair(self, *, revert: bool = False, accept_edits: bool = False, events: Events | None = None) -> Report:
        applied: list[str] = []
        reverted: list[str] = []
        accepted: list[str] = []
        async with self._locked() as lock:
            for known in await self._known():
                entry = known.entry
                if known.state == "edited" and accept_edits and entry is not None and known.file is not None:
                    await self._store.write_entry(entry.altered(checksum=known.file.checksum))
                    accepted.append(known.name)
                    logger.info("%s: %s is taken as it is now", self.connection, known.name)
                elif entry is not None and not entry.complete:
                    await self._resume(lock, known, entry, events, revert=revert)
                    gone = revert or entry.direction is not Direction.UP
                    (reverted if gone else applied).append(known.name)
        return Report(self.connection, tuple(applied), tuple(reverted), accepted=tuple(accepted))

    async def new(self, message: str, *, autogenerate: bool = True) -> Path:
        del autogenerate  # there is no model of a document to compare with
        return await asyncio.to_thread(
            write_new, self.directory, message, await asyncio.to_thread(find, self.directory)
        )

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[Lock]:
        await self._store.prepare()
        async with locked(self._store, wait=self._wait, lease=self._lease) as lock:
            yield lock

    async def _known(self) -> list[_Known]:
        files = {each.name: each for each in await asyncio.to_thread(find, self.directory)}
        entries = {each.name: each for each in await self._store.read_entries()}
        names = sorted({*files, *entries}, key=lambda name: (int(name.partition("_")[0]), name))
        return [_Known(name, files.get(name), entries.get(name)) for name in names]

    async def _sound(self) -> list[_Known]:
        """All migrations; MigrationError where one stands in the way of any other."""
        known = await self._known()
        for each in known:
            if each.state == "edited":
                raise MigrationError(
                    f"{self.connection}: {each.name} was edited after it was applied: restore the file, and write what "
                    "shall change as a new migration; or `manystore migrate repair --accept-edits`"
                )
            if each.state == "missing":  # or renamed, and would be applied once more by its new name
                raise MigrationError(f"{self.connection}: the file of {each.name} is gone: restore it to go on")
            if each.state in ("failed", "interrupted"):
                reason = each.entry.error if each.entry is not None and each.entry.error else "it was interrupted"
                raise MigrationError(f"{self.connection}: {each.name} is half done ({reason}): {REPAIR}")
        return known

    def _steps(self, known: _Known, direction: Direction) -> list[Step]:
        """MigrationError, or UnsupportedOperationError for what this store cannot do, before anything is done."""
        migration = self._load(known)
        steps = migration.steps_up() if direction is Direction.UP else migration.steps_down()
        for step in steps:
            if getattr(step, "collection", "") == LEDGER:
                raise MigrationError(f"{known.name}: {LEDGER} is the ledger of migrations, and none of its own")
            try:
                self._store.check(step)
            except UnsupportedOperationError as error:
                raise UnsupportedOperationError(f"{known.name}: {error}") from error
        return steps

    def _load(self, known: _Known) -> Migration:
        if known.file is None:
            raise MigrationError(f"{self.connection}: the file of {known.name} is gone: restore it to go on")
        return load(known.file)

    def _plan(self, known: _Known, direction: Direction) -> tuple[str, tuple[str, ...]]:
        return known.name, tuple(map(str, self._steps(known, direction)))

    def _execution(self, lock: Lock, entry: Entry, steps: Sequence[Step], events: Events | None) -> Execution:
        return Execution(self.connection, self._store, Journal(self._store, lock, entry), steps, events)

    async def _begin(
        self, lock: Lock, known: _Known, direction: Direction, steps: Sequence[Step], events: Events | None
    ) -> None:
        assert known.file is not None  # noqa: S101 - loaded before
        entry = Entry(
            known.name,
            known.file.checksum,
            State.RUNNING,
            direction,
            tuple(map(str, steps)),
            started_at=now() if known.entry is None else known.entry.started_at,
        )
        await self._execution(lock, entry, steps, events).run()

    async def _resume(self, lock: Lock, known: _Known, entry: Entry, events: Events | None, *, revert: bool) -> None:
        """Go on behind the last step that was done; a file that was corrected must begin with the same ones."""
        steps = self._steps(known, Direction.DOWN if entry.direction is Direction.DOWN else Direction.UP)
        words = tuple(map(str, steps))
        if words[: entry.begun] != entry.steps[: entry.begun]:
            raise MigrationError(
                f"{self.connection}: the steps of {known.name} that were done already are others in its file now: "
                "restore them, and change what was not done yet"
            )
        checksum = known.file.checksum if known.file is not None else entry.checksum
        execution = self._execution(lock, entry.altered(steps=words, checksum=checksum), steps, events)
        if entry.direction is Direction.REVERT or (revert and entry.direction is Direction.UP):
            await execution.take_back()
        else:
            await execution.run()

    def _status(self, known: _Known, *, busy: bool) -> Status:
        entry = known.entry
        state = "running" if busy and known.state == "interrupted" else known.state
        if entry is None:
            return Status(self.connection, known.name, state)
        detail = "" if entry.complete else f"{entry.done} of {len(entry.steps)} steps are done"
        if entry.converted and not entry.complete:
            detail += f", and {entry.converted} documents of the next"
        if entry.error:
            detail = f"{detail}: {entry.error}"
        return Status(self.connection, known.name, state, entry.finished_at, entry.duration, detail, entry.steps)


def _until(known: Sequence[_Known], to: str | None) -> list[_Known]:
    """What is pending, as far as `to`."""
    last = len(known) if to is None else known.index(_named(known, to)) + 1
    return [each for each in known[:last] if each.state == "pending"]


def _behind(known: Sequence[_Known], to: str | None, steps: int) -> list[_Known]:
    """What was applied, the last first."""
    applied = [each for each in known if each.entry is not None]
    if to == "base":
        steps = len(applied)
    elif to is not None:
        behind = known[known.index(_named(known, to)) + 1 :]
        steps = sum(each.entry is not None for each in behind)
    return applied[::-1][:steps]


def _named(known: Sequence[_Known], name: str) -> _Known:
    found = [each for each in known if each.name == name] or [each for each in known if each.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(each.name for each in known) or "none"
        raise MigrationError(f"{len(found) or 'no'} migrations begin with {name!r}; there is: {names}")
    return found[0]
