"""The filter language as Chroma's `where`, over the keys of `chroma_rows.py`.

Chroma has no negation: `$ne` and `$nin` also meet rows without the key, `$gt` and the like do not. So every condition
is made together with its opposite.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..query import Op, Predicate
from .chroma_rows import DOCUMENT, is_float, kind_key, number_key, ordered, split_term, text_key
from .term_filter import Compiled, Conditions, compile_terms

Where: TypeAlias = dict[str, Any] | bool
"""What Chroma is asked; True for every row and False for none, which it cannot be asked."""

MOST_PARTS: Final = 300
MOST_VALUES: Final = 5_000
"""What one `where` may have. Each part is a subquery of its own; SQLite takes 1,000 in a row and 32,766 values, and
the engine's recursion ends the process somewhere above that.
"""

_OPPOSITES: Final = {Op.LT: Op.GE, Op.LE: Op.GT, Op.GT: Op.LE, Op.GE: Op.LT}
_OPERATORS: Final = {Op.LT: "$lt", Op.LE: "$lte", Op.GT: "$gt", Op.GE: "$gte"}
_NUMBERS: Final = ("n", "i")


@dataclass(frozen=True, slots=True)
class Condition:
    where: Where
    opposite: Where


def compile_filter(predicate: Predicate) -> Compiled[Condition]:
    """Of a filter that is too large to be asked, every row, and not exact."""
    compiled = compile_terms(predicate, _CONDITIONS)
    parts = list(_parts(compiled.condition.where))
    if len(parts) > MOST_PARTS or sum(map(_values, parts)) > MOST_VALUES:
        return Compiled(Condition(where=True, opposite=False), exact=False)
    return compiled


def document_is(document_id: str) -> Compiled[Condition]:
    return Compiled(_among(DOCUMENT, [document_id]), exact=True)


class _ChromaConditions(Conditions[Condition]):
    def all_of(self, parts: Sequence[Condition]) -> Condition:
        return Condition(_all([part.where for part in parts]), _any([part.opposite for part in parts]))

    def any_of(self, parts: Sequence[Condition]) -> Condition:
        return Condition(_any([part.where for part in parts]), _all([part.opposite for part in parts]))

    def none_of(self, part: Condition) -> Condition:
        return Condition(part.opposite, part.where)

    def has(self, terms: Sequence[str]) -> Condition:
        kinds: dict[str, list[str]] = {}
        texts: dict[str, list[str]] = {}
        numbers: dict[str, list[int]] = {}
        parts: list[Condition] = []
        for term in terms:
            path, mark, rest = split_term(term)
            if mark == "~":
                parts.append(_among(term, [True]))
            elif mark == "^":
                kinds.setdefault(path, []).extend(_KINDS.get(rest, (rest,)))
            elif rest.startswith("b:"):
                kinds.setdefault(path, []).append(rest)
            elif rest.startswith("t:") or not is_float(rest):
                texts.setdefault(path, []).append(rest)
            else:
                numbers.setdefault(path, []).append(ordered(float(rest.removeprefix("n:"))))
        parts += [_among(kind_key(path), values) for path, values in kinds.items()]
        parts += [_among(text_key(path), values) for path, values in texts.items()]
        for path, values in numbers.items():
            same = (_among(number_key(path), values), _among(kind_key(path), ["n"]))
            parts.append(self.all_of(same))
        return self.any_of(parts)

    def begins(self, prefix: str) -> None:
        del prefix

    def number(self, path: str, op: Op, value: float) -> Condition:
        key, limit = number_key(path), ordered(value)
        beyond: Where = {key: {_OPERATORS[_OPPOSITES[op]]: limit}}
        return Condition(
            {key: {_OPERATORS[op]: limit}}, _any([beyond, _among(kind_key(path), list(_NUMBERS)).opposite])
        )


_KINDS: Final = {"n": _NUMBERS, "b": ("b:0", "b:1")}
_CONDITIONS = _ChromaConditions()


def _among(key: str, values: Sequence[Any]) -> Condition:
    if len(values) == 1:
        return Condition({key: {"$eq": values[0]}}, {key: {"$ne": values[0]}})
    return Condition({key: {"$in": list(values)}}, {key: {"$nin": list(values)}})


def _all(wheres: Sequence[Where]) -> Where:
    return _joined("$and", wheres, neutral=True)


def _any(wheres: Sequence[Where]) -> Where:
    return _joined("$or", wheres, neutral=False)


def _joined(operator: str, wheres: Sequence[Where], *, neutral: bool) -> Where:
    parts: list[Where] = []
    for each in wheres:
        if each is (not neutral):
            return not neutral
        if each is not neutral:
            assert isinstance(each, dict)  # noqa: S101 - no other is left
            parts += each.get(operator, [each])  # the engine reads no text that nests too deep
    return parts[0] if len(parts) == 1 else {operator: parts} if parts else neutral


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
