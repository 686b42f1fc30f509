"""The filter language as Qdrant conditions over a row's terms.

What the engine cannot say is enclosed from two sides: a condition that everything met meets (`over`), and one that
nothing but what is met meets (`under`). Where both are one condition it is the answer; otherwise the store reads what
lies within `over` and asks `evaluate.py`. A negation swaps the two.
"""

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from qdrant_edge import FieldCondition, HasIdCondition, MatchAny, MatchPrefix, MatchValue, RangeFloat
from qdrant_edge import Filter as Condition

from ..query import And, Compare, Not, Op, Or, Predicate
from ..query.evaluate import kind
from ..query.predicates import comparisons
from .payload import KINDS, PLAIN, element_term, equality_term, kind_term

TERMS = "terms"
HIGH = "high"
LOW = "low"
"""Where a row has its numbers, by path: see `number_payload`."""

_EXACT_INTEGERS = 2**53  # from here on two integers may share a float64, which is what the engine's ranges compare

_ALL = Condition()
_NOTHING = Condition(must_not=[_ALL])


@dataclass(frozen=True, slots=True)
class Compiled:
    """`condition` holds for all that is asked for, and for nothing else when `exact`."""

    condition: Condition
    exact: bool
    ranges: frozenset[str] = frozenset()
    """Where the condition compares numbers: what to index so that the engine need not read every row."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    under: Condition
    over: Condition

    @property
    def exact(self) -> bool:
        return self.under is self.over


def compile_filter(predicate: Predicate) -> Compiled:
    bounds = _bounds(predicate)
    ordered = frozenset(
        number_field(each.path)
        for each in comparisons(predicate)
        if each.op in (Op.LT, Op.LE, Op.GT, Op.GE) and kind(each.value) == "number"
    )
    return Compiled(bounds.over, bounds.exact, ordered)


def document_is(document_id: str) -> Condition:
    return Condition(must=[FieldCondition("doc", match=MatchValue(document_id))])


def has_ids(points: Iterable[UUID]) -> Condition:
    return Condition(must=[HasIdCondition(set(points))])


def _exactly(condition: Condition) -> _Bounds:
    return _Bounds(condition, condition)


def _bounds(predicate: Predicate) -> _Bounds:
    match predicate:
        case Compare(path, op, value):
            return _comparison(path, op, value)
        case Not(term):
            bounds = _bounds(term)
            over = Condition(must_not=[bounds.under])
            return _Bounds(over if bounds.exact else Condition(must_not=[bounds.over]), over)
        case And(terms):
            return _combined(lambda parts: Condition(must=parts), [_bounds(term) for term in terms])
        case Or(()):
            return _exactly(_NOTHING)
        case Or(terms):
            return _combined(lambda parts: Condition(should=parts), [_bounds(term) for term in terms])
        case _:
            assert_never(predicate)


def _combined(join: Callable[[list[Any]], Condition], parts: list[_Bounds]) -> _Bounds:
    over = join([part.over for part in parts])
    return _Bounds(over if all(part.exact for part in parts) else join([part.under for part in parts]), over)


def _comparison(path: str, op: Op, value: Any) -> _Bounds:
    match op:
        case Op.EQ:
            return _exactly(_one_of(path, (value,)))
        case Op.IN:
            return _exactly(_one_of(path, value))
        case Op.CONTAINS:
            return _contains(path, value)
        case Op.STARTSWITH:
            return _startswith(path, value)
        case Op.LT | Op.LE | Op.GT | Op.GE:
            return _ordered(path, op, value)
        case _:
            assert_never(op)


def _has(*terms: str | None) -> Condition:
    words = [term for term in terms if term is not None]
    if not words:
        return _NOTHING
    match = MatchValue(words[0]) if len(words) == 1 else MatchAny(words)
    return Condition(must=[FieldCondition(TERMS, match=match)])


def _one_of(path: str, values: tuple[Any, ...]) -> Condition:
    there = _has(*(equality_term(path, value) for value in values if value is not None))
    if None not in values:
        return there
    missing = Condition(must_not=[_has(*(kind_term(path, each) for each in KINDS))])
    return Condition(should=[there, missing])


def _contains(path: str, value: Any) -> _Bounds:
    in_list = _has(element_term(path, value))
    if not isinstance(value, str):
        return _exactly(in_list)
    any_text = Condition(should=[in_list, _has(kind_term(path, "t"))])
    return _Bounds(in_list if value else any_text, any_text)


def _startswith(path: str, value: str) -> _Bounds:
    begins = Condition(must=[FieldCondition(TERMS, match=MatchPrefix(f"{path}=t:{value[:PLAIN]}"))])
    return _exactly(begins) if len(value) <= PLAIN else _Bounds(_NOTHING, begins)


def _ordered(path: str, op: Op, value: Any) -> _Bounds:
    match kind(value):
        case "number":
            return _number_range(path, op, value)
        case "text":
            return _Bounds(_NOTHING, _has(kind_term(path, "t")))
        case "boolean":
            return _exactly(_has(*(equality_term(path, each) for each in (False, True) if _holds(op, each, value))))
    return _exactly(_NOTHING)  # JSON has no values of other kinds


def _holds(op: Op, stored: bool, value: bool) -> bool:
    return {
        Op.LT: stored < value,
        Op.LE: stored <= value,
        Op.GT: stored > value,
        Op.GE: stored >= value,
    }[op]


def _number_range(path: str, op: Op, value: float | Decimal) -> _Bounds:
    near = float(value)
    below = op in (Op.LT, Op.LE)
    if not math.isfinite(near):
        return _exactly(_has(kind_term(path, "n")) if below == (near > 0) else _NOTHING)
    if abs(near) >= _EXACT_INTEGERS:
        return _Bounds(_range(path, Op.LT if below else Op.GT, near), _range(path, Op.LE if below else Op.GE, near))
    if near < value:  # no stored number lies between the two
        op = Op.LE if below else Op.GT
    elif near > value:
        op = Op.LT if below else Op.GE
    return _exactly(_range(path, op, near))


def _range(path: str, op: Op, value: float) -> Condition:
    key = _key(path)
    high, low = _halves(value)
    beyond = {"lt": high} if op in (Op.LT, Op.LE) else {"gt": high}
    within = {Op.LT: "lt", Op.LE: "lte", Op.GT: "gt", Op.GE: "gte"}[op]
    return Condition(
        should=[
            FieldCondition(f"{HIGH}.{key}", range=RangeFloat(**beyond)),
            Condition(
                must=[
                    FieldCondition(f"{HIGH}.{key}", range=RangeFloat(gte=high, lte=high)),
                    FieldCondition(f"{LOW}.{key}", range=RangeFloat(**{within: low})),
                ]
            ),
        ]
    )


def number_field(path: str) -> str:
    """Where the engine compares the numbers at a path: what to index for it."""
    return f"{HIGH}.{_key(path)}"


def number_payload(numbers: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """The numbers of a row for the engine to compare: each float64 as the two halves of an integer of the same order.

    The engine reads a float back from the disk with its last bit wrong now and then; small integers are safe.
    """
    halves = {_key(path): _halves(value) for path, value in numbers.items()}
    return {
        HIGH: {key: high for key, (high, _) in halves.items()},
        LOW: {key: low for key, (_, low) in halves.items()},
    }


def _key(path: str) -> str:
    """The path as one name without dots or spaces, which mean something in the engine's own paths."""
    return f"x{path.encode().hex()}"


def _halves(value: float) -> tuple[int, int]:
    bits = int.from_bytes(struct.pack(">d", value + 0.0))  # -0.0 is 0.0
    ordered = bits ^ (2**64 - 1 if bits >> 63 else 2**63)
    return ordered >> 32, ordered & (2**32 - 1)
