"""The filter language as conditions of a Qdrant server."""

from collections.abc import Iterable, Sequence

from qdrant_client.models import (
    FieldCondition,
    Filter,
    HasIdCondition,
    MatchAny,
    MatchPrefix,
    MatchValue,
    Range,
)

from ..query import Op, Predicate
from .qdrant_payload import HIGH, LOW, TERMS, parts, path_key
from .term_filter import Compiled, Conditions, compile_terms


def compile_filter(predicate: Predicate, *, prefixes: bool) -> Compiled[Filter]:
    """`prefixes` says whether the server can look for how a word begins."""
    return compile_terms(predicate, _WITH_PREFIXES if prefixes else _CONDITIONS)


def document_is(document_id: str) -> Filter:
    return field_is("doc", document_id)


def field_is(key: str, *values: str) -> Filter:
    return Filter(must=[FieldCondition(key=key, match=MatchAny(any=list(values)))])


def has_ids(points: Iterable[str]) -> Filter:
    return Filter(must=[HasIdCondition(has_id=list(points))])


def both(*parts: Filter) -> Filter:
    return Filter(must=list(parts))


def has_metadata(point: str, text: str) -> Filter:
    """The point, as long as it has the metadata, as its text, with which it was read."""
    kept = FieldCondition(key="metadata", match=MatchValue(value=text))
    return Filter(must=[HasIdCondition(has_id=[point]), kept])


class _ServerConditions(Conditions[Filter]):
    def all_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(must=list(parts))

    def any_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(should=list(parts)) if parts else has_ids(())

    def none_of(self, part: Filter) -> Filter:
        return Filter(must_not=[part])

    def has(self, terms: Sequence[str]) -> Filter:
        match = MatchValue(value=terms[0]) if len(terms) == 1 else MatchAny(any=list(terms))
        return Filter(must=[FieldCondition(key=TERMS, match=match)])

    def begins(self, prefix: str) -> Filter | None:
        del prefix
        return None

    def number(self, path: str, op: Op, value: float) -> Filter:
        """Its low part is compared where the high ones are the same; where there is none it is 0."""
        key = path_key(path)
        high, low = parts(value)
        below = op in (Op.LT, Op.LE)
        further = FieldCondition(key=f"{HIGH}.{key}", range=Range(**{"lt" if below else "gt": high}))
        same = FieldCondition(key=f"{HIGH}.{key}", range=Range(gte=high, lte=high))
        if not low and op in (Op.LT, Op.GE):
            return Filter(should=[further, same] if op == Op.GE else [further])
        beyond = FieldCondition(key=f"{LOW}.{key}", range=Range(**{"gte" if op in (Op.LT, Op.GE) else "gt": low}))
        last = Filter(must=[same], must_not=[beyond]) if below else Filter(must=[same, beyond])
        return Filter(should=[further, last])


class _PrefixConditions(_ServerConditions):
    def begins(self, prefix: str) -> Filter:
        return Filter(must=[FieldCondition(key=TERMS, match=MatchPrefix(prefix=prefix))])


_CONDITIONS = _ServerConditions()
_WITH_PREFIXES = _PrefixConditions()
