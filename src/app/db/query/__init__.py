"""What is asked of a store, without any store: predicates, operations, and what both mean."""

from .expressions import F
from .operations import (
    Aggregate,
    Count,
    Delete,
    Explain,
    Find,
    Insert,
    OnConflict,
    Operation,
    Order,
    Stream,
    Update,
    Upsert,
)
from .predicates import ALL, And, Compare, Filter, Not, Op, Or, Predicate, compare, to_predicate

__all__ = [
    "ALL",
    "Aggregate",
    "And",
    "Compare",
    "Count",
    "Delete",
    "Explain",
    "F",
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
    "Stream",
    "Update",
    "Upsert",
    "compare",
    "to_predicate",
]
