"""What is asked of a store, without any store: predicates, operations, and what both mean."""

from .operations import Count, Delete, Find, Insert, OnConflict, Operation, Order, Update
from .predicates import ALL, And, Compare, Filter, Not, Op, Or, Predicate, compare, to_predicate

__all__ = [
    "ALL",
    "And",
    "Compare",
    "Count",
    "Delete",
    "Filter",
    "Find",
    "Insert",
    "Not",
    "OnConflict",
    "Op",
    "Operation",
    "Or",
    "Order",
    "Predicate",
    "Update",
    "compare",
    "to_predicate",
]
