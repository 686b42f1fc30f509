"""Changing documents: natively where the server can do it, by comparing and setting where we have to."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final
from weakref import WeakValueDictionary

from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from ...core.errors import InvalidChangeError, StoreUnavailableError
from ..models.schema import Kind
from ..models.values import INT64
from ..query.operations import Document, Update
from ..query.predicates import Compare, Op, Predicate, both
from ._mongodb_access import Access, Collection, Stored
from ._mongodb_query import all_of, conjuncts
from ._mongodb_transaction import atomically
from ._mongodb_values import KEY, encode_value

_BATCH: Final = 1000
_MISSES: Final = 5
"""How often a record may be found as it was read, and yet not be written: another writer may have changed it back."""


class Updates:
    """The updates of one collection."""

    def __init__(self) -> None:
        # A record has one writer at a time on a loop: a hundred that compare and set would try five thousand times.
        self._turns: WeakValueDictionary[tuple[int, Any], asyncio.Lock] = WeakValueDictionary()

    async def update(self, access: Access, collection: Collection, operation: Update) -> list[Document] | int:
        if access.schema.expires:
            await self._make_room(access, operation)
        where = both(operation.where, operation.guard)
        if operation.check is not None or any(not _is_plain_counter(access, name) for name in operation.increments):
            async with self._turn(access, operation.where):
                return await _compare_and_set(access, collection, operation, where)
        query = access.filter(where)
        update = _native(access, operation)
        if not update:
            return await _unchanged(access, collection, operation, query)
        one = key_of(access, operation.where) is not None
        if not operation.returning:
            send = collection.update_one if one else collection.update_many
            result = await access.write(lambda: send(query, update, session=access.session))
            return result.matched_count
        if one:
            return await _find_and_update(access, collection, query, update)
        documents: list[Document] = []
        for key in await _keys(access, collection, query):
            documents += await _find_and_update(access, collection, all_of([{KEY: key}, query]), update)
        return documents

    async def _make_room(self, access: Access, operation: Update) -> None:
        """What has expired blocks no unique value."""
        if any(index.unique and {*index.fields} & {*operation.changes} for index in access.schema.indexes):
            await access.purge()

    def _turn(self, access: Access, where: Predicate) -> AbstractAsyncContextManager[Any]:
        key = key_of(access, where)
        if key is None or access.transaction is not None:
            return nullcontext()
        place = (id(asyncio.get_running_loop()), key)
        lock = self._turns.get(place)
        if lock is None:
            lock = self._turns[place] = asyncio.Lock()
        return lock


def key_of(access: Access, where: Predicate) -> Any:
    """The key of the one record that can match, or None."""
    for term in conjuncts(where):
        if isinstance(term, Compare) and term.op is Op.EQ and term.path == access.schema.key:
            return term.value
    return None


def _is_plain_counter(access: Access, name: str) -> bool:
    """Whether `$inc` says the same: it takes no null for 0, and lets a float become infinite."""
    field = access.schema.fields.get(name)
    return field is not None and field.kind is Kind.INTEGER and not field.nullable


def _native(access: Access, operation: Update) -> Stored | list[Stored]:
    """The update in the server's own operators; in a pipeline's where a list may be none yet."""
    values, absent = access.documents.assignments(operation.changes)
    values.update(access.expiry(operation.ttl))
    if not (absent or operation.increments or operation.appends):
        return {"$set": values} if values else {}
    names = access.documents.stored_name
    increments = {names(name): by for name, by in operation.increments.items()}
    appends = {names(name): encode_value(item) for name, item in operation.appends.items()}
    if any(_may_be_no_list(access, name) for name in operation.appends):
        return _pipeline(values, absent, increments, appends)
    update: Stored = {
        "$set": values,
        "$unset": dict.fromkeys(absent, ""),
        "$inc": increments,
        "$push": appends,
    }
    return {operator: fields for operator, fields in update.items() if fields}


def _may_be_no_list(access: Access, name: str) -> bool:
    field = access.schema.fields.get(name)
    return field is None or field.nullable


def _pipeline(
    values: Mapping[str, Any], absent: Sequence[str], increments: Mapping[str, int | float], appends: Mapping[str, Any]
) -> list[Stored]:
    fields: Stored = {name: {"$literal": value} for name, value in values.items()}
    for name, by in increments.items():
        fields[name] = {"$add": [{"$ifNull": [f"${name}", 0]}, by]}
    for name, item in appends.items():
        present = {"$cond": [{"$isArray": [f"${name}"]}, f"${name}", []]}
        fields[name] = {"$concatArrays": [present, [{"$literal": item}]]}
    return [{"$set": fields}, *([{"$unset": absent}] if absent else [])]


async def _find_and_update(access: Access, collection: Collection, query: Stored, update: Any) -> list[Document]:
    stored = await access.write(
        lambda: collection.find_one_and_update(
            query, update, return_document=ReturnDocument.AFTER, session=access.session
        )
    )
    return [] if stored is None else [access.documents.decode(stored)]


async def _unchanged(access: Access, collection: Collection, operation: Update, query: Stored) -> list[Document] | int:
    """An update of nothing still answers whether the record is there."""
    if not operation.returning:
        return await access.read(lambda: collection.count_documents(query, session=access.session))
    return [access.documents.decode(each) for each in await _find(access, collection, query)]


async def _compare_and_set(
    access: Access, collection: Collection, operation: Update, where: Predicate
) -> list[Document] | int:
    """Check what a record would become before it is written, and write only while it is what was read.

    Several records are written in one transaction where the deployment has them. Where it has not, each is checked
    before the first is written, and one that another writer changed meanwhile is checked again by itself.
    """
    query = access.filter(where)
    found = await _find(access, collection, query)
    if not found:
        return [] if operation.returning else 0
    if len(found) == 1 or access.transaction is not None or not access.has_transactions:
        documents = await _set_each(access, collection, operation, query, found)
    else:

        async def work(session: AsyncClientSession) -> list[Document]:
            again = await _find(access, collection, query, session)
            after = [_after(access, each, operation) for each in again]
            writes = [
                UpdateOne({KEY: each[KEY]}, _computed(access, operation, new))
                for each, new in zip(again, after, strict=True)
            ]
            for at in range(0, len(writes), _BATCH):
                batch = writes[at : at + _BATCH]
                await access.write(lambda batch=batch: collection.bulk_write(batch, ordered=False, session=session))  # type: ignore[misc]
            return after

        documents = await atomically(access.manager, work)
    return documents if operation.returning else len(documents)


async def _set_each(
    access: Access, collection: Collection, operation: Update, query: Stored, found: list[Stored]
) -> list[Document]:
    pending = [(stored, _after(access, stored, operation)) for stored in found]
    done: list[Document] = []
    missed = 0
    while pending:
        stored, after = pending.pop(0)
        unchanged = {KEY: stored[KEY], "$expr": {"$eq": ["$$ROOT", {"$literal": stored}]}}
        update = _computed(access, operation, after)
        if update:
            result = await access.write(
                lambda unchanged=unchanged, update=update: collection.update_one(
                    unchanged, update, session=access.session
                )  # type: ignore[misc]
            )
            if result.matched_count == 0:
                again = await _find(access, collection, all_of([{KEY: stored[KEY]}, query]))
                if again == [stored] and (missed := missed + 1) == _MISSES:
                    raise StoreUnavailableError(
                        f"{access.schema.name}: the server does not find a record by its own content"
                    )
                pending[:0] = [(each, _after(access, each, operation)) for each in again]
                continue
        done.append(after)
    return done


def _after(access: Access, stored: Stored, operation: Update) -> Document:
    """The document after the update; InvalidChangeError for a number that is none any more, or what `check` raises."""
    document = {**access.documents.decode(stored), **operation.changes}
    for name, by in operation.increments.items():
        document[name] = _sum(access, name, document.get(name) or 0, by)
    for name, item in operation.appends.items():
        present = document.get(name)
        document[name] = [*(present if isinstance(present, list) else []), item]
    if operation.check is not None:
        operation.check(document)
    return document


def _sum(access: Access, name: str, number: float, by: float) -> float:
    result = number + by
    if (result not in INT64) if isinstance(result, int) else not math.isfinite(result):
        raise InvalidChangeError(f"{access.schema.name}.{name}: the sum is beyond 64 bits")
    return result


def _computed(access: Access, operation: Update, document: Document) -> Stored:
    """The fields of an update, with the values that were computed here."""
    touched = [*operation.changes, *operation.increments, *operation.appends]
    values, absent = access.documents.assignments({name: document[name] for name in touched})
    values.update(access.expiry(operation.ttl))
    update = {"$set": values, "$unset": dict.fromkeys(absent, "")}
    return {operator: fields for operator, fields in update.items() if fields}


async def _find(
    access: Access, collection: Collection, query: Stored, session: AsyncClientSession | None = None
) -> list[Stored]:
    chosen = session or access.session
    return await access.read(lambda: collection.find(query, sort=[(KEY, 1)], session=chosen).to_list())


async def _keys(access: Access, collection: Collection, query: Stored) -> list[Any]:
    cursor = {"projection": {KEY: 1}, "sort": [(KEY, 1)], "session": access.session}
    found = await access.read(lambda: collection.find(query, **cursor).to_list())
    return [each[KEY] for each in found]
