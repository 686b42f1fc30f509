"""Storing documents: all or none, new ones or in the place of those that are there."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from ...core.errors import AppError, DuplicateRecordError, UnsupportedOperationError
from ..query.operations import Document, Insert, OnConflict, Upsert
from ..query.predicates import ALL, And, Compare, Op, Predicate, both
from ._mongodb_access import Access, Collection, Stored
from ._mongodb_bulk import Bulk
from ._mongodb_errors import write_errors
from ._mongodb_values import EXPIRES, KEY

_ATTEMPTS = 3
_Encode: TypeAlias = Callable[[Document], Stored]


async def insert(access: Access, collection: Collection, operation: Insert) -> tuple[Document, ...]:
    documents, encode = operation.documents, _encoder(access, operation.ttl)
    if access.transaction is not None:
        await access.purge()  # an error would end the transaction
    if operation.on_conflict is OnConflict.SKIP:
        return await _insert_absent(access, collection, documents, encode)
    try:
        await _insert_all(access, collection, documents, encode)
    except DuplicateRecordError:
        if access.transaction is not None or not await access.purge():
            raise
        await _insert_all(access, collection, documents, encode)
    return documents


def _encoder(access: Access, ttl: float | None) -> _Encode:
    encode, expiry = access.documents.encode, access.expiry(ttl)
    return (lambda document: {**encode(document), **expiry}) if expiry else encode


async def _insert_all(access: Access, collection: Collection, documents: tuple[Document, ...], encode: _Encode) -> None:
    if len(documents) == 1:
        await access.write(lambda: collection.insert_one(encode(documents[0]), session=access.session))
        return

    if access.transaction is not None or access.has_transactions:
        await Bulk("insert", len(documents), lambda: [*map(encode, documents)]).write(access, collection)
    else:
        await _insert_or_undo(access, collection, documents, encode)


async def _insert_or_undo(
    access: Access, collection: Collection, documents: tuple[Document, ...], encode: _Encode
) -> None:
    """Without transactions: what this call inserted is deleted where something else of it was refused."""
    stored: list[Stored] = []
    refused: list[Mapping[str, Any]] = []
    failure: AppError | None = None

    async def work() -> None:
        nonlocal failure
        stored.extend(map(encode, documents))
        try:
            await collection.insert_many(stored, ordered=False)
        except BulkWriteError as error:
            refused.extend(write_errors(error))
            failure = access.failures.of(error)

    await access.write(work)
    if failure is None:
        return
    places = {each.get("index") for each in refused}
    inserted = [document[KEY] for place, document in enumerate(stored) if place not in places]
    if inserted:
        await access.write(lambda: collection.delete_many({KEY: {"$in": inserted}}))
    raise failure from failure.__cause__


async def _insert_absent(
    access: Access, collection: Collection, documents: tuple[Document, ...], encode: _Encode
) -> tuple[Document, ...]:
    done: list[Document] = []
    try:
        for document in documents:
            if await _insert_one_absent(access, collection, document, encode):
                done.append(document)  # noqa: PERF401 - if the next one fails, these are undone
    except AppError:
        if done and access.transaction is None:
            inserted = [encode(document)[KEY] for document in done]
            await access.write(lambda: collection.delete_many({KEY: {"$in": inserted}}))
        raise
    return tuple(done)


async def _insert_one_absent(access: Access, collection: Collection, document: Document, encode: _Encode) -> bool:
    if access.transaction is not None:
        # As an upsert that changes nothing, since an error would end the transaction.
        new = encode(document)
        query = {KEY: new.pop(KEY)}
        result = await access.write(
            lambda: collection.update_one(query, {"$setOnInsert": new}, upsert=True, session=access.session)
        )
        return result.upserted_id is not None
    try:
        await _insert_all(access, collection, (document,), encode)
    except DuplicateRecordError as error:
        if await access.purge():
            return await _insert_one_absent(access, collection, document, encode)
        if error.fields == (access.schema.key,):
            return False
        raise
    return True


async def upsert(access: Access, collection: Collection, operation: Upsert) -> list[Document] | int:
    if len(operation.documents) == 1:
        stored = [await _upsert_one(access, collection, operation, operation.documents[0])]
        return stored if operation.returning else 1
    if access.transaction is None and not access.has_transactions:
        raise UnsupportedOperationError(
            f"{access.schema.name}: a single MongoDB server cannot upsert several documents all or none: start it as a "
            "replica set of one, or upsert them one by one"
        )
    await access.purge()
    upserted = _upserts(access, operation)
    bulk = Bulk("update", len(operation.documents), lambda: [*map(upserted, operation.documents)])
    try:
        await bulk.write(access, collection)
    except DuplicateRecordError as error:
        if access.transaction is not None or set(error.fields) != set(operation.on):
            raise
        await bulk.write(access, collection)  # another was stored meanwhile, which is seen now
    return await _read_back(access, collection, operation) if operation.returning else len(operation.documents)


async def _upsert_one(access: Access, collection: Collection, operation: Upsert, document: Document) -> Document:
    """One step. The server takes two that come together for two new ones, and the loser begins again."""
    if access.transaction is not None:
        await access.purge()
    update = _upserts(access, operation)(document)
    attempt = 0
    while True:
        attempt += 1
        try:
            stored = await access.write(
                lambda: collection.find_one_and_update(
                    update["q"], update["u"], upsert=True, return_document=ReturnDocument.AFTER, session=access.session
                )
            )
        except DuplicateRecordError as error:
            if access.transaction is not None or attempt == _ATTEMPTS:
                raise
            if not await access.purge() and error.fields and set(error.fields) != set(operation.on):
                raise
        else:
            return access.documents.decode(stored or {})


def _upserts(access: Access, operation: Upsert) -> _Encode:
    """What makes an update of each document, as the command `update` has it."""
    documents, expiry = access.documents, access.expiry(operation.ttl)
    by_key = operation.on == (access.schema.key,) and operation.guard == ALL and not access.schema.expires
    kept = [*map(documents.stored_name, operation.keep)]

    def upserted(document: Document) -> Stored:
        values, absent = documents.assignments(document)
        if expiry:
            values.update(expiry)
        if by_key:
            query = {KEY: values[KEY]}  # as the filter would be, once for each of a thousand
        else:
            query = access.filter(both(_same(access, operation, document), operation.guard))
        if access.schema.open:
            return {"q": query, "u": _replacement(access, values, (KEY, *kept)), "upsert": True}
        key = values.pop(KEY)
        at_insert: Stored = {} if KEY in query else {KEY: key}
        for name in kept:
            if name in values:
                value = values.pop(name)
                if name not in query:
                    at_insert[name] = value
        update: Stored = {"$set": values} if values else {}
        if at_insert or not values:  # a document without any operator would be put in the place of the stored one
            update["$setOnInsert"] = at_insert or {KEY: key}
        if absent:
            dropped = [name for name in absent if name not in kept]
            if dropped:
                update["$unset"] = dict.fromkeys(dropped, "")
        return {"q": query, "u": update, "upsert": True}

    return upserted


def _same(access: Access, operation: Upsert, document: Document) -> Predicate:
    """A document without a value of `on` is the same as no other, so only its key decides."""
    is_new = any(document[name] is None for name in operation.on)
    names = (access.schema.key,) if is_new else operation.on
    return And(tuple(Compare(name, Op.EQ, document[name]) for name in names))


def _replacement(access: Access, values: Stored, kept: Sequence[str]) -> list[Stored]:
    """The whole document, so that fields which the model does not name go too; what is kept is taken from the old."""
    document: Stored = {
        name: {"$ifNull": [f"${name}", {"$literal": value}]} if name in kept else {"$literal": value}
        for name, value in values.items()
    }
    if access.schema.expires:
        document.setdefault(EXPIRES, f"${EXPIRES}")
    return [{"$replaceWith": document}]


async def _find(access: Access, collection: Collection, query: Stored) -> list[Stored]:
    return await collection.find(query, limit=1, session=access.session).to_list()


async def _read_back(access: Access, collection: Collection, operation: Upsert) -> list[Document]:
    documents: list[Document] = []
    for document in operation.documents:
        query = access.filter(both(_same(access, operation, document), operation.guard))
        found = await access.read(partial(_find, access, collection, query))
        documents += [access.documents.decode(each) for each in found]
    return documents
