"""Comparisons of numbers of different types, rewritten so that a column's own type decides them exactly.

A store that compares an integer column with 2.5, or a float column with a Decimal, converts one of them first, and each
store does it differently. Every number is a rational, so the nearest value of the column's type and the direction of
the rounding say the same thing.
"""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeGuard

from ..models.schema import Kind
from ..models.values import INT64
from ..query.predicates import Compare, Op, Or, Predicate

Number = int | float | Decimal

NEVER = Or(())


def on_column(predicate: Compare, column: Kind) -> Predicate:
    """Rewrite a comparison of one value with an INTEGER or FLOAT column; what is no number passes through."""
    if not _is_number(predicate.value):
        return predicate
    value: Number = predicate.value
    exact = _exact(value, column)
    if exact is not None:
        return Compare(predicate.path, predicate.op, exact)
    if predicate.op in (Op.LT, Op.LE):
        below = _round(value, column, down=True)
        return NEVER if below is None else Compare(predicate.path, Op.LE, below)
    if predicate.op in (Op.GT, Op.GE):
        above = _round(value, column, down=False)
        return NEVER if above is None else Compare(predicate.path, Op.GE, above)
    return NEVER


def in_column(items: Iterable[object], column: Kind) -> tuple[int | float, ...]:
    """Those of the items that an INTEGER or FLOAT column can hold, in its type."""
    exact = (_exact(item, column) for item in items if _is_number(item))
    return tuple(item for item in exact if item is not None)


def _is_number(value: object) -> TypeGuard[Number]:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _exact(value: Number, column: Kind) -> int | float | None:
    """The same number in the column's type, if it has it. Python compares numbers of different types exactly."""
    if column is Kind.INTEGER:
        return int(value) if INT64[0] <= value <= INT64[-1] and value == int(value) else None
    nearest = _nearest_float(value)
    return nearest if math.isfinite(nearest) and nearest == value else None


def _round(value: Number, column: Kind, *, down: bool) -> int | float | None:
    """The nearest number of the column's type on one side, or None when there is none."""
    if column is Kind.INTEGER:
        if not INT64[0] <= value <= INT64[-1]:  # rounding a Decimal of a million digits would take its time
            return (INT64[-1] if down else None) if value > 0 else (None if down else INT64[0])
        return math.floor(value) if down else math.ceil(value)
    nearest = _nearest_float(value)
    if math.isfinite(nearest) and (nearest <= value if down else nearest >= value):
        return nearest
    stepped = math.nextafter(nearest, -math.inf if down else math.inf)
    return stepped if math.isfinite(stepped) else None


def _nearest_float(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
