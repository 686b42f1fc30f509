"""A document of MongoDB as a migration sees it, and what a change of it is in BSON."""

from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any, TypeAlias

from ....core.errors import InvalidChangeError, MigrationError
from ...backends._mongodb_documents import Documents, sidecar
from ...backends._mongodb_values import (
    EXPIRES,
    KEY,
    decode_id,
    decode_key,
    decode_value,
    encode_top_level,
    encode_value,
)
from ...backends.base import CollectionSchema
from ...models.schema import Kind
from ..steps import DocumentChange
from ..store import Found, Replacement

Stored: TypeAlias = dict[str, Any]


class Fields:
    """Fields of one collection. A value that is not of its field's type in the model goes by its own type: what is
    migrated is of another time than the model.
    """

    def __init__(self, schema: CollectionSchema) -> None:
        self._schema = schema
        self._documents = Documents(schema)

    def found(self, stored: Stored) -> Found:
        document = {self._schema.key: decode_id(stored[KEY])}
        for place, value in stored.items():
            if place not in (KEY, EXPIRES) and not _is_sidecar(place):
                name = decode_key(place)
                beside = stored.get(sidecar(name))
                document[name] = Decimal(beside["text"]) if isinstance(beside, dict) else self._decoded(name, value)
        return Found(stored[KEY], document, stored)

    def replacement(self, found: Found, change: DocumentChange) -> Replacement:
        key = self._schema.key
        if key in change.fields:
            raise MigrationError(f"{self._schema.name}.{key} identifies a document and cannot be migrated")
        stored: Stored = found.stored
        values: Stored = {}
        for name, value in change.values.items():
            if name in change.moved:
                values |= self._places(name, stored, change.moved[name])
            else:
                values |= self._encoded(name, value)
        there = [place for name in change.fields for place in (self._place(name), sidecar(name))]
        removed = tuple(place for place in there if place in stored and place not in values)
        expected = {place: stored[place] for place in (*values, *removed) if place in stored}
        return Replacement(found.id, expected, values, removed)

    def _place(self, name: str) -> str:
        return encode_top_level(name)

    def _places(self, name: str, stored: Stored, old: str) -> Stored:
        """The values of another field, as they are."""
        pairs = {self._place(name): self._place(old), sidecar(name): sidecar(old)}
        return {place: stored[before] for place, before in pairs.items() if before in stored}

    def _encoded(self, name: str, value: Any) -> Stored:
        if name in self._schema.fields:
            with suppress(InvalidChangeError):
                return self._documents.assignments({name: value})[0]
        return {self._place(name): encode_value(value)}

    def _decoded(self, name: str, value: Any) -> Any:
        field = self._schema.fields.get(name)
        if field is not None and field.kind is Kind.DATE and isinstance(value, str):
            with suppress(ValueError):
                return date.fromisoformat(value)
        return decode_value(value)


def matching(replacement: Replacement) -> Stored:
    """The filter for the document while its fields are as expected: to MongoDB a value also equals a list with it,
    and null what is missing.
    """
    query: Stored = {KEY: replacement.id}
    nested: list[Any] = []
    scalars: list[str] = []
    for name in dict.fromkeys((*replacement.values, *replacement.removed)):
        if name not in replacement.expected:
            query[name] = {"$exists": False}
            continue
        value = replacement.expected[name]
        if isinstance(value, list | dict):
            nested.append({"$eq": [f"${name}", {"$literal": value}]})
            continue
        query[name] = {"$type": 10} if value is None else {"$eq": value}  # 10 is null
        scalars.append(name)
    if scalars:
        query["$nor"] = [{name: {"$type": "array"}} for name in scalars]
    if nested:
        query["$expr"] = {"$and": nested}
    return query


def _is_sidecar(place: str) -> bool:
    return place.startswith("~") and not place[1:2].isdigit()
