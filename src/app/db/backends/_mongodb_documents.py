"""A document of the model as MongoDB has it, and back."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast

from ...core.errors import InvalidChangeError, MigrationError
from ..models.schema import Kind
from ..models.values import storable
from ..query.operations import Document
from ._mongodb_numbers import fits_decimal128, head_and_tail
from ._mongodb_plain import TYPES, Place, PlainDocuments, places_of
from ._mongodb_values import EXPIRES, decode_key, decode_value, encode_id, encode_top_level, encode_value
from .base import CollectionSchema

_MISFITS: Final = (TypeError, ValueError, AttributeError, ArithmeticError, LookupError)
_STORED_AS_IS: Final = frozenset(TYPES) - {Kind.DATE, Kind.DECIMAL}


def sidecar(name: str) -> str:
    """Beside a Decimal field: its text and tail, where the field itself has only the head (`_mongodb_numbers`)."""
    return f"~{name}"


class Documents:
    """The codec of one collection. The key of the model is `_id`; a 24-hex text there is an ObjectId."""

    def __init__(self, schema: CollectionSchema) -> None:
        self._schema = schema
        self._places = places_of(schema)
        self._plain = PlainDocuments(self._places)
        self._stored = {place.name: place.stored for place in self._places}
        self._as_is = {
            name: (self._stored[name], TYPES[field.kind])
            for name, field in schema.fields.items()
            if field.kind in _STORED_AS_IS and name != schema.key
        }
        """What every record has most of: the name in the store, and the type of a value that goes in as it is."""
        self._decimals = [name for name, field in schema.fields.items() if field.kind is Kind.DECIMAL]
        self._ours = {*self._stored.values()} | {EXPIRES} | set(map(sidecar, self._decimals))

    def stored_name(self, name: str) -> str:
        stored = self._stored.get(name)
        return encode_top_level(name) if stored is None else stored

    def encode(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The whole document, to be inserted."""
        plain = self._plain.encode(document)
        return self._assigned(document)[0] if plain is None else plain

    def encode_field(self, name: str, value: Any) -> Any:
        """A value in its field's own type. Another has not been validated, and no filter would find it."""
        field = self._schema.fields.get(name)
        if field is None or field.kind is Kind.JSON:
            return encode_value(value)
        if value is None:
            if not field.nullable:
                raise self._wrong(name, value)
            return None
        kind = field.kind
        if type(value) is not TYPES[kind]:
            value = self._converted(name, kind, value)
        if kind is Kind.TEXT:
            return encode_id(value) if name == self._schema.key else value
        if kind is Kind.DATE:
            return value.isoformat()
        return head_and_tail(value)[0] if kind is Kind.DECIMAL else value

    def assignments(self, changes: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[str]]:
        """What to set, and what to remove that might be there."""
        plain = self._plain.encode(changes)
        return self._assigned(changes) if plain is None else (plain, ())

    def _assigned(self, changes: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[str]]:
        values: dict[str, Any] = {}
        removed: list[str] = []
        as_is = self._as_is
        for name, value in changes.items():
            place = as_is.get(name)
            if place is not None and type(value) is place[1]:
                values[place[0]] = value
                continue
            values[self.stored_name(name)] = self.encode_field(name, value)
            if name in self._decimals:
                if value is None or fits_decimal128(value):
                    removed.append(sidecar(name))
                else:
                    values[sidecar(name)] = {"text": str(value), "tail": head_and_tail(value)[1]}
        return values, removed

    def projection(self, fields: Sequence[str]) -> dict[str, int] | None:
        """`_id` comes without asking."""
        if not fields:
            return None
        names = [each for name in fields for each in self._stored_with_sidecar(name)]
        return dict.fromkeys(names, 1)

    def decode_all(self, found: Sequence[Mapping[str, Any]], fields: tuple[str, ...] = ()) -> list[Document]:
        """As `decode` of each; of a thousand the call for each is felt."""
        try:
            plain = [None] if fields else self._plain.decode_all(found)
        except _MISFITS:
            plain = [None]  # `decode` says what it is
        return [self.decode(each, fields) for each in found] if None in plain else cast("list[Document]", plain)

    def decode(self, stored: Mapping[str, Any], fields: tuple[str, ...] = ()) -> Document:
        """The document as today's model has it; MigrationError for what is none. `fields` are those that were read."""
        try:
            plain = None if fields else self._plain.decode(stored)
        except _MISFITS:
            plain = None  # whose value it is, is said below
        if plain is not None:
            return plain
        document: Document = {}
        name = ""
        try:
            for place in self._wanted(fields) if fields else self._places:
                name, decode = place.name, place.decode
                if place.stored in stored:
                    value = stored[place.stored]
                    document[name] = value if decode is None or value is None else decode(value)
                elif not place.field.required:
                    document[name] = storable(place.field.default())
            for name in self._decimals:
                if sidecar(name) in stored and name in document:
                    document[name] = Decimal(stored[sidecar(name)]["text"])
            if self._schema.open:
                for key, value in stored.items():
                    if key not in self._ours:
                        name = decode_key(key)
                        document[name] = decode_value(value)
        except _MISFITS as error:
            raise MigrationError(
                f"{self._schema.name}.{name}: what is stored is not of the field's type: migrate the records"
            ) from error
        return document

    def _wanted(self, fields: tuple[str, ...]) -> list[Place]:
        names = {self._schema.key, *fields}
        return [place for place in self._places if place.name in names]

    def _stored_with_sidecar(self, name: str) -> list[str]:
        names = [self.stored_name(name)]
        return [*names, sidecar(name)] if name in self._decimals else names

    def _converted(self, name: str, kind: Kind, value: Any) -> Any:
        if kind is Kind.FLOAT and type(value) is int:
            return float(value)
        # A datetime is a date, and True an integer, to isinstance; here they are not.
        is_moment = kind is Kind.DATETIME and isinstance(value, datetime)
        if not is_moment and (isinstance(value, bool | datetime) or not isinstance(value, TYPES[kind])):
            raise self._wrong(name, value)
        return value

    def _wrong(self, name: str, value: Any) -> InvalidChangeError:
        return InvalidChangeError(f"{self._schema.name}.{name}: {type(value).__name__} is not its type")
