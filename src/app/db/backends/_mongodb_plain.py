"""The common case of `Documents`: all fields of the model and no others, each value of its field's own type.

One look at all names and types, a copy, and a step for each field that BSON has in another type. What is not the common
case is left to `Documents`, which takes three times as long.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

from bson import Decimal128, Int64, ObjectId

from ..models.schema import FieldSchema, Kind
from ..query.operations import Document
from ._mongodb_values import (
    EPOCH,
    KEY,
    NAIVE_EPOCH,
    UNCHANGED,
    aware,
    decode_id,
    decode_value,
    encode_id,
    encode_value,
    naive,
)
from .base import CollectionSchema

TYPES: Final[Mapping[Kind, type]] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: bool,
    Kind.DATETIME: datetime,
    Kind.DATE: date,
    Kind.DECIMAL: Decimal,
    Kind.UUID: UUID,
    Kind.BYTES: bytes,
}
_Step: TypeAlias = Callable[[Any], Any] | None
_MOST_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """A field: its name in the model and in the store, and what becomes of a value on the way; None leaves it."""

    name: str
    stored: str
    field: FieldSchema
    encode: _Step
    decode: _Step


def places_of(schema: CollectionSchema) -> list[Place]:
    return [_place(name, field, is_key=name == schema.key) for name, field in schema.fields.items()]


class PlainDocuments:
    """What each record pays is written out here, since a call for each value would cost more than what it does."""

    def __init__(self, places: list[Place]) -> None:
        self._places = places
        [key] = (place for place in places if place.stored == KEY)
        others = [place for place in places if place is not key]
        self._key = key.name
        self._encode_key = key.encode
        self._decode_key = key.decode
        self._names = tuple(place.name for place in places)
        self._stored = {place.stored for place in places}
        self._order = (KEY, *(place.name for place in others))
        # With a place for each name beforehand a dict does not grow, which takes half of the time.
        self._model_shape = dict.fromkeys((*self._names, KEY))
        self._stored_shape = dict.fromkeys((KEY, *self._names))
        self._moments = [place.name for place in others if place.field.kind is Kind.DATETIME]
        self._integers = [place.name for place in others if place.field.kind is Kind.INTEGER]
        self._nested = [place.name for place in others if place.field.kind is Kind.JSON]
        done = {*self._moments, *self._integers, *self._nested}
        self._encoders = [
            (place.name, place.encode)
            for place in others
            if place.encode is not None and place.field.kind is not Kind.DATETIME
        ]
        self._decoders = [
            (place.name, place.decode) for place in others if place.decode is not None and place.name not in done
        ]
        self._right: set[tuple[type, ...]] = set()
        """The types of values that were found to fit, field by field."""
        self._last_moment: tuple[datetime | None, datetime | None] = (None, None)
        """Aware and naive. The records of one operation have one and the same time of creation and change."""

    def encode(self, document: Mapping[str, Any]) -> dict[str, Any] | None:
        if tuple(document) != self._names:
            return None
        types = tuple(map(type, document.values()))
        if types not in self._right and not self._fit(types):
            return None
        key, encode_key = document[self._key], self._encode_key
        stored: dict[str, Any] = {**self._stored_shape, **document}
        stored[KEY] = key if encode_key is None or key is None else encode_key(key)
        del stored[self._key]
        last, moment = self._last_moment
        for name in self._moments:
            value = stored[name]
            if value is last:
                stored[name] = moment
            elif value is not None:
                last, moment = self._last_moment = value, naive(value)
                stored[name] = moment
        for name, encode in self._encoders:
            value = stored[name]
            if value is not None:
                stored[name] = encode(value)
        return stored

    def decode(self, stored: Mapping[str, Any]) -> Document | None:
        return self.decode_all((stored,))[0]

    def decode_all(self, found: Iterable[Mapping[str, Any]]) -> list[Document | None]:
        """None for each that is no plain one. What it raises for a value that is not of its field's type is for
        `Documents` to name.
        """
        order, names, shape = self._order, self._stored, self._model_shape
        key_name, decode_key = self._key, self._decode_key
        moments, integers, nested, decoders = self._moments, self._integers, self._nested, self._decoders
        documents: list[Document | None] = []
        for stored in found:
            if tuple(stored) != order and stored.keys() != names:
                documents.append(None)
                continue
            document: Document = {**shape, **stored}
            key = document.pop(KEY)
            if decode_key is decode_id and type(key) is ObjectId:
                key = str(key)
            elif decode_key is not None and key is not None:
                key = decode_key(key)
            document[key_name] = key
            for name in moments:
                value = document[name]
                if value is not None:
                    document[name] = EPOCH + (value - NAIVE_EPOCH)  # as `aware`
            for name in integers:
                value = document[name]
                if type(value) is Int64:
                    document[name] = int(value)
            for name in nested:
                value = document[name]
                if type(value) is not list or not UNCHANGED.issuperset(map(type, value)):
                    document[name] = decode_value(value)
            for name, decode in decoders:
                value = document[name]
                if value is not None:
                    document[name] = decode(value)
            documents.append(document)
        return documents

    def _fit(self, types: tuple[type, ...]) -> bool:
        """Whether values of these types are stored by one step each."""
        fit = all(map(_is_right, self._places, types))
        if fit and len(self._right) < _MOST_REMEMBERED:
            self._right.add(types)
        return fit


def _is_right(place: Place, kind_of_value: type) -> bool:
    field = place.field
    if field.kind is Kind.JSON:
        return True
    if field.kind is Kind.DECIMAL:
        return False  # it may need a second place, and without a value it leaves the one that is there
    return field.nullable if kind_of_value is NoneType else kind_of_value is TYPES[field.kind]


def _place(name: str, field: FieldSchema, *, is_key: bool) -> Place:
    if is_key and field.kind is Kind.TEXT:
        return Place(name, KEY, field, encode_id, decode_id)
    return Place(name, KEY if is_key else name, field, _ENCODERS.get(field.kind), _DECODERS.get(field.kind))


def _plain_int(value: Any) -> Any:
    return int(value) if type(value) is Int64 else value


_ENCODERS: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    Kind.DATETIME: naive,
    Kind.DATE: date.isoformat,
    Kind.JSON: encode_value,
}
_DECODERS: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    Kind.INTEGER: _plain_int,
    Kind.DATETIME: aware,
    Kind.DATE: date.fromisoformat,
    Kind.DECIMAL: Decimal128.to_decimal,
    Kind.JSON: decode_value,
}
