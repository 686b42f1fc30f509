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
    is_none = Compare(order.field, Op.EQ, None)
    beyond: Predicate | None
    within: Predicate | None = None
    """What is beyond or the same. It follows from the rest, and lets an index begin where the page does."""
    if value is None:
        beyond = None if order.descending else Not(is_none)
    elif order.descending:
        beyond = Or((Compare(order.field, Op.LT, value), is_none))
        within = Or((Compare(order.field, Op.LE, value), is_none))
    else:
        beyond = Compare(order.field, Op.GT, value)
        within = Compare(order.field, Op.GE, value)
    if len(order_by) == 1:
        return Or(()) if beyond is None else beyond
    tied = And((is_same, following(values[1:], order_by[1:])))
    if beyond is None:
        return tied
    behind = Or((beyond, tied))
    return behind if within is None else And((within, behind))
