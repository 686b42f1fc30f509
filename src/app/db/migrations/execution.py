"""One migration, step by step: forward, and back where it did not come to its end."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from ...core.errors import AppError, MigrationError
from ...core.utils.logger import get_logger
from .conversion import convert
from .journal import Journal
from .ledger import Direction, State, now
from .lock import LockLostError
from .migrator import Events
from .steps import Conversion, DropCollection, Step
from .store import MigrationStore

logger = get_logger(__name__)


class Execution:
    """Each step is written down when it is done. What fails is written down too, and raised as MigrationError."""

    def __init__(
        self, connection: str, store: MigrationStore, journal: Journal, steps: Sequence[Step], events: Events | None
    ) -> None:
        self._connection = connection
        self._store = store
        self._journal = journal
        self._steps = steps
        self._events = events or Events()
        self._start = time.monotonic()

    async def run(self) -> None:
        """Go from the first step that is not done to the end."""
        name = self._journal.entry.name
        await self._write(state=State.RUNNING, error=None)
        if self._events.started is not None:
            self._events.started(name)
        while self._journal.entry.done < len(self._steps):
            await self._forward()
        if self._journal.entry.direction is Direction.UP:
            await self._write(state=State.APPLIED, finished_at=now())
        else:
            await self._journal.delete()
        self._ended()

    async def take_back(self) -> None:
        """Undo what was done of an `up`, the last step first; nothing where one of them cannot be undone.

        A collection is dropped only when it is empty: it may have been there before.
        """
        entry = self._journal.entry
        begun = entry.begun if entry.direction is Direction.UP else entry.done
        for step in self._steps[:begun]:
            if step.inverse is None:
                raise MigrationError(f"{entry.name}: nothing takes back {str(step)!r}: finish it instead")
        await self._write(state=State.RUNNING, error=None)
        if entry.direction is Direction.UP:
            if entry.begun > entry.done:
                # Half of the documents are converted, and only who goes on knows which.
                await self._forward()
            elif entry.done < len(self._steps) and not isinstance(self._steps[entry.done], Conversion):
                # It may have had an effect before it was interrupted.
                await self._undo(self._steps[entry.done])
            await self._write(direction=Direction.REVERT)
        while self._journal.entry.done:
            await self._undo(self._steps[self._journal.entry.done - 1])
            await self._write(done=self._journal.entry.done - 1)
        await self._journal.delete()
        self._ended()

    async def _undo(self, step: Step) -> None:
        inverse = step.inverse
        if isinstance(inverse, DropCollection) and not await self._store.is_empty(inverse.collection):
            logger.warning("%s: the collection %s is left, since it is not empty", self._connection, inverse.collection)
        elif inverse is not None:
            await self._do(inverse)

    async def _forward(self) -> None:
        await self._do(self._steps[self._journal.entry.done])
        await self._write(done=self._journal.entry.done + 1)

    async def _do(self, step: Step) -> None:
        name = self._journal.entry.name
        try:
            await self._journal.ensure()
            if isinstance(step, Conversion):
                await convert(self._store, self._journal, step, self._events.progress)
            else:
                await self._store.handlers[type(step)](step)
        except asyncio.CancelledError:
            await asyncio.shield(self._failed("it was cancelled"))
            raise
        except LockLostError:
            raise
        except AppError as error:
            await self._failed(str(error))
            raise MigrationError(f"{self._connection}: {name}: cannot {step}: {error}") from error
        except Exception as error:
            await self._failed(type(error).__name__)
            raise MigrationError(
                f"{self._connection}: {name}: cannot {step} ({type(error).__name__}): correct the migration, and "
                "run `manystore migrate repair`"
            ) from error

    async def _write(self, **changes: object) -> None:
        """Add the time that passed, too."""
        duration = self._journal.entry.duration + time.monotonic() - self._start
        self._start = time.monotonic()
        await self._journal.write(**changes, duration=duration)

    async def _failed(self, reason: str) -> None:
        """Where the store does not answer it stays as it is, and shows as interrupted."""
        with suppress(AppError):
            await self._write(state=State.FAILED, error=reason)

    def _ended(self) -> None:
        entry = self._journal.entry
        logger.info("%s: %s is done (%s)", self._connection, entry.name, entry.direction)
        if self._events.finished is not None:
            self._events.finished(entry.name, entry.duration)
