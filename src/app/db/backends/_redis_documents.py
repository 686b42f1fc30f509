"""A document as JSON text and back, and what an update makes of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json, to_json

from ...core.errors import InvalidChangeError, MigrationError
from ..models.schema import Kind
from ..models.values import storable
from ..query.operations import Document, Update, Upsert
from ._json import tagged, untagged
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
# What of a kind stands in the text as it is.
_PLAIN: Final[Mapping[Kind, type]] = {Kind.TEXT: str, Kind.INTEGER: int, Kind.FLOAT: float, Kind.BOOLEAN: bool}
_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_MOST_ACCEPTED: Final = 1000


@dataclass(slots=True)
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
        self._names = schema.fields.keys()
        several = len(schema.fields) > 1 and not schema.open
        self._values = itemgetter(*schema.fields) if several else None
        self._accepted: set[tuple[type, ...]] = set()
        """The types of values that have been found right as they are, field by field."""
        self._plain = {name: _PLAIN.get(field.kind) for name, field in schema.fields.items()}
        self._tagged = tuple(name for name, plain in self._plain.items() if plain is None)

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

    def encode(self, document: Document) -> Record:
        """The record of a new document, each value checked."""
        text, checked = self._encoded(document)
        return Record(self.id_of(document), text, checked, checked)

    def decode(self, text: str) -> Record:
        """The record of a text. MigrationError for what is no document of this collection."""
        try:
            stored = from_json(text)
            if '"$' in text:
                self._untag(stored)
            id_text = self.id_of(stored)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise MigrationError(
                f"{self._schema.name}: what is stored under a key of this collection is none of its documents"
            ) from error
        if stored.keys() == self._names:
            return Record(id_text, text, stored, stored)
        missing = {
            name: storable(field.default())
            for name, field in self._schema.fields.items()
            if name not in stored and not field.required
        }
        known = stored if self._schema.open else {name: stored[name] for name in self._names if name in stored}
        return Record(id_text, text, stored, {**known, **missing} if missing else known)

    def changed(self, record: Record, operation: Update) -> Record:
        """The record after the update. What the model does not know of it stays."""
        changed = {**record.document, **operation.changes}
        for name, by in operation.increments.items():
            changed[name] = (changed.get(name) or 0) + by
        for name, item in operation.appends.items():
            present = changed.get(name)
            changed[name] = [*(present if isinstance(present, list) else []), item]
        return self._after(record, changed, operation.check)

    def replaced(self, record: Record, document: Document, operation: Upsert) -> Record:
        """The record with another document in its place. Its key, what is kept and what is unknown stay."""
        stays = (*operation.keep, self._schema.key)
        kept = {name: record.document[name] for name in stays if name in record.document}
        raised = {name: record.document[name] + 1 for name in operation.increments}
        return self._after(record, {**document, **kept, **raised}, None)

    def _after(self, record: Record, document: Document, check: Callable[[Document], None] | None) -> Record:
        text, checked = self._encoded(document)
        if check is not None:
            check(checked)
        if self._schema.open or record.stored.keys() <= checked.keys():
            return Record(record.id, text, checked, checked)
        stored = {**record.stored, **checked}
        return Record(record.id, self._encoded(stored)[0], stored, checked)

    def _encoded(self, document: Document) -> tuple[str, Document]:
        types = None
        if self._values is not None and document.keys() == self._names:
            types = tuple(map(type, self._values(document)))
            if types in self._accepted:
                texts = {**document}
                for name in self._tagged:
                    texts[name] = _tagged(document[name])
                return to_json(texts).decode(), document
        text, checked = self._checked(document)
        if types is not None and checked is document and len(self._accepted) < _MOST_ACCEPTED:
            self._accepted.add(types)
        return text, checked

    def _checked(self, document: Document) -> tuple[str, Document]:
        plain, checked = self._plain, document
        texts: Document = {}
        for name, value in document.items():
            if type(value) is plain.get(name):
                texts[name] = value
                continue
            right = self.check(name, value)
            if right is not value:
                checked = {**checked, name: right}
            texts[f"${name}" if name.startswith("$") else name] = tagged(right)
        return to_json(texts).decode(), checked

    def _untag(self, stored: Document) -> None:
        """Top-level values in their types, in place."""
        for name in stored if self._schema.open else self._tagged:
            value = stored.get(name)
            if type(value) is dict:
                moment = value.get("$datetime") if len(value) == 1 else None
                stored[name] = untagged(value) if moment is None else datetime.fromisoformat(moment)
            elif type(value) is list and not _SCALARS.issuperset(map(type, value)):
                stored[name] = untagged(value)
        if self._schema.open:
            for name in [name for name in stored if name.startswith("$")]:
                stored[name[1:]] = stored.pop(name)


def _tagged(value: Any) -> Any:
    """As `tagged`, with less to do for what is common."""
    if type(value) is datetime:
        return _tagged_moment(value)
    return value if type(value) is list and _SCALARS.issuperset(map(type, value)) else tagged(value)


def _tagged_moment(value: datetime) -> dict[str, str]:
    """The records of one operation have one and the same time of creation and change."""
    global _last_moment  # noqa: PLW0603 - one tuple, which threads may exchange
    last, tag = _last_moment
    if last is not value:
        tag = {"$datetime": value.isoformat(timespec="milliseconds")}
        _last_moment = (value, tag)
    return tag


_last_moment: tuple[datetime | None, dict[str, str]] = (None, {})


def splice_arguments(values: Mapping[str, Any]) -> list[str]:
    """Each as the script takes it: the name as it stands in the text, that name as JSON, the value as JSON."""
    arguments: list[str] = []
    for name, value in values.items():
        marked = f"${name}" if name.startswith("$") else name
        arguments += [marked, json.dumps(marked, ensure_ascii=False), to_json(tagged(value)).decode()]
    return arguments
