"""The filter language as conditions of embedded Qdrant."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias
from uuid import UUID

from qdrant_edge import FieldCondition, Filter, HasIdCondition, MatchAny, MatchPrefix, MatchValue, RangeFloat

from ..query import Op, Predicate
from .qdrant_payload import HIGH, LOW, TERMS, parts, path_key
from .term_filter import Compiled, Conditions, compile_terms

Condition: TypeAlias = Filter


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
        """Its low part is compared where the high ones are the same; where there is none it is 0."""
        key = path_key(path)
        high, low = parts(value)
        below = op in (Op.LT, Op.LE)
        further = FieldCondition(f"{HIGH}.{key}", range=RangeFloat(**{"lt" if below else "gt": high}))
        same = FieldCondition(f"{HIGH}.{key}", range=RangeFloat(gte=high, lte=high))
        if not low and op in (Op.LT, Op.GE):
            return Filter(should=[further, same] if op == Op.GE else [further])
        beyond = FieldCondition(f"{LOW}.{key}", range=RangeFloat(**{"gte" if op in (Op.LT, Op.GE) else "gt": low}))
        last = Filter(must=[same], must_not=[beyond]) if below else Filter(must=[same, beyond])
        return Filter(should=[further, last])


_CONDITIONS = _EdgeConditions()
