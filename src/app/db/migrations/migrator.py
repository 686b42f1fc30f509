"""The migrations of one connection, whatever kind of store it is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import ConfigurationError
from .conversion import Progress
from .ledger import Status


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did, or with `dry_run` would do."""

    connection: str
    applied: tuple[str, ...] = ()
    reverted: tuple[str, ...] = ()
    plan: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())
    """Of a dry run: each migration, and its steps in words, or as SQL."""
    accepted: tuple[str, ...] = ()
    """Those whose edited files were taken as they are."""


@dataclass(frozen=True, slots=True)
class Events:
    """Who wants to hear how it goes; all are called on the event loop."""

    started: Callable[[str], None] | None = None
    finished: Callable[[str, float], None] | None = None
    progress: Callable[[Progress], None] | None = None


class Migrator(ABC):
    """`to` is the name of a migration, or what it begins with. All but `status`, `check` and `new` hold the lock."""

    connection: str
    directory: Path

    @abstractmethod
    async def status(self) -> list[Status]:
        """First to last, what was applied and is gone included. Nothing is written."""

    @abstractmethod
    async def up(self, to: str | None = None, *, dry_run: bool = False, events: Events | None = None) -> Report:
        """Apply what is pending, as far as `to`. MigrationError for an edited or an interrupted one, before any."""

    async def down(
        self, to: str | None = None, *, steps: int | None = None, dry_run: bool = False, events: Events | None = None
    ) -> Report:
        """Take back the last one, or `steps` of them, or all behind `to`; "base" means all.

        ConfigurationError where `to` and `steps` are both given.
        """
        if to is not None and steps is not None:
            raise ConfigurationError(f"{self.connection}: `to` and `steps` both say how far: leave one of them out")
        if steps is not None and steps < 1:
            raise ConfigurationError(f"{self.connection}: `steps` is how many to take back, 1 or more, and not {steps}")
        return await self._take_back(to, 1 if steps is None else steps, dry_run=dry_run, events=events)

    @abstractmethod
    async def _take_back(self, to: str | None, steps: int, *, dry_run: bool, events: Events | None) -> Report:
        """`steps` of them, or all behind `to` where it is given."""

    @abstractmethod
    async def check(self) -> list[str]:
        """What is not as it should be, a sentence each: pending, edited, interrupted, missing; on SQL also where the
        models and the migrations differ.
        """

    @abstractmethod
    async def repair(self, *, revert: bool = False, accept_edits: bool = False, events: Events | None = None) -> Report:
        """Finish what was interrupted, or with `revert` take back an `up`; a `down` is always finished. `accept_edits`
        takes the files as they are now for those that were applied.
        """

    @abstractmethod
    async def new(self, message: str, *, autogenerate: bool = True) -> Path:
        """Write a new file; on SQL with the difference between the models and the database in it."""
