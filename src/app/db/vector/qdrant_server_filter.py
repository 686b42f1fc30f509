"""The filter language as conditions of a Qdrant server."""

from collections.abc import Iterable, Sequence
from typing import Final

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
from .qdrant_payload import parts
from .qdrant_server_rows import TERMS, low_field, number_field
from .term_filter import Compiled, TermConditions, compile_terms


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


class _ServerConditions(TermConditions[Filter]):
    def all_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(must=list(parts))

    def any_of(self, parts: Sequence[Filter]) -> Filter:
        return Filter(should=list(parts)) if parts else has_ids(())

    def none_of(self, part: Filter) -> Filter:
        return Filter(must_not=[part])

    def has(self, terms: Sequence[str]) -> Filter:
        match = MatchValue(value=terms[0]) if len(terms) == 1 else MatchAny(any=list(terms))
        return Filter(must=[FieldCondition(key=TERMS, match=match)])

    def begins(self, path: str, text: str) -> Filter | None:
        del path, text
        return None

    def number(self, path: str, op: Op, value: float) -> Filter:
        """The lower bits are compared where the upper ones are the same."""
        high, low = parts(value)
        field, comparison = number_field(path), _RANGES[op]
        if not low:
            return Filter(must=[FieldCondition(key=field, range=Range(**{comparison: high}))])
        beyond = FieldCondition(key=field, range=Range(**{comparison[:2]: high}))
        same = FieldCondition(key=field, range=Range(gte=high, lte=high))
        rest = FieldCondition(key=low_field(path), range=Range(**{comparison: low}))
        return Filter(should=[beyond, Filter(must=[same, rest])])


class _PrefixConditions(_ServerConditions):
    def begins(self, path: str, text: str) -> Filter:
        return Filter(must=[FieldCondition(key=TERMS, match=MatchPrefix(prefix=f"{path}=t:{text}"))])


_RANGES: Final = {Op.LT: "lt", Op.LE: "lte", Op.GT: "gt", Op.GE: "gte"}
_CONDITIONS = _ServerConditions()
_WITH_PREFIXES = _PrefixConditions()
