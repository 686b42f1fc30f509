"""The filter language as conditions over a row's terms and numbers (`payload.py`), for engines that have no better.

What an engine cannot say is enclosed from two sides: a condition that everything met meets (`over`), and one that
nothing but what is met meets (`under`). Where both are one condition it is the answer; otherwise the store reads what
lies within `over` and asks `evaluate.py`. A negation swaps the two.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Generic, TypeVar, assert_never

from ..query import And, Compare, Not, Op, Or, Predicate
from ..query.evaluate import kind
from ..query.predicates import comparisons
from .payload import EXACT_INTEGERS, KINDS, PLAIN, element_term, equality_term, kind_term

C = TypeVar("C")


class Conditions(ABC, Generic[C]):
    """How an engine says what a row is to have."""

    ranged: ClassVar = frozenset({Op.LT, Op.LE, Op.GT, Op.GE})
    """The comparisons with a number that the engine makes between numbers."""

    @abstractmethod
    def all_of(self, parts: Sequence[C]) -> C:
        """Of no parts, what every row meets."""

    @abstractmethod
    def any_of(self, parts: Sequence[C]) -> C:
        """Of no parts, what no row meets."""

    @abstractmethod
    def none_of(self, part: C) -> C: ...

    @abstractmethod
    def equal(self, path: str, values: Sequence[Any]) -> C:
        """Any of the values at the path, none of which is None."""

    @abstractmethod
    def element(self, path: str, value: Any) -> C:
        """A list at the path that has the value."""

    @abstractmethod
    def kinds(self, path: str, kinds: Sequence[str]) -> C:
        """Any of these kinds (of KINDS) at the path."""

    @abstractmethod
    def begins(self, path: str, text: str) -> C | None:
        """A text at the path that begins so, with up to PLAIN characters; None where the engine cannot say it."""

    @abstractmethod
    def number(self, path: str, op: Op, value: float) -> C:
        """A number at the path, `op` (<, <=, >, >=) the value, which is finite."""


class TermConditions(Conditions[C]):
    """Where every row has all its terms (`Terms.all`) for the engine to look up."""

    @abstractmethod
    def has(self, terms: Sequence[str]) -> C:
        """Any of the terms, of which there is one at least."""

    def equal(self, path: str, values: Sequence[Any]) -> C:
        return self._has([equality_term(path, value) for value in values])

    def element(self, path: str, value: Any) -> C:
        return self._has([element_term(path, value)])

    def kinds(self, path: str, kinds: Sequence[str]) -> C:
        return self._has([kind_term(path, each) for each in kinds])

    def _has(self, terms: Sequence[str | None]) -> C:
        words = [term for term in terms if term is not None]
        return self.has(words) if words else self.any_of(())


@dataclass(frozen=True, slots=True)
class Compiled(Generic[C]):
    """`condition` holds for all that is asked for, and for nothing else when `exact`."""

    condition: C
    exact: bool
    numbers: frozenset[str] = frozenset()
    """The paths at which the condition compares numbers: what to index so that the engine need not read every row."""


@dataclass(frozen=True, slots=True)
class _Bounds(Generic[C]):
    under: C
    over: C

    @property
    def exact(self) -> bool:
        return self.under is self.over


def compile_terms(predicate: Predicate, conditions: Conditions[C]) -> Compiled[C]:
    bounds = _Compiler(conditions).bounds(predicate)
    numbers = frozenset(
        each.path
        for each in comparisons(predicate)
        if each.op in conditions.ranged
        and any(kind(value) == "number" for value in (each.value if each.op == Op.IN else (each.value,)))
    )
    return Compiled(bounds.over, bounds.exact, numbers)


class _Compiler(Generic[C]):
    def __init__(self, conditions: Conditions[C]) -> None:
        self._say = conditions
        self._nothing = conditions.any_of(())

    def bounds(self, predicate: Predicate) -> _Bounds[C]:
        match predicate:
            case Compare(path, op, value):
                return self._comparison(path, op, value)
            case Not(term):
                bounds = self.bounds(term)
                over = self._say.none_of(bounds.under)
                return _Bounds(over if bounds.exact else self._say.none_of(bounds.over), over)
            case And(terms):
                return _combined(self._say.all_of, [self.bounds(term) for term in terms])
            case Or(terms):
                return _combined(self._say.any_of, [self.bounds(term) for term in terms])
            case _:
                assert_never(predicate)

    def _comparison(self, path: str, op: Op, value: Any) -> _Bounds[C]:
        match op:
            case Op.EQ:
                return _exactly(self._one_of(path, (value,)))
            case Op.IN:
                return _exactly(self._one_of(path, value))
            case Op.CONTAINS:
                return self._contains(path, value)
            case Op.STARTSWITH:
                return self._startswith(path, value)
            case Op.LT | Op.LE | Op.GT | Op.GE:
                return self._ordered(path, op, value)
            case _:
                assert_never(op)

    def _one_of(self, path: str, values: Sequence[Any]) -> C:
        there = [value for value in values if value is not None]
        equal = self._say.equal(path, there) if there else self._nothing
        if len(there) == len(values):
            return equal
        return self._say.any_of((equal, self._say.none_of(self._say.kinds(path, KINDS))))

    def _contains(self, path: str, value: Any) -> _Bounds[C]:
        in_list = self._say.element(path, value)
        if not isinstance(value, str):
            return _exactly(in_list)
        any_text = self._say.any_of((in_list, self._say.kinds(path, "t")))
        return _Bounds(in_list if value else any_text, any_text)

    def _startswith(self, path: str, value: str) -> _Bounds[C]:
        begins = self._say.begins(path, value[:PLAIN])
        if begins is not None:
            return _exactly(begins) if len(value) <= PLAIN else _Bounds(self._nothing, begins)
        text = self._say.kinds(path, "t")
        return _Bounds(self._nothing, text) if value else _exactly(text)

    def _ordered(self, path: str, op: Op, value: Any) -> _Bounds[C]:
        match kind(value):
            case "number":
                return self._number_range(path, op, value)
            case "text":
                return _Bounds(self._nothing, self._say.kinds(path, "t"))
            case "boolean":
                met = [each for each in (False, True) if _holds(op, each, value)]
                return _exactly(self._say.equal(path, met) if met else self._nothing)
        return _exactly(self._nothing)  # JSON has no values of other kinds

    def _number_range(self, path: str, op: Op, value: float | Decimal) -> _Bounds[C]:
        near = float(value)
        below = op in (Op.LT, Op.LE)
        if not math.isfinite(near):
            return _exactly(self._say.kinds(path, "n") if below == (near > 0) else self._nothing)
        if abs(near) >= EXACT_INTEGERS:
            beyond, within = (Op.LT, Op.LE) if below else (Op.GT, Op.GE)
            return _Bounds(self._say.number(path, beyond, near), self._say.number(path, within, near))
        if near < value:  # no stored number lies between the two
            op = Op.LE if below else Op.GT
        elif near > value:
            op = Op.LT if below else Op.GE
        return _exactly(self._say.number(path, op, near))


def _exactly(condition: C) -> _Bounds[C]:
    return _Bounds(condition, condition)


def _combined(join: Callable[[Sequence[C]], C], parts: list[_Bounds[C]]) -> _Bounds[C]:
    over = join([part.over for part in parts])
    return _Bounds(over if all(part.exact for part in parts) else join([part.under for part in parts]), over)


def _holds(op: Op, stored: bool, value: bool) -> bool:
    return {
        Op.LT: stored < value,
        Op.LE: stored <= value,
        Op.GT: stored > value,
        Op.GE: stored >= value,
    }[op]
