"""What of a filter decides the text of a statement, and the rewriting that lets typed columns decide it exactly."""

from collections.abc import Hashable, Mapping
from decimal import Decimal
from operator import is_
from typing import Any

from ...core.errors import UnsupportedOperationError
from ..models.schema import FieldSchema, Kind
from ..query.evaluate import holds
from ..query.evaluate import kind as kind_of
from ..query.predicates import ALL, MAX_COMPARISONS, And, Compare, Not, Op, Or, Predicate
from ._numbers import NEVER, in_column, on_column
from .base import CollectionSchema

LARGE = "large number"
"""A number that a store may not compare exactly with the numbers in its JSON: a Decimal, or one beyond 2**53."""
_EXACT = 2**53
TEXTS = "list of text"

# The kinds of value that a kind of column holds, in the terms of `value_kind`.
VALUE_KINDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.TEXT: ("text",),
    Kind.INTEGER: ("number", LARGE),
    Kind.FLOAT: ("number", LARGE),
    Kind.DECIMAL: ("number", LARGE),
    Kind.BOOLEAN: ("boolean",),
    Kind.DATETIME: ("datetime",),
    Kind.DATE: ("date",),
    Kind.UUID: ("uuid",),
    Kind.BYTES: ("bytes",),
    Kind.OTHER: ("text", "number", LARGE, "boolean", "datetime", "date", "uuid", "bytes"),
}


# These two run for every operation, so without `match`, which takes an instance apart again for each of its cases.


def shape(predicate: Predicate, values: list[Any]) -> Hashable:
    """What of a predicate decides the SQL text. Its values are appended, in the order in which they are bound."""
    if isinstance(predicate, Compare):
        value, op = predicate.value, predicate.op
        if value is not None or op is not Op.EQ:
            values.append(value)
        return (predicate.path, op, value_kind(op, value))
    if isinstance(predicate, Not):
        return ("not", shape(predicate.term, values))
    return (type(predicate), *[shape(term, values) for term in predicate.terms])


def lower(predicate: Predicate, schema: CollectionSchema) -> Predicate:
    """Rewrite comparisons so that a column's own type can decide them exactly."""
    if isinstance(predicate, Compare):
        return _lower_comparison(predicate, schema)
    if isinstance(predicate, Not):
        return Not(lower(predicate.term, schema))
    terms = tuple([lower(term, schema) for term in predicate.terms])
    unchanged = all(map(is_, terms, predicate.terms))
    return predicate if unchanged else And(terms) if isinstance(predicate, And) else Or(terms)


def _lower_comparison(predicate: Compare, schema: CollectionSchema) -> Predicate:
    name, op, value = predicate.path, predicate.op, predicate.value
    field = schema.fields.get(name)
    if field is None:
        field = schema.fields.get(name.partition(".")[0])
        if field is None or field.kind is Kind.JSON:
            return predicate
        # A path into a scalar leads nowhere, and what is missing equals None.
        return ALL if holds(op, None, value) else NEVER
    if field.kind is Kind.JSON:
        return predicate
    if op is Op.IN:
        return _in_list(predicate, field)
    if value is None and op is Op.EQ and not field.nullable:
        return NEVER
    numeric = field.kind in (Kind.INTEGER, Kind.FLOAT) and value is not None
    return on_column(predicate, field.kind) if numeric else predicate


def without_lists(predicate: Predicate) -> Predicate:
    """Each `in` as alternatives, for the condition of an index, where SQL allows no list of its own."""
    match predicate:
        case Compare(path, Op.IN, items):
            return Or(tuple(Compare(path, Op.EQ, item) for item in items))
        case Not(term):
            return Not(without_lists(term))
        case And(terms):
            return And(tuple(map(without_lists, terms)))
        case Or(terms):
            return Or(tuple(map(without_lists, terms)))
    return predicate


def _in_list(predicate: Compare, field: FieldSchema) -> Predicate:
    """The items of the column's kind as one parameter, and None apart, since in SQL it is in no list."""
    path = predicate.path
    null = (Compare(path, Op.EQ, None),) if None in predicate.value else ()
    if field.kind in (Kind.INTEGER, Kind.FLOAT):
        items: tuple[Any, ...] = in_column(predicate.value, field.kind)
    else:
        items = tuple(item for item in predicate.value if _kind(item) in VALUE_KINDS[field.kind])
    if field.kind not in (Kind.FLOAT, Kind.BYTES) and not field.one_by_one:
        return Or((Compare(path, Op.IN, items), *null)) if null else Compare(path, Op.IN, items)
    # A list is text to a store, and of these text is not exact everywhere.
    distinct = dict.fromkeys(items)
    if len(distinct) > MAX_COMPARISONS:
        raise UnsupportedOperationError(f"{path}: 'in' with more than {MAX_COMPARISONS} values of {field.kind}")
    return Or((*null, *(Compare(path, Op.EQ, item) for item in distinct)))


def value_kind(op: Op, value: Any) -> str:
    """The kind of a value, as far as it decides the SQL text: see `LARGE`."""
    if type(value) is str:
        return "text"
    if op is Op.IN:
        return TEXTS if all(isinstance(item, str) for item in value) else "list"
    if isinstance(value, str):
        return "text"
    kind = _kind(value)
    return LARGE if kind == "number" and (isinstance(value, Decimal) or not -_EXACT <= value <= _EXACT) else kind


def _kind(value: Any) -> str:
    return kind_of(value) or "nested"
