"""Pages that begin behind a record instead of at a number, so that inserts move none of them."""

from collections.abc import Sequence
from typing import Any

from .operations import Order
from .predicates import And, Compare, Not, Op, Or, Predicate


def complete(order_by: Sequence[Order], key: str) -> tuple[Order, ...]:
    """The order with the key as the last tie-breaker, and nothing behind it."""
    result: list[Order] = []
    for order in order_by:
        result.append(order)
        if order.field == key:
            return tuple(result)
    return (*result, Order(key))


def following(values: Sequence[Any], order_by: Sequence[Order]) -> Predicate:
    """What stands behind a record with these values, one for each order. None is first ascending, last descending."""
    order, value = order_by[0], values[0]
    is_same = Compare(order.field, Op.EQ, value)
    beyond: Predicate | None
    if order.descending:
        is_none = Compare(order.field, Op.EQ, None)
        beyond = None if value is None else Or((Compare(order.field, Op.LT, value), is_none))
    else:
        beyond = Not(is_same) if value is None else Compare(order.field, Op.GT, value)
    if len(order_by) == 1:
        return Or(()) if beyond is None else beyond
    tied = And((is_same, following(values[1:], order_by[1:])))
    return tied if beyond is None else Or((beyond, tied))
