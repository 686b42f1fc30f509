"""A change of every document, so that none is changed twice, wherever it was killed.

A batch is read, its new values are computed and written down in the ledger together with the old ones, and then the
documents are changed, each only while it still has the old ones. Whoever goes on after a kill finds the batch in the
ledger: a document with the new values is done, and any other is not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ...core.errors import AppError, MigrationError
from .journal import Journal
from .steps import Conversion
from .store import Found, MigrationStore, Replacement

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is. `total` was counted at its beginning; `eta` is in seconds, None while unknown."""

    migration: str
    step: str
    done: int
    total: int
    eta: float | None


Report: TypeAlias = Callable[[Progress], None]


async def convert(store: MigrationStore, journal: Journal, step: Conversion, report: Report | None) -> None:
    """Carry the conversion to its end. One batch is in memory."""
    start, before, total = time.monotonic(), journal.entry.converted, -1
    if journal.entry.pending:
        await _begin_again(store, journal, step)
    while True:
        await journal.ensure()
        found = await store.read_batch(step.collection, journal.entry.cursor, step.batch_size)
        if not found:
            break
        if report is not None and total < 0:
            total = await store.count(step.collection)
        replacements = _replacements(store, step, found, journal.entry.name)
        journal.note(cursor=found[-1].id, converted=journal.entry.converted + len(found))
        if replacements:
            await journal.write(pending=[each.to_document() for each in replacements])
            await _finish(store, journal, step)
        if report is not None:
            done = journal.entry.converted
            eta = max(total - done, 0) * (time.monotonic() - start) / (done - before)
            report(Progress(journal.entry.name, str(step), done, max(total, done), eta))
    await journal.ensure()
    await store.converted(step.collection)
    journal.note(cursor=None, pending=None, converted=0)


async def _begin_again(store: MigrationStore, journal: Journal, step: Conversion) -> None:
    """Convert what of the batch has not the new values: from what it has, since the function may be another now."""
    pending = [Replacement.from_document(each) for each in journal.entry.pending]
    wanted = {repr(each.id): each for each in pending}
    found = await store.read_some(step.collection, [each.id for each in pending])
    undone = [each for each in found if not store.has(each, wanted[repr(each.id)])]
    replacements = _replacements(store, step, undone, journal.entry.name)
    journal.note(pending=None)
    if replacements:
        await journal.write(pending=[each.to_document() for each in replacements])
        await _finish(store, journal, step)


async def _finish(store: MigrationStore, journal: Journal, step: Conversion) -> None:
    """Change what of the batch is not changed yet. What others wrote meanwhile is converted from what they wrote."""
    for _ in range(_ATTEMPTS):
        await journal.ensure()
        pending = [Replacement.from_document(each) for each in journal.entry.pending]
        overtaken = await store.replace(step.collection, pending)
        replacements = _replacements(store, step, overtaken, journal.entry.name)
        if not replacements:
            journal.note(pending=None)
            return
        await journal.write(pending=[each.to_document() for each in replacements])
    raise MigrationError(
        f"{journal.entry.name}: documents of {step.collection} change faster than they are converted: "
        "stop what writes them, and run `manystore migrate repair`"
    )


def _replacements(store: MigrationStore, step: Conversion, found: Sequence[Found], name: str) -> list[Replacement]:
    replacements = []
    for each in found:
        try:
            change = step.changes(each.document)
            if change:
                replacements.append(store.replacement(step.collection, each, change))
        except AppError:
            raise
        except Exception as error:
            raise MigrationError(
                f"{name}: {step}: the function of the migration failed ({type(error).__name__}) on the document "
                f"{each.id!s}: correct it, and run `manystore migrate repair`"
            ) from error
    return replacements
