"""What a filter means, in plain Python. Every store is compared with this."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, assert_never
from uuid import UUID

from .predicates import And, Compare, Not, Op, Or, Predicate


def matches(predicate: Predicate, document: Mapping[str, Any]) -> bool:
    """Whether a document (nested values as dicts and lists) meets the predicate."""
    match predicate:
        case Compare(path, op, value):
            return _holds(op, resolve(document, path), value)
        case Not(term):
            return not matches(term, document)
        case And(terms):
            return all(matches(term, document) for term in terms)
        case Or(terms):
            return any(matches(term, document) for term in terms)
        case _:
            assert_never(predicate)


def resolve(document: Mapping[str, Any], path: str) -> Any:
    """The value at a path; None when any part of it is missing. A path leads through dicts, never into lists."""
    value: Any = document
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value.value if isinstance(value, Enum) else value


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


def _equal(stored: Any, value: Any) -> bool:
    return kind(stored) == kind(value) is not None and bool(stored == value)


def _holds(op: Op, stored: Any, value: Any) -> bool:
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
