"""The filter language as Chroma's `where`, over the keys of `chroma_rows.py`.

Chroma has no negation: `$ne` and `$nin` also meet rows without the key, `$gt` and the like do not. So every condition
is made together with its opposite. And what it cannot say, such as that there is no number at a path, is every row.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..query import ALL, Op, Predicate
from .chroma_rows import number_key, ordered, text_key
from .payload import EXACT_INTEGERS, element_term, equality_term
from .term_filter import Conditions, compile_terms

Where: TypeAlias = dict[str, Any] | bool
"""What Chroma is asked; True for every row and False for none, which it cannot be asked."""

MOST_PARTS: Final = 300
MOST_VALUES: Final = 5_000
"""What one `where` may have. Each part is a subquery of its own; SQLite takes 1,000 in a row and 32,766 values, and
the engine's recursion ends the process somewhere above that.
"""

_OPERATORS: Final = {Op.LT: "$lt", Op.LE: "$lte", Op.GT: "$gt", Op.GE: "$gte"}


@dataclass(frozen=True, slots=True)
class Side:
    """All that is meant meets `where`, and nothing else does when `exact`."""

    where: Where
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    side: Side
    opposite: Side


def compile_filter(predicate: Predicate) -> Side:
    """Of a filter that is too large to be asked, every row, and not exact."""
    if predicate == ALL:
        return _EVERY
    compiled = compile_terms(predicate, _CONDITIONS)
    side = compiled.condition.side
    parts = list(_parts(side.where))
    if len(parts) > MOST_PARTS or sum(map(_values, parts)) > MOST_VALUES:
        return _ANY
    return side if compiled.exact else Side(side.where, exact=False)


class _ChromaConditions(Conditions[Condition]):
    def all_of(self, parts: Sequence[Condition]) -> Condition:
        return Condition(_all([part.side for part in parts]), _any([part.opposite for part in parts]))

    def any_of(self, parts: Sequence[Condition]) -> Condition:
        return Condition(_any([part.side for part in parts]), _all([part.opposite for part in parts]))

    def none_of(self, part: Condition) -> Condition:
        return Condition(part.opposite, part.side)

    def equal(self, path: str, values: Sequence[Any]) -> Condition:
        """Numbers are kept as numbers, all else as the end of its term."""
        texts: list[str] = []
        numbers: list[float] = []
        for term in filter(None, (equality_term(path, value) for value in values)):
            kept = term[len(path) + 1 :]
            if kept.startswith("n:"):
                numbers.append(float(kept.removeprefix("n:")))
            else:
                texts.append(kept)
        parts = [_among(text_key(path), texts)] if texts else []
        return self.any_of([*parts, _equal(path, numbers)] if numbers else parts)

    def element(self, path: str, value: Any) -> Condition:
        term = element_term(path, value)
        return self.any_of([]) if term is None else _among(term, [True])

    def kinds(self, path: str, kinds: Sequence[str]) -> Condition:
        return self.any_of([_kind(path, each) for each in kinds])

    def begins(self, path: str, text: str) -> None:
        del path, text

    def number(self, path: str, op: Op, value: float) -> Condition:
        return Condition(Side({number_key(path): {_OPERATORS[op]: ordered(value)}}), _ANY)


_EVERY: Final = Side(where=True)
_ANY: Final = Side(where=True, exact=False)
_CONDITIONS = _ChromaConditions()


def _kind(path: str, kind: str) -> Condition:
    """Of the kinds only numbers are known, and only where there is one."""
    return _CONDITIONS.number(path, Op.GE, -sys.float_info.max) if kind == "n" else Condition(_ANY, _ANY)


def _equal(path: str, values: Sequence[float]) -> Condition:
    same = _among(number_key(path), [ordered(value) for value in values])
    if all(abs(value) < EXACT_INTEGERS for value in values):
        return same
    return Condition(Side(same.side.where, exact=False), _ANY)  # integers that differ may have one float64


def _among(key: str, values: Sequence[Any]) -> Condition:
    if len(values) == 1:
        return Condition(Side({key: {"$eq": values[0]}}), Side({key: {"$ne": values[0]}}))
    return Condition(Side({key: {"$in": list(values)}}), Side({key: {"$nin": list(values)}}))


def _all(sides: Sequence[Side]) -> Side:
    if any(side.where is False for side in sides):
        return Side(where=False)
    return _joined("$and", sides, neutral=True)


def _any(sides: Sequence[Side]) -> Side:
    every = [side for side in sides if side.where is True]
    if every:
        return Side(where=True, exact=any(side.exact for side in every))
    return _joined("$or", sides, neutral=False)


def _joined(operator: str, sides: Sequence[Side], *, neutral: bool) -> Side:
    parts: list[dict[str, Any]] = []
    for side in sides:
        if isinstance(side.where, dict):
            parts += side.where.get(operator, [side.where])  # the engine reads no text that nests too deep
    where: Where = parts[0] if len(parts) == 1 else {operator: parts} if parts else neutral
    return Side(where, all(side.exact for side in sides))


def _parts(where: Where) -> Iterator[dict[str, Any]]:
    if isinstance(where, dict):
        for operator in ("$and", "$or"):
            if operator in where:
                for each in where[operator]:
                    yield from _parts(each)
                return
        yield where


def _values(part: dict[str, Any]) -> int:
    [[asked]] = [each.values() for each in part.values()]
    return len(asked) if isinstance(asked, list) else 1
