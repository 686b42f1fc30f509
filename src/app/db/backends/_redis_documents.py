"""A document as JSON text and back, and what an update makes of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from ...core.errors import InvalidChangeError, MigrationError
from ..models.schema import Kind
from ..models.values import storable
from ..query.operations import Document, Update
from ._json import decode_json, encode_json
from .base import CollectionSchema

_TYPES: Final[Mapping[Kind, tuple[type, ...]]] = {
    Kind.TEXT: (str,),
    Kind.INTEGER: (int,),
    Kind.FLOAT: (float, int),
    Kind.BOOLEAN: (bool,),
    Kind.DATETIME: (datetime,),
    Kind.DATE: (date,),
    Kind.DECIMAL: (Decimal,),
    Kind.UUID: (UUID,),
    Kind.BYTES: (bytes,),
}


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored: its text, to be compared with, and what it means with today's model."""

    id: str
    text: str
    stored: Document
    document: Document


class Documents:
    """The codec of one collection."""

    def __init__(self, schema: CollectionSchema, id_text: Callable[[Any], str | None]) -> None:
        self._schema = schema
        self._id_text = id_text
        self._names = tuple(schema.fields)

    def check(self, name: str, value: Any) -> Any:
        """The value in the field's own type. Another has not been validated, and no index would find it."""
        field = self._schema.fields.get(name)
        if field is None or (value is None and (field.nullable or field.kind is Kind.JSON)) or field.kind is Kind.JSON:
            return value
        if not isinstance(value, _TYPES[field.kind]) or isinstance(value, bool) is not (field.kind is Kind.BOOLEAN):
            raise InvalidChangeError(f"{self._schema.name}.{name}: {type(value).__name__} is not its type")
        return float(value) if isinstance(value, int) and field.kind is Kind.FLOAT else value

    def id_of(self, document: Mapping[str, Any]) -> str:
        text = self._id_text(document[self._schema.key])
        if text is None:
            raise InvalidChangeError(f"{self._schema.name}.{self._schema.key}: cannot identify a record")
        return text

    def checked(self, document: Mapping[str, Any]) -> Document:
        return {name: self.check(name, value) for name, value in document.items()}

    def decode(self, text: str) -> Record:
        """The record of a text. MigrationError for what is no document of this collection."""
        try:
            stored = decode_json(text)
            id_text = self.id_of(stored)
        except (ValueError, TypeError, LookupError) as error:
            raise MigrationError(
                f"{self._schema.name}: what is stored under a key of this collection is none of its documents"
            ) from error
        document = stored
        if not self._schema.open and document.keys() - self._schema.fields.keys():
            document = {name: stored[name] for name in self._names if name in stored}
        if len(document) < len(self._names) or not document.keys() >= self._schema.fields.keys():
            missing = {
                name: storable(field.default())
                for name, field in self._schema.fields.items()
                if name not in document and not field.required
            }
            document = {**document, **missing}
        return Record(id_text, text, stored, document)

    def changed(self, record: Record, operation: Update) -> Record:
        """The record after the update. What the model does not know of it stays."""
        changed = {**record.document, **operation.changes}
        for name, by in operation.increments.items():
            changed[name] = (changed.get(name) or 0) + by
        for name, item in operation.appends.items():
            present = changed.get(name)
            changed[name] = [*(present if isinstance(present, list) else []), item]
        changed = self.checked(changed)
        if operation.check is not None:
            operation.check(changed)
        stored = {**record.stored, **changed}
        return Record(record.id, encode_json(stored), stored, changed)


def splice_arguments(values: Mapping[str, Any]) -> list[str]:
    """Each as the script takes it: the name as it stands in the text, that name as JSON, the value as JSON."""
    arguments: list[str] = []
    for name, value in values.items():
        tagged = f"${name}" if name.startswith("$") else name
        arguments += [tagged, json.dumps(tagged, ensure_ascii=False), encode_json(value)]
    return arguments
