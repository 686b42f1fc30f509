"""Values of any kinds beside each other, as aggregation has them: which are the same, and which comes first."""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID


def sort_key(value: Any) -> tuple[int, Any]:
    """Order within a kind by value, and kinds as MongoDB orders them; what only we have (dates, times) comes last."""
    match value:
        case None:
            return (0, 0)
        case bool():
            return (7, value)
        case int() | float() | Decimal():
            return (1, value)
        case str():
            return (2, value)
        case Mapping():
            return (3, sorted((name, sort_key(item)) for name, item in value.items()))
        case list() | tuple():
            return (4, [sort_key(item) for item in value])
        case bytes():
            return (5, value)
        case UUID():
            return (6, value)
        case datetime():
            return (8, value)
        case date():
            return (9, value)
        case time():
            return (10, value.isoformat())
        case timedelta():
            return (11, value)
    raise TypeError(f"documents have no values of type {type(value).__name__}")


def identity(value: Any) -> Any:
    """What two values have in common when they are the same: 1 is 1.0 and not True; the order of a dict is nothing."""
    match value:
        case bool():
            return (bool, value)
        case int() | float() | Decimal() | str() | None:
            return value
        case Mapping():
            return (dict, frozenset((name, identity(item)) for name, item in value.items()))
        case list() | tuple():
            return (list, tuple(identity(item) for item in value))
    return (type(value), value)
