"""Reads of single records from a cache, and the marks that every write leaves there."""

import copy
import hashlib
from collections.abc import Awaitable, Mapping
from datetime import date, datetime
from typing import Any, Final, Self
from uuid import UUID

from ..backends._json import encode_json
from ..backends.base import CollectionSchema, StorageBackend, Transaction
from ..cache.policy import CachePolicy
from ..models.schema import Kind
from ..query.operations import Delete, Find, Insert, Update, Upsert
from ..query.predicates import ALL, Compare, Op, Predicate
from .base import CacheRule, CallNext, Declaration, Middleware, Store, Visibility
from .soft_delete import IS_LIVE

_MOST_TAGS: Final = 100
_NONE: Final = CachePolicy(1)


class Caching(Middleware):
    """The outermost: it keeps what the others made of an answer, and marks what they make of a write.

    A record is kept under its id. Under a unique value stands its id alone, and the record is asked for that value, so
    that a write by id has nothing else to drop. A write of which it is not known beforehand what it changes drops all
    of the collection. In a transaction nothing is read from the cache, and what it wrote is dropped at its end.
    """

    handles = (Find, Insert, Upsert, Update, Delete)

    def __init__(self, rule: CacheRule, *, reads: bool) -> None:
        self._cache = rule.cache
        self._policy = rule.policy or _NONE
        self._reads = reads and rule.policy is not None
        self._transaction: Transaction | None = None
        self._name = ""
        self._all = ""
        self._version = ""
        self._key = ""
        self._unique: Mapping[str, type] = {}
        self._types: Mapping[str, type] = {}

    @classmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        rule = declaration.cache
        return None if rule is None else cls(rule, reads=declaration.visibility is Visibility.LIVE)

    def attached(self, store: Store) -> "Middleware":
        schema = store.backend.schema
        each = copy.copy(self)
        each._transaction = store.backend.transaction  # noqa: SLF001 - another of this class
        each._name = collection_id(store.backend)  # noqa: SLF001
        each._all = f"{each._name}:*"  # noqa: SLF001
        each._version = version_of(schema)  # noqa: SLF001
        each._key = schema.key  # noqa: SLF001
        each._unique = unique_fields(schema)  # noqa: SLF001
        key = _TYPES.get(schema.fields[schema.key].kind)
        each._types = {**each._unique, **({schema.key: key} if key else {})}  # noqa: SLF001
        return each

    def __call__(self, operation: Find | Insert | Upsert | Update | Delete, call_next: CallNext) -> Awaitable[Any]:
        if not isinstance(operation, Find):
            return self._write(operation, call_next)
        where = operation.where
        if (
            not self._reads
            or self._transaction is not None
            or operation.limit != 1
            or operation.skip
            or operation.fields
            or not isinstance(where, Compare)
            or where.op is not Op.EQ
            or type(where.value) is not self._types.get(where.path)
        ):
            return call_next(operation)
        if where.path == self._key:
            return self._find_by_key(where, call_next)
        return self._find_by_value(where, call_next)

    async def _find_by_key(self, where: Compare, call_next: CallNext) -> list[dict[str, Any]]:
        async def load() -> Any:
            found = await call_next(Find(where, limit=1))
            return found[0] if found else None

        tag = self._tag(where.path, where.value)
        document = await self._cache.get(f"{tag}{self._version}", (tag, self._all), load, self._policy)
        return [] if document is None else [document]

    async def _find_by_value(self, where: Compare, call_next: CallNext) -> list[dict[str, Any]]:
        loaded: list[dict[str, Any]] = []

        async def load() -> Any:
            loaded[:] = await call_next(Find(where, limit=1))
            return loaded[0][self._key] if loaded else None

        tag = self._tag(where.path, where.value)
        key = await self._cache.get(f"{tag}{self._version}", (tag, self._all), load, self._policy)
        if loaded or key is None:
            return loaded
        found = await self._find_by_key(Compare(self._key, Op.EQ, key), call_next)
        if found and found[0][where.path] == where.value:
            return found
        # The record has another value by now; who has this one is not known here.
        return list(await call_next(Find(where, limit=1)))

    async def _write(self, operation: Insert | Upsert | Update | Delete, call_next: CallNext) -> Any:
        tags = (*self._tags(operation), method_tag(self._name))
        transaction = self._transaction
        if transaction is not None:
            await self._write_in(transaction, tags)
            return await call_next(operation)
        writer = await self._cache.writing(tags)
        try:
            return await call_next(operation)
        finally:
            await self._cache.written(tags, writer)

    async def _write_in(self, transaction: Transaction, tags: tuple[str, ...]) -> None:
        """Mark each tag once in a transaction, and all of them together at its end."""
        cache = self._cache
        marked: dict[str, str] = transaction.notes.setdefault(cache, {})
        new = [tag for tag in tags if tag not in marked]
        if not new:
            return

        async def settle() -> None:
            by_writer: dict[str, list[str]] = {}
            for tag, writer in marked.items():
                by_writer.setdefault(writer, []).append(tag)
            for writer, settled in by_writer.items():
                await cache.written(settled, writer)

        if not marked:
            transaction.at_end(settle)
        marked.update(dict.fromkeys(new, await cache.writing(new)))

    def _tags(self, operation: Insert | Upsert | Update | Delete) -> tuple[str, ...]:
        """What the write may change: of single records, or of all."""
        if isinstance(operation, Insert | Upsert):
            if isinstance(operation, Upsert) and operation.on != (self._key,):
                return (self._all,)
            if any(self._key not in each for each in operation.documents):
                return (self._all,)  # the store makes the key
            names = (self._key, *self._unique)
            tags = {self._tag(name, each.get(name)) for each in operation.documents for name in names}
            return tuple(tags) if len(tags) <= _MOST_TAGS else (self._all,)
        key = self._one(operation.where)
        if key is None:
            return (self._all,)
        if isinstance(operation, Delete):
            return (key,)
        if "deleted_at" in operation.changes or operation.increments.keys() & self._unique.keys():
            return (self._all,)
        changed = operation.changes.keys() & self._unique.keys()
        return (key, *[self._tag(name, operation.changes[name]) for name in changed])

    def _one(self, where: Predicate) -> str | None:
        if isinstance(where, Compare) and where.path == self._key and where.op is Op.EQ:
            return self._tag(self._key, where.value)
        return None

    def _tag(self, field: str, value: Any) -> str:
        return f"{self._name}:{field}:{value if type(value) is str else encode_json(value)}"


_TYPES: Final[Mapping[Kind, type]] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.UUID: UUID,
    Kind.DATETIME: datetime,
    Kind.DATE: date,
}
"""Where a value has one spelling. What is asked with a value of another type (5.0 or "5" for 5) goes past the cache."""


def unique_fields(schema: CollectionSchema) -> Mapping[str, type]:
    """The fields whose values are unique by themselves, with the type of these; none that lie in another one."""
    names = (
        index.fields[0]
        for index in schema.indexes
        if index.unique and len(index.fields) == 1 and index.where in (ALL, IS_LIVE)
    )
    kinds = {name: schema.fields[name].kind for name in names if name in schema.fields}
    return {name: _TYPES[kind] for name, kind in kinds.items() if kind in _TYPES}


def collection_id(backend: StorageBackend) -> str:
    """A collection among all that share a cache: of its connection, database and name.

    The braces keep what belongs together on one node of a Redis cluster.
    """
    manager = backend.manager
    return f"{{{manager.name}:{_digest(manager.identity)}:{backend.schema.name}}}"


def version_of(schema: CollectionSchema) -> str:
    """What an answer's key ends with, so that one of another model is none: while two versions of it are deployed."""
    fields = [f"{name} {field.kind} {field.nullable}" for name, field in sorted(schema.fields.items())]
    return f"#{_digest(', '.join(fields))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def method_tag(collection: str) -> str:
    """The tag of what methods answer from a collection; every write touches it."""
    return f"{collection}:methods"
