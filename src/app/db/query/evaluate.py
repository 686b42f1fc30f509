"""What a filter and an order mean, in plain Python. Every store is compared with this."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from .operations import Document, Order
from .predicates import And, Compare, Not, Op, Or, Predicate


def matches(predicate: Predicate, document: Mapping[str, Any]) -> bool:
    """Whether a document (nested values as dicts and lists) meets the predicate."""
    match predicate:
        case Compare(path, op, value):
            return holds(op, resolve(document, path), value)
        case Not(term):
            return not matches(term, document)
        case And(terms):
            return all(matches(term, document) for term in terms)
        case Or(terms):
            return any(matches(term, document) for term in terms)
        case _:
            assert_never(predicate)


def ordered(documents: Iterable[Document], order_by: Sequence[Order], key: str) -> list[Document]:
    """Sorted: None first ascending and last descending, ties by the key field, ascending."""
    result = sorted(documents, key=lambda document: document[key])
    for order in reversed(order_by):
        result.sort(key=lambda document: _sort_key(document.get(order.field)), reverse=order.descending)
    return result


def resolve(document: Any, path: str) -> Any:
    """The value at a path; None when any part of it is missing. A path leads through dicts, never into lists."""
    value = document
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def kind(value: Any) -> str | None:
    """Values compare only within a kind. None for what cannot be compared at all (lists, dicts)."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float() | Decimal():
            return "number"
        case str():
            return "text"
        case datetime():
            return "datetime"
        case date():
            return "date"
        case UUID():
            return "uuid"
        case bytes():
            return "bytes"
    return None


def holds(op: Op, stored: Any, value: Any) -> bool:
    """Whether a comparison holds between what is stored and a value; for IN, a sequence of values."""
    match op:
        case Op.EQ:
            return _equal(stored, value)
        case Op.IN:
            return any(_equal(stored, item) for item in value)
        case Op.CONTAINS:
            if isinstance(stored, str):
                return isinstance(value, str) and value in stored
            return isinstance(stored, list | tuple) and any(_equal(item, value) for item in stored)
        case Op.STARTSWITH:
            return isinstance(stored, str) and stored.startswith(value)
    if kind(stored) != kind(value):
        return False
    match op:
        case Op.LT:
            return bool(stored < value)
        case Op.LE:
            return bool(stored <= value)
        case Op.GT:
            return bool(stored > value)
        case Op.GE:
            return bool(stored >= value)
        case _:
            assert_never(op)


def _equal(stored: Any, value: Any) -> bool:
    return kind(stored) == kind(value) is not None and bool(stored == value)


def _sort_key(value: Any) -> tuple[bool, Any]:
    """A later sort is stable, and a reversed one too, so ties keep the order of the key field."""
    return (value is not None, 0 if value is None else value)
