"""The filter language as conditions of embedded Qdrant."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias
from uuid import UUID

from qdrant_edge import FieldCondition, Filter, HasIdCondition, MatchAny, MatchPrefix, MatchValue, RangeFloat

from ..query import Op, Predicate
from .qdrant_payload import HIGH, LOW, TERMS, halves, path_key
from .term_filter import Compiled, Conditions, compile_terms

Condition: TypeAlias = Filter

_BOUNDS = {Op.LT: "lt", Op.LE: "lte", Op.GT: "gt", Op.GE: "gte"}


def compile_filter(predicate: Predicate) -> Compiled[Filter]:
    return compile_terms(predicate, _CONDITIONS)


def document_is(document_id: str) -> Filter:
    return Filter(must=[FieldCondition("doc", match=MatchValue(document_id))])


def has_ids(points: Iterable[UUID]) -> Filter:
    return Filter(must=[HasIdCondition(set(points))])


class _EdgeConditions(Conditions[Filter]):
    def all_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(must=list(parts))

    def any_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(should=list(parts)) if parts else Filter(must_not=[Filter()])

    def none_of(self, part: Filter) -> Filter:
        return Filter(must_not=[part])

    def has(self, terms: Sequence[str]) -> Filter:
        match = MatchValue(terms[0]) if len(terms) == 1 else MatchAny(list(terms))
        return Filter(must=[FieldCondition(TERMS, match=match)])

    def begins(self, prefix: str) -> Filter:
        return Filter(must=[FieldCondition(TERMS, match=MatchPrefix(prefix))])

    def number(self, path: str, op: Op, value: float) -> Filter:
        key = path_key(path)
        high, low = halves(value)
        beyond = {"lt": high} if op in (Op.LT, Op.LE) else {"gt": high}
        same = FieldCondition(f"{HIGH}.{key}", range=RangeFloat(gte=high, lte=high))
        last = FieldCondition(f"{LOW}.{key}", range=RangeFloat(**{_BOUNDS[op]: low}))
        return Filter(should=[FieldCondition(f"{HIGH}.{key}", range=RangeFloat(**beyond)), Filter(must=[same, last])])


_CONDITIONS = _EdgeConditions()
