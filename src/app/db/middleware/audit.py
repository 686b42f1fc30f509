"""Who changed what, and when: a row for each record that is written, never without it."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from ...core.errors import AppError, DuplicateRecordError, OutcomeUnknownError, TransactionError
from ..backends.base import Capability
from ..models.values import Scalar
from ..query.operations import Delete, Document, Find, Insert, OnConflict, Update, Upsert
from ..query.predicates import ALL, And, Compare, Op, Predicate, both
from ._affected import Documents, Writing, affected, keyed, narrowed, turn_of
from ._audit_rows import Action, AuditRows, Stage, log_of
from .base import CallNext, Declaration, Middleware, Store
from .history import record_text
from .versioning import VERSION


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: Any
    """Of the operation, as its class says."""
    before: Documents
    after: Documents


class Audit(Middleware):
    """Behind what rewrites operations, so that it sees what is really written.

    With transactions a row is written in the same one as its record, after a look at the record that keeps other
    writers away: two more statements for a change, one for a creation. Without, a row with what is about to be done
    comes first, and is completed at the end. The records of one operation are held in memory, before and after.
    """

    handles = (Insert, Upsert, Update, Delete)

    def __init__(self, rows: AuditRows, store: Store | None = None) -> None:
        self._rows = rows
        if store is not None:
            self._store = store
            self._key = store.backend.schema.key
            self._log = log_of(store.backend)
            store.beside(self._log)

    @classmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        return cls(AuditRows(declaration.model)) if declaration.audited else None

    def attached(self, store: Store) -> Middleware:
        return Audit(self._rows, store)

    async def __call__(self, operation: Writing, call_next: CallNext) -> Any:
        del call_next  # it is done on the store of the transaction
        if not await self._store.has_transactions():
            async with self._store.in_turn(turn_of(operation, self._key)):
                return await self._with_intent(operation)
        return await self._store.atomically(
            partial(self._together, operation),
            turn=turn_of(operation, self._key),
            again_on_duplicate=isinstance(operation, Upsert),
        )

    async def _together(self, operation: Writing, store: Store) -> Any:
        done = await self._carry_out(operation, store)
        rows = self._rows_of(done.before, done.after, Stage.DONE)
        if rows:
            await store.beside(self._log).insert(Insert(tuple(rows.values())))
        return done.result

    async def _carry_out(self, operation: Writing, store: Store) -> _Outcome:
        if isinstance(operation, Insert):
            stored = await store.run(operation)
            return _Outcome(stored, {}, keyed(stored, self._key))
        before = keyed(await affected(store, operation), self._key)
        if isinstance(operation, Upsert):
            stored = await _upsert(operation, store, before.values())
            return _Outcome(stored if operation.returning else len(stored), before, keyed(stored, self._key))
        return await self._change(operation, store, before)

    async def _change(self, operation: Update | Delete, store: Store, before: Documents) -> _Outcome:
        """Only the records that were looked at, since others may match by now."""
        if not before:
            return _Outcome([] if isinstance(operation, Update) and operation.returning else 0, {}, {})
        operation = narrowed(operation, [*before], self._key)
        if isinstance(operation, Delete):
            return _Outcome(await store.run(operation), before, {})
        stored = await store.run(replace(operation, returning=True))
        after = keyed(stored, self._key)
        return _Outcome(stored if operation.returning else len(stored), {key: before[key] for key in after}, after)

    def _rows_of(self, before: Documents, after: Documents, stage: Stage) -> dict[Any, Document]:
        """By the key of the record."""
        rows = self._rows
        keys = dict.fromkeys((*before, *after))
        return {key: rows.make(record_text(key), before.get(key, {}), after.get(key, {}), stage) for key in keys}

    async def _with_intent(self, operation: Writing) -> Any:
        for attempt in range(1, _ATTEMPTS + 1):
            before = {} if isinstance(operation, Insert) else keyed(await affected(self._store, operation), self._key)
            planned = _planned(operation, before, self._key)
            if not before and not planned:
                return (await self._change(operation, self._store, {})).result  # type: ignore[arg-type]  # nothing to do
            try:
                done = await self._announced(operation, before, planned)
            except DuplicateRecordError:
                # Of one that was stored, or changed, after the look at it; the next look finds that.
                if not isinstance(operation, Upsert) or attempt > _DUPLICATES:
                    raise
                done = None
            if done is not None:
                return done.result
            await asyncio.sleep(0.001 * attempt)
        raise TransactionError(
            f"{self._store.backend.schema.name}: others changed the record each time before this change could: "
            "nothing was written"
        )

    async def _announced(self, operation: Writing, before: Documents, planned: Documents) -> _Outcome | None:
        """Say it, do it, and say that it is done; None where another writer changed the record after it was read."""
        log = self._store.beside(self._log)
        intents = self._rows_of(before, planned, Stage.INTENT)
        await log.insert(Insert(tuple(intents.values())))
        try:
            done = await self._carry_out_alone(operation, before, planned)
        except AppError as error:
            if not isinstance(error, OutcomeUnknownError):
                with suppress(AppError):  # what stays is found not to have been done
                    await log.delete(Delete(_ids(intents.values())))
            raise
        try:
            written = await self._removed(before) if isinstance(operation, Delete) and done.result else {*done.after}
            left = [row for key, row in intents.items() if key not in written]
            unforeseen = self._rows_of({}, {key: done.after[key] for key in written if key not in intents}, Stage.DONE)
            if unforeseen:  # by an upsert: others stored, or removed, records after the look at them
                rows = [
                    row if _is_new(operation, done.after[key], self._key) else {**row, "action": Action.UPDATE.value}
                    for key, row in unforeseen.items()
                ]
                await log.insert(Insert(tuple(rows)))
            if left:
                await log.delete(Delete(_ids(left)))
            if written:
                await self._complete({key: intents[key] for key in written if key in intents}, done)
        except AppError as error:
            raise OutcomeUnknownError(
                f"{self._store.backend.schema.name}: the record was written, and its row in the audit log says only "
                "that it was about to be"
            ) from error
        return done if written or isinstance(operation, Insert) else None

    async def _carry_out_alone(self, operation: Writing, before: Documents, planned: Documents) -> _Outcome:
        if isinstance(operation, Insert):
            return await self._carry_out(operation, self._store)
        if isinstance(operation, Upsert):
            if len(operation.documents) > 1:
                stored = await self._store.run(replace(operation, returning=True))
            elif before:
                [(key, document)] = before.items()
                guard = both(operation.guard, _unchanged(document, planned[key]))
                stored = await self._store.run(replace(operation, guard=guard, returning=True))
            else:
                stored = await self._store.run(Insert(operation.documents, OnConflict.RAISE, operation.ttl))
            result = stored if operation.returning else len(stored)
            return _Outcome(result, before, keyed(stored, self._key))
        if len(before) == 1:
            [(key, document)] = before.items()
            unchanged = _unchanged(document, planned.get(key, {}))
            operation = replace(operation, guard=both(operation.guard, unchanged))
        return await self._change(operation, self._store, before)

    async def _removed(self, before: Documents) -> set[Any]:
        left = await self._store.backend.find(Find(Compare(self._key, Op.IN, tuple(before)), fields=(self._key,)))
        return {*before} - {document[self._key] for document in left}

    async def _complete(self, intents: Documents, done: _Outcome) -> None:
        log = self._store.beside(self._log)
        rows = self._rows_of({key: done.before.get(key, {}) for key in intents}, done.after, Stage.DONE)
        as_planned = []
        for key, intent in intents.items():
            actual = rows[key]
            if all(actual[name] == intent[name] for name in ("before", "after", "action")):
                as_planned.append(intent)
                continue
            changes = {name: actual[name] for name in ("before", "after", "action", "stage")}
            await log.update(Update(_ids([intent]), changes, returning=False))
        if as_planned:
            await log.update(Update(_ids(as_planned), {"stage": Stage.DONE.value}, returning=False))


_ATTEMPTS = 20
_DUPLICATES = 2


async def _upsert(operation: Upsert, store: Store, before: Iterable[Document]) -> list[Document]:
    """What is new as an insert, which fails where another writer stored the record after the look at it.

    Stores without savepoints find that out by themselves, at the commit. Where there is no transaction nothing does.
    """
    if Capability.SAVEPOINTS not in store.backend.capabilities:
        return list(await store.run(replace(operation, returning=True)))
    there = {tuple(document[name] for name in operation.on) for document in before}
    places: dict[bool, list[int]] = {True: [], False: []}
    for place, document in enumerate(operation.documents):
        places[tuple(document[name] for name in operation.on) in there].append(place)
    stored: dict[int, Document] = {}
    # Both or none of the two, whatever the caller of a transaction makes of an error.
    async with store.backend.transaction.savepoint() if all(places.values()) else nullcontext():
        if places[True]:
            known = tuple(operation.documents[place] for place in places[True])
            changed = await store.run(replace(operation, documents=known, returning=True))
            stored |= dict(zip(places[True], changed, strict=True))
        if places[False]:
            new = tuple(operation.documents[place] for place in places[False])
            inserted = await store.run(Insert(new, OnConflict.RAISE, operation.ttl))
            stored |= dict(zip(places[False], inserted, strict=True))
    return [stored[place] for place in sorted(stored)]


def _planned(operation: Writing, before: Documents, key: str) -> dict[Any, Document]:
    """The records as they will be; empty for what will be gone."""
    match operation:
        case Insert():
            return keyed(operation.documents, key)
        case Upsert():
            return _upserted(operation, before.values(), key)
        case Update():
            return {each: _updated(operation, document) for each, document in before.items()}
    return {}


def _upserted(operation: Upsert, before: Iterable[Document], key: str) -> dict[Any, Document]:
    there = {tuple(document[name] for name in operation.on): document for document in before}
    planned = {}
    for document in operation.documents:
        old = there.get(tuple(document[name] for name in operation.on))
        if old is not None:
            kept = {name: old[name] for name in (key, *operation.keep)}
            document = {**document, **kept, **{name: old[name] + 1 for name in operation.increments}}  # noqa: PLW2901
        planned[document[key]] = document
    return planned


def _is_new(operation: Writing, stored: Document, key: str) -> bool:
    """Whether an upsert made the record, rather than changed one that nobody had looked at."""
    if isinstance(operation, Upsert) and all(document[key] != stored[key] for document in operation.documents):
        return False
    return bool(stored.get(VERSION, 1) == 1)


def _updated(operation: Update, document: Document) -> Document:
    sums = {name: (document.get(name) or 0) + by for name, by in operation.increments.items()}
    longer = {name: [*(document.get(name) or ()), item] for name, item in operation.appends.items()}
    return {**document, **operation.changes, **sums, **longer}


def _unchanged(before: Mapping[str, Any], planned: Mapping[str, Any]) -> Predicate:
    """That the record is still as it was read: by its version, or by the fields that are about to change."""
    if VERSION in before and planned.get(VERSION) not in (None, before[VERSION]):
        return Compare(VERSION, Op.EQ, before[VERSION])
    names = [name for name in before if name not in planned or planned[name] != before[name]] if planned else []
    terms = [Compare(name, Op.EQ, before[name]) for name in names if isinstance(before[name], Scalar)]
    return And(tuple(terms)) if terms else ALL


def _ids(rows: Iterable[Document]) -> Predicate:
    return Compare("id", Op.IN, tuple(row["id"] for row in rows))
