"""The names of keys: a document has one, and so has each value of an index.

`{collection}:{id}` is a document, `@{collection}:{index}:{digest}` an entry: the id that has a unique value, or the set
of ids that have a value. A digest, since values may be long, or an address that is nobody's business.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

from ...core.errors import InvalidFilterError, UnsupportedOperationError, did_you_mean
from ..models.schema import Kind
from ..models.values import INT64
from ..query.evaluate import kind, matches
from ..query.predicates import ALL, comparisons
from ._names import check_collection, check_identifier
from .base import CollectionSchema, Index


def canonical(value: Any) -> str | None:
    """One text for all values that are equal to each other, and no other; None for lists and dicts."""
    match kind(value):
        case None:
            return None
        case "number":
            return f"n{_number(value)}"
        case "boolean":
            return "t" if value else "f"
        case "null":
            return "-"
        case "bytes":
            return f"b{value.hex()}"
        case name:
            text = value.isoformat() if hasattr(value, "isoformat") else str(value)
            return f"{'s' if name == 'text' else name}:{text}"


def _number(value: float | Decimal) -> str:
    sign, digits, exponent = Decimal(value).as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return "0"
    shorter = text.rstrip("0")
    return f"{'-' if sign else ''}{shorter}e{int(exponent) + len(text) - len(shorter)}"


class Keys:
    """The keys of one collection. In a cluster a collection with indexes has a hash tag, so that a script finds all
    of its keys on one node: such a collection does not spread. One without indexes does.
    """

    def __init__(self, schema: CollectionSchema, *, tagged: bool) -> None:
        self.name = check_collection(schema.name)
        self.schema = schema
        self.tagged = tagged and bool(schema.indexes)
        base = f"{{{self.name}}}" if self.tagged else self.name
        self.prefix = f"{base}:"
        self.entries_prefix = f"@{base}:"
        self.meta = f"@{base}"
        self.indexes = {_index_name(index): index for index in schema.indexes}
        for name, index in self.indexes.items():
            check_identifier(name)
            for field in index.fields:
                self._check_field(field)
        self._described = [
            (name, index, index.fields, None if index.where == ALL else index.where)
            for name, index in self.indexes.items()
        ]
        self._id_is_text = schema.fields[schema.key].kind is Kind.TEXT
        named = {name for index in schema.indexes for name in index.fields}
        conditions = [each.path.partition(".")[0] for index in schema.indexes for each in comparisons(index.where)]
        self.indexed = frozenset(named.union(conditions))
        """The fields that decide the entries of a document."""
        known = [schema.fields.get(name) for name in conditions]
        self.has_nested_conditions = any(field is None or field.kind is Kind.JSON for field in known)

    def document(self, id_text: str) -> str:
        return self.prefix + id_text

    def id_text(self, value: Any) -> str | None:
        """The id in its key; None for a value that no id can be equal to."""
        if self._id_is_text:
            return value if isinstance(value, str) else None
        match self.schema.fields[self.schema.key].kind, value:
            case Kind.INTEGER, int() | float() | Decimal() if not isinstance(value, bool):
                return str(int(value)) if INT64[0] <= value <= INT64[-1] and value == int(value) else None
            case (Kind.UUID, UUID()) | (Kind.JSON, str()):
                return str(value)
            case Kind.DATETIME, datetime():
                return value.isoformat()
            case Kind.INTEGER | Kind.UUID | Kind.DATETIME, _:
                return None
        return canonical(value)

    def entries(self, document: Mapping[str, Any]) -> tuple[dict[str, Index], list[str]]:
        """The unique entries (a None in one makes it no entry) and the sets that a document belongs to."""
        unique: dict[str, Index] = {}
        sets: list[str] = []
        for name, index, fields, condition in self._described:
            if condition is not None and not matches(condition, document):
                continue
            values = [document.get(field) for field in fields]
            if not index.unique:
                sets.append(self.entry(name, values))
            elif None not in values:
                unique[self.entry(name, values)] = index
        return unique, sets

    def entry(self, index: str, values: Sequence[Any]) -> str:
        joined = ""
        for value in values:
            text = f"s:{value}" if type(value) is str else canonical(value) or ""
            joined += f"{len(text)}:{text}"
        digest = blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f"{self.entries_prefix}{index}:{digest}"

    def signature(self, index: Index) -> str:
        """What decides the entries of an index, so that they are made again when it changes."""
        return blake2b(repr((index.fields, index.unique, index.where)).encode(), digest_size=16).hexdigest()

    def _check_field(self, name: str) -> None:
        field = self.schema.fields.get(name)
        if field is None:
            raise InvalidFilterError(
                f"{self.name} has no field {name!r}{did_you_mean(name, self.schema.fields)}; "
                f"there is: {', '.join(self.schema.fields)}"
            )
        if field.kind is Kind.JSON:
            raise UnsupportedOperationError(f"{self.name}: cannot sort or index by {name!r}, which is nested")


def _index_name(index: Index) -> str:
    return index.name or f"{'_'.join(index.fields)}_{'unique' if index.unique else 'index'}"
