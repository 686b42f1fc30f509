"""Upserts on Redis: one script where only the key decides, else compare-and-set until nobody was first."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from ...core.errors import DuplicateRecordError
from ..query.operations import Document, Upsert
from ..query.predicates import And, Compare, Op, Or, Predicate
from ._redis_documents import Record
from ._redis_query import matcher, null_fields
from ._redis_records import Lifetime, Mode, Records, Write, insertion, replacement, translated
from ._redis_scripts import run
from ._redis_splice import REPLACE
from .base import CollectionSchema, Index


async def replace_all(
    client: Any, records: Records, operation: Upsert, lifetime: Lifetime
) -> list[Document] | int | None:
    """Upsert by the key, without reading; None where that does not decide it."""
    keys, documents = records.keys, records.documents
    guards = null_fields(operation.guard)
    if guards is None or operation.increments:
        return None
    given = [documents.encode(each) for each in operation.documents]
    names = [keys.document(each.id) for each in given]
    arguments = [
        *(lifetime, int(operation.returning), int(keys.schema.open), len(guards), len(operation.keep)),
        *(*guards, *operation.keep),
        *(each.text for each in given),
    ]
    try:
        answer = await run(client, REPLACE, names, arguments)
    except ResponseError as error:
        raise translated(keys, error) from error
    if isinstance(answer, int) and answer > 0:
        raise _in_the_way(keys.schema, operation.on)
    if not operation.returning:
        return len(given)
    return [
        documents.decode(text).document if text else each.document for each, text in zip(given, answer, strict=True)
    ]


async def compare_and_set(client: Any, records: Records, operation: Upsert, lifetime: Lifetime) -> list[Document] | int:
    """Upsert all documents or none, begun again as long as others are first."""
    keys, documents, given = records.keys, records.documents, operation.documents
    meets = matcher(operation.guard)
    target = _Target(keys.schema, keys.indexes, operation.on, records)
    before: list[str] | None = None
    while True:
        found = await target.find(client, given)
        if not all(old is None or meets(old.document) for old in found):
            raise _in_the_way(keys.schema, operation.on)
        after: list[Document] = []
        writes: list[Write] = []
        for old, new in zip(found, given, strict=True):
            if old is None:
                record = documents.encode(new)
                writes.append(insertion(keys, record, "none" if lifetime == "" else lifetime))
            else:
                record = documents.replaced(old, new, operation)
                writes.append(replacement(keys, old, record, lifetime))
            if operation.returning:
                after.append(record.document)
        state = ["" if old is None else old.text for old in found]
        del found, old, record  # nobody waits with them: every garbage collection until the answer goes through them
        try:
            answers = await records.write(client, writes, Mode.ALL)
        except DuplicateRecordError as error:
            # Another may have stored the very record meanwhile, which then is the one to change.
            if set(error.fields) != set(operation.on) or state == before:
                raise
        else:
            if answers == [1] * len(writes):
                return after if operation.returning else len(writes)
            for new, text, answer in zip(given, state, answers, strict=True):
                if not text and answer not in (1, "") and not target.is_same(documents.decode(answer).document, new):
                    raise DuplicateRecordError(keys.name, [keys.schema.key])
        before = state


class _Target:
    """Which record each document would be changed into: by the key, or by one unique index."""

    def __init__(
        self, schema: CollectionSchema, indexes: dict[str, Index], on: tuple[str, ...], records: Records
    ) -> None:
        self._key = schema.key
        self._records = records
        self._index = next(
            ((name, each) for name, each in indexes.items() if each.unique and set(each.fields) == set(on)), None
        )
        if on == (schema.key,):
            self._index = None

    async def find(self, client: Any, given: Sequence[Document]) -> list[Record | None]:
        places = [self._place(each) for each in given]
        wanted = [each for each, place in zip(given, places, strict=True) if place is not None]
        if not wanted:
            return [None] * len(given)
        found = {self._place(each.document): each for each in await self._records.fetch(client, self._where(wanted))}
        return [None if place is None else found.get(place) for place in places]

    def is_same(self, one: Document, other: Document) -> bool:
        return self._place(one) == self._place(other) is not None

    def _place(self, document: Document) -> str | None:
        """The id, or the entry in the index; None for a document that is in none."""
        if self._index is None:
            return self._records.documents.id_of(document)
        name, index = self._index
        unique, _ = self._records.keys.entries(document)
        entry = self._records.keys.entry(name, [document.get(field) for field in index.fields])
        return entry if entry in unique else None

    def _where(self, wanted: Sequence[Document]) -> Predicate:
        fields = (self._key,) if self._index is None else self._index[1].fields
        if len(fields) == 1:
            values = tuple([document[fields[0]] for document in wanted])
            op, value = (Op.IN, values) if len(values) > 1 else (Op.EQ, values[0])
            same: Predicate = Compare(fields[0], op, value)
        else:
            alternatives = [
                And(tuple(Compare(field, Op.EQ, document[field]) for field in fields)) for document in wanted
            ]
            same = alternatives[0] if len(alternatives) == 1 else Or(tuple(alternatives))
        return same if self._index is None else And((same, self._index[1].where))


def _in_the_way(schema: CollectionSchema, on: tuple[str, ...]) -> DuplicateRecordError:
    return DuplicateRecordError(schema.name, on)
