"""The filter language as conditions of embedded Qdrant."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from qdrant_edge import FieldCondition, Filter, HasIdCondition, MatchAny, MatchPrefix, MatchValue, RangeFloat

from ..query import ALL, Op, Predicate
from ..query.evaluate import kind
from .payload import EXACT_INTEGERS, element_term, equality_term, kind_term
from .qdrant_payload import parts
from .qdrant_rows import TERMS, document_term, low_field, number_field
from .term_filter import Compiled, Conditions, compile_terms

Condition: TypeAlias = Filter


def compile_filter(predicate: Predicate) -> Compiled[Filter]:
    return _ALL if predicate == ALL else compile_terms(predicate, _CONDITIONS)


def document_is(document_id: str) -> Filter:
    return Filter(must=[FieldCondition(TERMS, match=MatchValue(document_term(document_id)))])


def has_ids(points: Iterable[UUID]) -> Filter:
    return Filter(must=[HasIdCondition(set(points))])


class _EdgeConditions(Conditions[Filter]):
    """Over the terms that follow from nothing else: kinds are found by how a term begins, numbers as numbers."""

    ranged = Conditions.ranged | {Op.EQ, Op.IN}

    def all_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(must=list(parts))

    def any_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(should=list(parts)) if parts else Filter(must_not=[Filter()])

    def none_of(self, part: Filter) -> Filter:
        return Filter(must_not=[part])

    def equal(self, path: str, values: Sequence[Any]) -> Filter:
        terms: list[str] = []
        numbers: list[float] = []
        for value in values:
            if kind(value) == "number" and abs(value) < EXACT_INTEGERS:
                if float(value) == value:
                    numbers.append(float(value))
            elif (term := equality_term(path, value)) is not None:
                terms.append(term)
        return self.any_of([*_among(terms), *_numbers(path, numbers)])

    def element(self, path: str, value: Any) -> Filter:
        term = element_term(path, value)
        return self.any_of(_among([] if term is None else [term]))

    def kinds(self, path: str, kinds: Sequence[str]) -> Filter:
        return self.any_of([self._kind(path, each) for each in kinds])

    def begins(self, path: str, text: str) -> Filter:
        return Filter(must=[FieldCondition(TERMS, match=MatchPrefix(f"{path}=t:{text}"))])

    def number(self, path: str, op: Op, value: float) -> Filter:
        return _number(path, _RANGES[op], value)

    def _kind(self, path: str, kind: str) -> Filter:
        match kind:
            case "t":
                return self.begins(path, "")
            case "b":
                return self.equal(path, (False, True))
            case "n":
                return Filter(must=[FieldCondition(number_field(path), range=RangeFloat(gte=0))])
        return Filter(must=[FieldCondition(TERMS, match=MatchValue(kind_term(path, kind)))])


_RANGES: Final = {Op.LT: "lt", Op.LE: "lte", Op.GT: "gt", Op.GE: "gte"}
_CONDITIONS = _EdgeConditions()
_ALL: Final = compile_terms(ALL, _CONDITIONS)


def _among(terms: Sequence[str]) -> list[Filter]:
    if not terms:
        return []
    match = MatchValue(terms[0]) if len(terms) == 1 else MatchAny(list(terms))
    return [Filter(must=[FieldCondition(TERMS, match=match)])]


def _numbers(path: str, values: Sequence[float]) -> list[Filter]:
    """Those of one part by one condition, since each of its own is compared with each row. The range is there for the
    index, which knows nothing else.
    """
    found = [_number(path, "eq", value) for value in values if parts(value)[1]]
    whole = [high for high, low in map(parts, values) if not low]
    if whole:
        field = number_field(path)
        within = FieldCondition(field, range=RangeFloat(gte=min(whole), lte=max(whole)))
        among = [FieldCondition(field, match=MatchAny(whole))] if len(whole) > 1 else []
        found.append(Filter(must=[within, *among]))
    return found


def _number(path: str, comparison: str, value: float) -> Filter:
    """The lower bits are compared where the upper ones are the same."""
    high, low = parts(value)
    field = number_field(path)
    if not low:
        return Filter(must=[FieldCondition(field, range=_range(comparison, high))])
    same = FieldCondition(field, range=_range("eq", high))
    last = Filter(must=[same, FieldCondition(low_field(path), range=_range(comparison, low))])
    if comparison == "eq":
        return last
    return Filter(should=[FieldCondition(field, range=_range(comparison[:2], high)), last])


def _range(comparison: str, value: int) -> RangeFloat:
    return RangeFloat(gte=value, lte=value) if comparison == "eq" else RangeFloat(**{comparison: value})
