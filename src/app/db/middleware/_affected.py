"""The records that an operation is about to write, for the middleware that keeps a journal of them."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ..query.operations import Delete, Document, Find, Insert, Update, Upsert
from ..query.predicates import And, Compare, Op, Or, Predicate, both
from .base import Store

Writing: TypeAlias = Insert | Upsert | Update | Delete
Documents: TypeAlias = Mapping[Any, Document]
"""By the key of the record."""

_TOGETHER = 100  # alternatives in one filter, whose depth SQLite limits


def keyed(documents: Iterable[Document], key: str) -> dict[Any, Document]:
    return {document[key]: document for document in documents}


def only_key(operation: Writing, key: str) -> Any:
    """The key of the one record that it can be about; None where it may be about several."""
    match operation:
        case Update(Compare(path, Op.EQ, value)) | Delete(Compare(path, Op.EQ, value)) if path == key:
            return value
        case Upsert((document,), (name,)) if name == key:
            return document[key]
    return None


def turn_of(operation: Writing, key: str) -> Hashable:
    """What two writes have in common that would be in each other's way."""
    match operation:
        case Upsert((document,), names):
            return (names, *(document[name] for name in names))
        case Update() | Delete():
            value = only_key(operation, key)
            return None if value is None else ((key,), value)
    return None


async def affected(store: Store, operation: Upsert | Update | Delete, fields: tuple[str, ...] = ()) -> list[Document]:
    """The records that it would change or remove, as they are now, locked until the end of the transaction."""
    if isinstance(operation, Upsert):
        found: list[Document] = []
        for where in _same(operation):
            found += await store.run(Find(both(where, operation.guard), fields=fields, lock=True))
        return found
    where = both(operation.where, operation.guard)
    documents: list[Document] = await store.run(Find(where, fields=fields, lock=True))
    return documents


def narrowed(operation: Update | Delete, keys: Sequence[Any], key: str) -> Update | Delete:
    """The operation on these of its records alone, since others may match by now."""
    if only_key(operation, key) is not None:
        return operation
    return replace(operation, where=both(Compare(key, Op.IN, tuple(keys)), operation.where))


def _same(operation: Upsert) -> list[Predicate]:
    """What finds the records that have the same values of `on`. A document without one of them is the same as none."""
    names = operation.on
    values = [[document[name] for name in names] for document in operation.documents]
    values = [each for each in values if None not in each]
    if len(names) == 1:
        return [Compare(names[0], Op.IN, tuple(value for (value,) in values))] if values else []
    terms = [
        And(tuple(Compare(name, Op.EQ, value) for name, value in zip(names, each, strict=True))) for each in values
    ]
    return [Or(tuple(terms[at : at + _TOGETHER])) for at in range(0, len(terms), _TOGETHER)]
