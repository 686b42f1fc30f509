"""Every state that a record has had, in a collection beside the records."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Self

from pydantic import BaseModel

from ...core.errors import AppError, ConfigurationError, OutcomeUnknownError
from ..backends.base import CollectionSchema, Index, StorageBackend
from ..models.base import Versioned
from ..models.schema import schema_of
from ..models.values import utc_now
from ..query.operations import Delete, Document, Find, Insert, OnConflict, Order, Update, Upsert
from ..query.predicates import Compare, Op
from ._affected import Writing, affected, keyed, narrowed, only_key, turn_of
from .base import CallNext, Declaration, Middleware, Store
from .versioning import VERSION


class StateRow(BaseModel):
    """A state as it is stored."""

    id: str
    record: str
    version: int
    at: datetime
    document: dict[str, Any]


def states_of(collection: CollectionSchema) -> CollectionSchema:
    """The collection of the states of another one's records."""
    fields = schema_of(StateRow).fields
    return CollectionSchema(f"{collection.name}_history", "id", fields, (Index("record"),))


def record_text(key: Any) -> str:
    """The key of a record in a journal, where it is text whatever it is in the record."""
    return str(key)


async def read_states(backend: StorageBackend, key: Any) -> list[StateRow]:
    """The states of a record, oldest first; none where it is gone.

    The last one is what is stored now, also where no row was written for it (history was declared later, or the
    process died in between, on a store without transactions). What is left of a record that had the same key before
    is left out.
    """
    name = backend.schema.key
    found = await backend.find(Find(Compare(name, Op.EQ, key), limit=1))
    if not found:
        return []
    [current] = found
    version = current[VERSION]
    where = Compare("record", Op.EQ, record_text(key))
    rows = await backend.companion(states_of(backend.schema)).find(Find(where, (Order("version"),)))
    states = [StateRow.model_validate(row) for row in rows if row["version"] <= version]
    if not states or states[-1].version < version:
        states.append(StateRow.model_validate(_row(current, name, current.get("updated_at") or utc_now())))
    return states


class History(Middleware):
    """Nearest to the store, so that it sees what is really written: a deletion that marks is a state too.

    One more statement for each write, and a transaction around both. A record that is removed for good takes its
    states with it.
    """

    handles = (Insert, Upsert, Update, Delete)

    def __init__(self, store: Store | None = None) -> None:
        if store is not None:
            self._store = store
            self._key = store.backend.schema.key
            self._states = states_of(store.backend.schema)
            store.beside(self._states)

    @classmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        if not declaration.keeps_history:
            return None
        if not issubclass(declaration.model, Versioned):
            raise ConfigurationError(
                f"{declaration.model.__name__} is not Versioned, so its states have no number: "
                "derive it from Versioned to keep its history"
            )
        return cls()

    def attached(self, store: Store) -> Middleware:
        return History(store)

    async def __call__(self, operation: Writing, call_next: CallNext) -> Any:
        del call_next  # it is done on the store of the transaction
        if not await self._store.has_transactions():
            return await self._step_by_step(operation)
        return await self._store.atomically(partial(self._write, operation), turn=turn_of(operation, self._key))

    async def _write(self, operation: Writing, store: Store) -> Any:
        if isinstance(operation, Delete):
            return await self._delete(operation, store)
        stored = await store.run(_returning(operation))
        await self._save(store, stored)
        return _result(operation, stored)

    async def _delete(self, operation: Delete, store: Store) -> int:
        key = only_key(operation, self._key)
        keys = [key] if key is not None else [*keyed(await affected(store, operation, (self._key,)), self._key)]
        number = int(await store.run(narrowed(operation, keys, self._key))) if keys else 0
        if number:
            records = tuple(map(record_text, keys))
            await store.beside(self._states).delete(Delete(Compare("record", Op.IN, records)))
        return number

    async def _step_by_step(self, operation: Writing) -> Any:
        """Without transactions the state that is replaced is kept first, so that none is lost wherever it ends."""
        store = self._store
        if isinstance(operation, Update | Upsert):
            await self._save(store, await affected(store, operation), again=False)
        if isinstance(operation, Delete):
            return await self._delete(operation, store)
        stored = await store.run(_returning(operation))
        try:
            await self._save(store, stored)
        except AppError as error:
            raise OutcomeUnknownError(
                f"{store.backend.schema.name}: the record was written, and its state in the history was not"
            ) from error
        return _result(operation, stored)

    async def _save(self, store: Store, documents: Iterable[Document], *, again: bool = True) -> None:
        """Keep states; with `again` also one that is there already, which is of an earlier record with the same key."""
        # Now, and not when the operation came: what was waited for is over, so times rise with the versions.
        now = utc_now()
        states = store.beside(self._states)
        if not again:
            rows = tuple(_row(each, self._key, each.get("updated_at") or now) for each in documents)
            if rows:
                await states.insert(Insert(rows, on_conflict=OnConflict.SKIP))
            return
        rows = tuple(_row(document, self._key, now) for document in documents)
        # Together only in a transaction: a store without may not be able to upsert several.
        for batch in (rows,) if store.backend.transaction is not None else ((row,) for row in rows):
            if batch:
                await states.upsert(Upsert(batch, ("id",), returning=False))


def _row(document: Document, key: str, at: datetime) -> Document:
    record, version = record_text(document[key]), document[VERSION]
    return {"id": f"{record}@{version}", "record": record, "version": version, "at": at, "document": document}


def _returning(operation: Insert | Upsert | Update) -> Writing:
    return operation if isinstance(operation, Insert) else replace(operation, returning=True)


def _result(operation: Insert | Upsert | Update, stored: Any) -> Any:
    return stored if isinstance(operation, Insert) or operation.returning else len(stored)
