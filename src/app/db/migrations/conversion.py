"""A change of every document, so that none is changed twice, wherever it was killed.

A batch is read, its new values are computed and written down in the ledger together with the old ones, and then the
documents are changed, each only while it still has the old ones. Whoever goes on after a kill finds the batch in the
ledger: a document with the new values is done, one with the old ones is not, and one with others was written meanwhile.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import AppError, MigrationError
from .ledger import Entry
from .lock import Lock
from .steps import Conversion
from .store import Found, MigrationStore, Replacement

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is. `total` was counted at its beginning; `eta` is in seconds, None while unknown."""

    migration: str
    step: str
    done: int
    total: int
    eta: float | None


Report = Callable[[Progress], None]


async def convert(store: MigrationStore, lock: Lock, step: Conversion, entry: Entry, report: Report | None) -> Entry:
    """Carry the conversion to its end; the entry as it is then, without a cursor. One batch is in memory."""
    total = await store.count(step.collection)
    start, before = time.monotonic(), entry.converted
    if entry.pending:
        entry = await _finish(store, step, entry)
    while True:
        await lock.ensure()
        found = await store.read_batch(step.collection, entry.cursor, step.batch_size)
        if not found:
            break
        replacements = _replacements(step, found, entry.name)
        entry = entry.altered(cursor=found[-1].id, converted=entry.converted + len(found))
        if replacements:
            entry = entry.altered(pending=[_to_document(each) for each in replacements])
            await store.write_entry(entry)
            entry = await _finish(store, step, entry)
        if report is not None:
            speed = (entry.converted - before) / max(time.monotonic() - start, 1e-9)
            eta = max(total - entry.converted, 0) / speed if speed else None
            report(Progress(entry.name, str(step), entry.converted, max(total, entry.converted), eta))
    await store.converted(step.collection)
    return entry.altered(cursor=None, pending=None, converted=0)


async def _finish(store: MigrationStore, step: Conversion, entry: Entry) -> Entry:
    """Change what of the batch is not changed yet. What others wrote meanwhile is converted from what they wrote."""
    replacements = [_from_document(each) for each in entry.pending]
    for _ in range(_ATTEMPTS):
        await store.replace(step.collection, replacements)
        wanted = {_text(each.id): each for each in replacements}
        found = await store.read_some(step.collection, [each.id for each in replacements])
        left = [each for each in found if not _is_done(each.document, wanted[_text(each.id)])]
        if not left:
            return entry.altered(pending=None)
        replacements = _replacements(step, left, entry.name)
        if not replacements:
            return entry.altered(pending=None)
        entry = entry.altered(pending=[_to_document(each) for each in replacements])
        await store.write_entry(entry)
    raise MigrationError(
        f"{entry.name}: documents of {step.collection} change faster than they are converted: "
        "stop what writes them, and run `manystore migrate repair`"
    )


def _replacements(step: Conversion, found: Sequence[Found], name: str) -> list[Replacement]:
    replacements = []
    for each in found:
        try:
            change = step.changes(each.document)
        except AppError:
            raise
        except Exception as error:
            raise MigrationError(
                f"{name}: {step}: the function of the migration failed ({type(error).__name__}) on the document "
                f"{each.id!r}: correct it, and run `manystore migrate repair`"
            ) from error
        if change:
            expected = {field: each.document[field] for field in change.fields if field in each.document}
            replacements.append(Replacement(each.id, expected, change.values, change.removed))
    return replacements


def _is_done(document: Mapping[str, Any], wanted: Replacement) -> bool:
    return all(name in document and document[name] == value for name, value in wanted.values.items()) and not any(
        name in document for name in wanted.removed
    )


def _to_document(replacement: Replacement) -> dict[str, Any]:
    return {
        "id": replacement.id,
        "expected": [[name, value] for name, value in replacement.expected.items()],
        "values": [[name, value] for name, value in replacement.values.items()],
        "removed": list(replacement.removed),
    }


def _from_document(document: Mapping[str, Any]) -> Replacement:
    return Replacement(document["id"], dict(document["expected"]), dict(document["values"]), tuple(document["removed"]))


def _text(id: Any) -> str:
    return f"{type(id).__name__}:{id}"
