"""Filters as MongoDB's query documents, and orders as its sorts: what they match is what `evaluate.py` says.

MongoDB looks into arrays wherever a path meets one, and the definition never does. A field of the model whose kind is
known is never an array, so its condition stays the plain one that an index serves; elsewhere every array on the way is
excluded by name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

from bson import Decimal128, ObjectId

from ...core.errors import InvalidFilterError, UnsupportedOperationError
from ..models.schema import Kind
from ..query.evaluate import holds
from ..query.evaluate import kind as kind_of
from ..query.keyset import complete
from ..query.operations import Order
from ..query.predicates import And, Compare, Not, Op, Predicate
from ._mongodb_documents import Documents, sidecar
from ._mongodb_numbers import fits_decimal128, head_and_tail
from ._mongodb_values import DATE, HEAD, KEY, TAIL, encode_id, encode_key
from ._numbers import in_column, on_column
from ._shapes import VALUE_KINDS
from .base import CollectionSchema

Query: TypeAlias = dict[str, Any]
Number: TypeAlias = int | float | Decimal

_ORDERINGS: Final[Mapping[Op, str]] = {Op.LT: "$lt", Op.LE: "$lte", Op.GT: "$gt", Op.GE: "$gte"}
_NO_ARRAY: Final[Query] = {"$not": {"$type": "array"}}
_LONGEST_REGEX = 30_000  # the server takes 32,764 bytes
_HEX_ID = 24


def never() -> Query:
    """Matches nothing, without looking at anything."""
    return {KEY: {"$in": []}}


def all_of(parts: Iterable[Query]) -> Query:
    """One flat document where that says the same, as one would write it by hand."""
    merged: Query = {}
    rest: list[Query] = []
    for part in parts:
        if part == never():
            return part
        for name, condition in part.items():
            if name not in merged and not name.startswith("$"):
                merged[name] = condition
            elif name == KEY and type(condition) in (str, ObjectId) and merged.get(KEY) == condition:
                continue
            elif name in merged and (joined := _joined(merged[name], condition)) is not None:
                merged[name] = joined
            else:
                rest.append({name: condition})
    if not rest:
        return merged
    if len(rest) == 1 and not merged.keys() & rest[0].keys():
        return {**merged, **rest[0]}
    return {"$and": [merged, *rest] if merged else rest}


def any_of(parts: Iterable[Query]) -> Query:
    some = [part for part in parts if part != never()]
    if not some:
        return never()
    if {} in some:
        return {}
    return some[0] if len(some) == 1 else {"$or": some}


def none_of(part: Query) -> Query:
    if part == never():
        return {}
    if not part:
        return never()
    if len(part) == 1:
        if "$nor" in part and len(part["$nor"]) == 1:
            return dict(part["$nor"][0])
        if "$or" in part:
            return {"$nor": part["$or"]}
    return {"$nor": [part]}


def _joined(first: Any, second: Any) -> Query | None:
    """Two conditions on one path in one document, where they have no operator in common."""
    conditions = [each if _is_operators(each) else {"$eq": each} for each in (first, second)]
    if conditions[0].keys() & conditions[1].keys():
        return None
    return {**conditions[0], **conditions[1]}


def _is_operators(condition: Any) -> bool:
    return isinstance(condition, dict) and bool(condition) and all(key.startswith("$") for key in condition)


def conjuncts(where: Predicate) -> Sequence[Predicate]:
    """What has to hold together, whatever the nesting."""
    if not isinstance(where, And):
        return (where,)
    return [each for term in where.terms for each in conjuncts(term)]


class Queries:
    """The filters and orders of one collection."""

    def __init__(self, schema: CollectionSchema, documents: Documents) -> None:
        self._schema = schema
        self._documents = documents
        texts = (name for name, field in schema.fields.items() if field.kind is Kind.TEXT)
        self._texts = {name: documents.stored_name(name) for name in texts}

    def query(self, predicate: Predicate) -> Query:
        if isinstance(predicate, Compare):
            stored = self._texts.get(predicate.path)
            if stored is not None and predicate.op is Op.EQ and type(predicate.value) is str:
                return {stored: encode_id(predicate.value) if stored == KEY else predicate.value}
            return self._comparison(predicate)
        if isinstance(predicate, Not):
            return self._negation(predicate.term)
        parts = [self.query(term) for term in predicate.terms]
        return all_of(parts) if isinstance(predicate, And) else any_of(parts)

    def sort(self, order_by: Sequence[Order]) -> dict[str, int]:
        """The sort with `_id` as the last tie-breaker; None is first ascending, as MongoDB has it too."""
        result: dict[str, int] = {}
        for order in complete(order_by, self._schema.key):
            field = self._schema.fields.get(order.field)
            if field is None:
                raise InvalidFilterError(f"{self._schema.name} has no field {order.field!r} to order by")
            if field.kind is Kind.JSON:
                raise UnsupportedOperationError(f"{self._schema.name}: cannot sort by {order.field!r}, which is nested")
            direction = -1 if order.descending else 1
            result.setdefault(self._documents.stored_name(order.field), direction)
            if field.kind is Kind.DECIMAL:
                result.setdefault(f"{sidecar(order.field)}.tail", direction)
        return result

    def _negation(self, term: Predicate) -> Query:
        if isinstance(term, Not):
            return self.query(term.term)
        inner = self.query(term)
        if isinstance(term, Compare) and self._kind(term.path) not in (None, Kind.JSON) and len(inner) == 1:
            [(name, condition)] = inner.items()
            if term.op is Op.EQ and not name.startswith("$") and not isinstance(condition, dict):
                return {name: {"$ne": condition}}
            if term.op is Op.IN and _is_operators(condition) and condition.keys() == {"$in"} and condition["$in"]:
                return {name: {"$nin": condition["$in"]}}
        return none_of(inner)

    def _kind(self, path: str) -> Kind | None:
        field = self._schema.fields.get(path)
        return None if field is None else field.kind

    def _comparison(self, predicate: Compare) -> Query:
        name = predicate.path.partition(".")[0]
        field = self._schema.fields.get(name)
        if field is None or field.kind is Kind.JSON:
            return _Nested(self._nested_path(predicate.path)).query(predicate.op, predicate.value)
        if name != predicate.path:
            # A path into a scalar leads nowhere, and what is missing equals None.
            return {} if holds(predicate.op, None, predicate.value) else never()
        if predicate.op is Op.EQ and predicate.value is None:
            return {self._documents.stored_name(name): None}
        if predicate.op is Op.IN:
            return self._in(name, field.kind, predicate.value)
        if field.kind in (Kind.INTEGER, Kind.FLOAT):
            rounded = on_column(predicate, field.kind)
            if not isinstance(rounded, Compare):
                return never()
            predicate = rounded
        if _value_kind(predicate.value) not in VALUE_KINDS[field.kind]:
            return never()
        return self._scalar(name, field.kind, predicate.op, predicate.value)

    def _scalar(self, name: str, kind: Kind, op: Op, value: Any) -> Query:
        """A condition on a field of a known kind, with a value of that kind."""
        stored = self._documents.stored_name(name)
        if kind is Kind.DECIMAL and op is not Op.CONTAINS and op is not Op.STARTSWITH:
            return _by_head_and_tail(stored, f"{sidecar(name)}.tail", op, value)
        if stored == KEY and kind is Kind.TEXT:
            return _on_text_key(op, value)
        if op is Op.EQ:
            return {stored: self._documents.encode_field(name, value)}
        if op is Op.CONTAINS or op is Op.STARTSWITH:
            if kind is not Kind.TEXT:
                return never()
            return _substring(stored, value) if op is Op.CONTAINS else {stored: _prefixed(value)}
        if kind is Kind.BYTES:
            return _by_hex(stored, op, value)
        return {stored: {_ORDERINGS[op]: self._documents.encode_field(name, value)}}

    def _in(self, name: str, kind: Kind, values: Sequence[Any]) -> Query:
        stored = self._documents.stored_name(name)
        null: list[Any] = [None] if None in values else []
        if kind is Kind.DECIMAL:
            numbers = [each for each in values if _value_kind(each) == "number"]
            return any_of([*({stored: each} for each in null), *_in_numbers(stored, f"{sidecar(name)}.tail", numbers)])
        items: Iterable[Any]
        if kind in (Kind.INTEGER, Kind.FLOAT):
            items = in_column(values, kind)
        else:
            items = (each for each in values if _value_kind(each) in VALUE_KINDS[kind])
        encoded = [*null, *dict.fromkeys(self._documents.encode_field(name, each) for each in items)]
        if not encoded:
            return never()
        return {stored: {"$in": encoded} if len(encoded) > 1 else encoded[0]}

    def _nested_path(self, path: str) -> list[str]:
        name, *rest = path.split(".")
        return [self._documents.stored_name(name), *map(encode_key, rest)]


class _Nested:
    """Conditions on a path of whatever is there: no array on the way, nor at its end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._path = ".".join(names)
        self._prefixes = [".".join(names[:end]) for end in range(1, len(names))]

    def query(self, op: Op, value: Any) -> Query:
        match op:
            case Op.EQ:
                return self._equals(value)
            case Op.IN:
                return self._in(value)
            case Op.CONTAINS:
                return self._contains(value)
            case Op.STARTSWITH:
                return self._guarded([{self._path: _prefixed(value)}])
        match _value_kind(value):
            case "number":
                return self._guarded(self._number(op, value))
            case "date":
                return self._guarded([{f"{self._path}.{DATE}": {_ORDERINGS[op]: value.isoformat()}}])
            case "bytes":
                return self._guarded([_by_hex(self._path, op, value)])
        return self._guarded([{self._path: {_ORDERINGS[op]: value}}])

    def _equals(self, value: Any) -> Query:
        match _value_kind(value):
            case "null":
                behind_array = [{prefix: {"$type": "array"}} for prefix in self._prefixes]
                return any_of([all_of([{self._path: None}, {self._path: _NO_ARRAY}]), *behind_array])
            case "number":
                return self._guarded(self._number(Op.EQ, value))
            case "date":
                return self._guarded([{f"{self._path}.{DATE}": value.isoformat()}])
        return self._guarded([{self._path: value}])

    def _in(self, values: Sequence[Any]) -> Query:
        kinds = [(_value_kind(each), each) for each in values]
        days = [each.isoformat() for kind, each in kinds if kind == "date"]
        numbers = [each for kind, each in kinds if kind == "number"]
        plain = [each for kind, each in kinds if kind not in ("date", "number", "null")]
        plain += [native for native in map(_native, numbers) if native is not None]
        parts: list[Query] = [{self._path: {"$in": plain}}] if plain else []
        parts += [{f"{self._path}.{DATE}": {"$in": days}}] if days else []
        parts += _in_numbers(f"{self._path}.{HEAD}", f"{self._path}.{TAIL}", numbers)
        found = self._guarded(parts) if parts else never()
        return any_of([found, self._equals(None)]) if None in values else found

    def _contains(self, value: Any) -> Query:
        elements: list[Query] = [{"$eq": value}]
        match _value_kind(value):
            case "number":
                head, tail = head_and_tail(value)
                native = _native(value)
                elements = [{HEAD: head, TAIL: tail}] + ([] if native is None else [{"$eq": native}])
            case "date":
                elements = [{"$eq": {DATE: value.isoformat()}}]
        in_list = all_of([*self._clear_way(), any_of({self._path: {"$elemMatch": each}} for each in elements)])
        if not isinstance(value, str):
            return in_list
        return any_of([self._guarded([_substring(self._path, value)]), in_list])

    def _number(self, op: Op, value: Number) -> list[Query]:
        """Among the numbers that BSON has, and among those that it has not."""
        parts = [_by_head_and_tail(f"{self._path}.{HEAD}", f"{self._path}.{TAIL}", op, value)]
        native = _native(value)
        if native is not None:
            parts.append({self._path: native if op is Op.EQ else {_ORDERINGS[op]: native}})
        elif op is not Op.EQ:
            # Between two numbers that BSON has: what is not above the head is below the value.
            beyond = "$lte" if op in (Op.LT, Op.LE) else "$gt"
            parts.append({self._path: {beyond: head_and_tail(value)[0]}})
        return parts

    def _guarded(self, parts: Sequence[Query]) -> Query:
        return all_of([any_of(parts), {self._path: _NO_ARRAY}, *self._clear_way()])

    def _clear_way(self) -> list[Query]:
        return [{prefix: _NO_ARRAY} for prefix in self._prefixes]


def _value_kind(value: Any) -> str | None:
    return "text" if type(value) is str else kind_of(value)


def _native(value: Number) -> int | float | Decimal128 | None:
    """The number in a type of BSON, if one has it exactly."""
    if not isinstance(value, Decimal):
        return value
    if fits_decimal128(value):
        return Decimal128(value)
    head, tail = head_and_tail(value)
    if tail is None:
        return head
    try:
        nearest = float(value)
    except OverflowError:
        return None
    return nearest if nearest == value else None


def _by_head_and_tail(head_path: str, tail_path: str, op: Op, value: Number) -> Query:
    head, tail = head_and_tail(value)
    if op is Op.EQ:
        return {head_path: head, tail_path: tail}
    if tail is None and op in (Op.LT, Op.GE):
        return {head_path: {_ORDERINGS[op]: head}}
    strict = "$lt" if op in (Op.LT, Op.LE) else "$gt"
    if tail is None:
        same: Query = {tail_path: None} if op is Op.LE else {tail_path: {"$ne": None}}
    elif op in (Op.LT, Op.LE):
        same = {"$or": [{tail_path: None}, {tail_path: {_ORDERINGS[op]: tail}}]}
    else:
        same = {tail_path: {_ORDERINGS[op]: tail}}
    return any_of([{head_path: {strict: head}}, {head_path: head, **same}])


def _in_numbers(head_path: str, tail_path: str, values: Iterable[Number]) -> list[Query]:
    pairs = {(str(head), tail): (head, tail) for head, tail in map(head_and_tail, values)}.values()
    heads = [head for head, tail in pairs if tail is None]
    parts: list[Query] = [{head_path: {"$in": heads}, tail_path: None}] if heads else []
    return parts + [{head_path: head, tail_path: tail} for head, tail in pairs if tail is not None]


def _prefixed(prefix: str) -> Query:
    """The range of texts with that beginning: texts compare by code point, and a range needs no escaping."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return {"$gte": prefix}
    following = ord(kept[-1]) + 1
    if following == 0xD800:  # noqa: PLR2004 - the first surrogate; the last is U+DFFF
        following = 0xE000
    return {"$gte": prefix, "$lt": kept[:-1] + chr(following)}


def _substring(path: str, value: str) -> Query:
    pattern = re.escape(value)
    if len(pattern.encode()) <= _LONGEST_REGEX:
        return {path: {"$regex": pattern}}
    return _contains_text(f"${path}", value)


def _contains_text(text: Any, value: str) -> Query:
    found: Query = {"$gte": [{"$indexOfBytes": [text, {"$literal": value}]}, 0]}
    return {"$expr": {"$cond": [{"$eq": [{"$type": text}, "string"]}, found, False]}}


def hexadecimal(path: str) -> Query:
    """Bytes as text that sorts as they do: MongoDB sorts binary data by its length first. Needs MongoDB 8."""
    text = {"$toUpper": {"$convert": {"input": f"${path}", "to": "string", "format": "hex"}}}
    return {"$cond": [_is_binary(path), text, None]}


def _is_binary(path: str) -> Query:
    return {"$eq": [{"$type": f"${path}"}, "binData"]}


def _by_hex(path: str, op: Op, value: bytes) -> Query:
    compared = {_ORDERINGS[op]: [hexadecimal(path), value.hex().upper()]}
    return {"$expr": {"$and": [_is_binary(path), compared]}}


def _on_text_key(op: Op, value: str) -> Query:
    """MongoDB sorts ObjectIds behind all texts, and what compares ids has to have the order of the sort."""
    encoded = encode_id(value)
    if op is Op.EQ:
        return {KEY: encoded}
    if op is Op.CONTAINS:
        return _contains_text({"$toString": f"${KEY}"}, value)
    if op is Op.STARTSWITH:
        return any_of([{KEY: _prefixed(value)}, _object_ids(value)])
    beyond = {KEY: {_ORDERINGS[op]: encoded}}
    if isinstance(encoded, ObjectId):
        return any_of([beyond, {KEY: {"$type": "string"}}]) if op in (Op.LT, Op.LE) else beyond
    return beyond if op in (Op.LT, Op.LE) else any_of([beyond, {KEY: {"$type": "objectId"}}])


def _object_ids(prefix: str) -> Query:
    if not re.fullmatch(rf"[0-9a-f]{{0,{_HEX_ID}}}", prefix):
        return never()
    first, last = (ObjectId(prefix.ljust(_HEX_ID, digit)) for digit in "0f")
    return {KEY: {"$gte": first, "$lte": last}}
