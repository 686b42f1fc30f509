"""Comparisons of numbers of different types, rewritten so that a column's own type decides them exactly.

A store that compares an integer column with 2.5, or a float column with a Decimal, converts one of them first, and each
store does it differently. Every number is a rational, so the nearest value of the column's type and the direction of
the rounding say the same thing.
"""

import math
from decimal import Decimal
from fractions import Fraction

from ..models.schema import Kind
from ..models.values import INT64
from ..query.predicates import Compare, Op, Or, Predicate

Number = int | float | Decimal

NEVER = Or(())


def on_column(predicate: Compare, column: Kind) -> Predicate:
    """Rewrite a comparison with an INTEGER or FLOAT column; any other passes through."""
    if column not in (Kind.INTEGER, Kind.FLOAT):
        return predicate
    if predicate.op is Op.IN:
        items = [item if not _is_number(item) else _exact(item, column) for item in predicate.value]
        kept = tuple(
            item for item, given in zip(items, predicate.value, strict=True) if item is not None or given is None
        )
        return Compare(predicate.path, Op.IN, kept)
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _exact(value: Number, column: Kind) -> int | float | None:
    """The same number in the column's type, if it has it."""
    if column is Kind.INTEGER:
        return int(value) if value == int(value) and int(value) in INT64 else None
    nearest = _nearest_float(value)
    return nearest if math.isfinite(nearest) and Fraction(nearest) == Fraction(value) else None


def _round(value: Number, column: Kind, *, down: bool) -> int | float | None:
    """The nearest number of the column's type on one side, or None when there is none."""
    if column is Kind.INTEGER:
        rounded = math.floor(value) if down else math.ceil(value)
        limit = min(rounded, INT64[-1]) if down else max(rounded, INT64[0])
        return limit if limit in INT64 else None
    nearest = _nearest_float(value)
    if math.isfinite(nearest) and (
        Fraction(nearest) <= Fraction(value) if down else Fraction(nearest) >= Fraction(value)
    ):
        return nearest
    stepped = math.nextafter(nearest, -math.inf if down else math.inf)
    return stepped if math.isfinite(stepped) else None


def _nearest_float(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
