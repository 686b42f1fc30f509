"""The filter language: a small tree of predicates, made from `compare("age", ">", 25)` or a Mongo-style dict.

The tree has eight comparisons; every other operator of the language is written with them (`!=` is the negation of
`=`, `exists` the negation of `= None`), so that no store can give two of them different meanings.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeAlias, cast, get_args

from ...core.errors import InvalidFilterError, did_you_mean
from ..models.values import Scalar, storable


class Op(StrEnum):
    """What a comparison asks. Only these reach a store."""

    EQ = "="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"
    CONTAINS = "contains"
    STARTSWITH = "startswith"


class Combinable:
    """Joins predicates with `&`, `|` and `~`. `and`, `or`, `not` and `1 < F.x < 5` would lose a side: they raise."""

    __slots__ = ()

    def __and__(self, other: "Predicate") -> "And":
        return And((self, other))  # type: ignore[arg-type]  # every subclass is one of Predicate

    def __or__(self, other: "Predicate") -> "Or":
        return Or((self, other))  # type: ignore[arg-type]

    def __invert__(self) -> "Not":
        return Not(self)  # type: ignore[arg-type]

    def __bool__(self) -> NoReturn:
        raise InvalidFilterError("a filter is neither true nor false: join filters with & | ~, not with and, or, not")


@dataclass(frozen=True, slots=True)
class Compare(Combinable):
    """A field path (`address.city`), a comparison, and a value: a scalar, or for IN a tuple of scalars."""

    path: str
    op: Op
    value: Any


@dataclass(frozen=True, slots=True)
class And(Combinable):
    """True when all terms are; `And(())` is always true."""

    terms: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class Or(Combinable):
    """True when any term is; `Or(())` is never true."""

    terms: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class Not(Combinable):
    term: "Predicate"


Predicate: TypeAlias = Compare | And | Or | Not
Filter: TypeAlias = Predicate | Mapping[str, Any] | None

ALL: Final = And(())

MAX_DEPTH: Final = 32
MAX_COMPARISONS: Final = 400
"""In one filter, the values of an `in` counted once. Stores limit the depth of an expression (SQLite to 1,000)."""
MAX_PATH: Final = 500
_PATH = re.compile(r"\w[\w \-]*(?:\.\w[\w \-]*)*")
_SCALARS = frozenset(get_args(Scalar))
_ORDERABLE = (int, float, Decimal, str, datetime, date)


def to_predicate(given: Filter) -> Predicate:
    """Read a filter; None and an empty dict match everything. InvalidFilterError for anything not in the language."""
    if given is None:
        return ALL
    predicate: Predicate
    if type(given) is dict or isinstance(given, Mapping):  # the second asks an ABC, which takes its time
        predicate = _from_dict(given, MAX_DEPTH)
    else:
        predicate = _checked(given, MAX_DEPTH)
    if not isinstance(predicate, Compare) and sum(1 for _ in comparisons(predicate)) > MAX_COMPARISONS:
        raise InvalidFilterError(f"a filter may have {MAX_COMPARISONS} comparisons, no more; 'in' takes a list")
    return predicate


def _checked(given: object, depth: int) -> Predicate:
    """Read a predicate that a caller built: it has to keep the grammar of paths and values too."""
    if depth == 0:
        raise _too_deep()
    match given:
        case Compare(path, op, value):
            return compare(path, op, value)
        case Not(term):
            return Not(_checked(term, depth - 1))
        case And(terms):
            return And(tuple(_checked(term, depth - 1) for term in terms))
        case Or(terms):
            return Or(tuple(_checked(term, depth - 1) for term in terms))
    raise InvalidFilterError(f"a filter is a dict or a predicate, not {type(given).__name__}")


def _too_deep() -> InvalidFilterError:
    return InvalidFilterError(f"a filter may nest {MAX_DEPTH} levels deep, no deeper")


def always(predicate: Predicate) -> bool | None:
    """Whether it is true of every document (True) or of none (False) by its form alone; None when that depends."""
    match predicate:
        case Compare():
            return None
        case Not(term):
            inner = always(term)
            return None if inner is None else not inner
        case And(terms):
            parts = {always(term) for term in terms}
            return False if False in parts else None if None in parts else True
        case Or(terms):
            parts = {always(term) for term in terms}
            return True if True in parts else None if None in parts else False


def compare(path: str, operator: str, value: Any = None) -> Predicate:
    """Read one condition in the spelling of `where(field, operator, value)`."""
    build = _OPERATORS.get(str(operator))
    if build is None:
        raise InvalidFilterError(
            f"unknown operator {operator!r}{did_you_mean(str(operator), _OPERATORS)}; there is: {', '.join(_OPERATORS)}"
        )
    return build(check_path(path), value)


def both(first: Predicate, second: Predicate) -> Predicate:
    """The conjunction, without a level of nesting where one side says nothing."""
    left = first.terms if isinstance(first, And) else (first,)
    right = second.terms if isinstance(second, And) else (second,)
    if not left or not right:
        return first if left else second
    return And((*left, *right))


def comparisons(predicate: Predicate) -> Iterator[Compare]:
    """Each comparison of the tree, from left to right."""
    match predicate:
        case Compare():
            yield predicate
        case Not(term):
            yield from comparisons(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from comparisons(term)


def check_path(path: object) -> str:
    """Return the path if the grammar has it: names of letters, digits, `_`, `-` and spaces, joined by dots."""
    if type(path) is str and _is_path(path):
        return path
    if isinstance(path, str) and len(path) > MAX_PATH:
        raise InvalidFilterError(f"a field path has at most {MAX_PATH} characters, not {len(path)}")
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise InvalidFilterError(
            f"{path!r} is not a field path: names of letters, digits, '_', '-' and spaces, joined by dots"
        )
    return path


@lru_cache(maxsize=1024)
def _is_path(path: str) -> bool:
    """The answer of a plain string is remembered: an application has few paths and asks for them all the time."""
    return len(path) <= MAX_PATH and _PATH.fullmatch(path) is not None


def _scalar(path: str, value: Any) -> Scalar:
    """The value as stores keep it: an enum member's own, a datetime in UTC and milliseconds."""
    try:
        plain = storable(value)
    except ValueError as error:
        raise InvalidFilterError(f"{path}: {error}") from None
    if type(plain) not in _SCALARS and not isinstance(plain, Scalar):
        raise InvalidFilterError(
            f"{path}: cannot compare with a {type(value).__name__}; "
            "give a single value, or use 'in' with a list, 'contains', or a dotted path"
        )
    return cast("Scalar", plain)


def _equals(path: str, value: Any) -> Predicate:
    return Compare(path, Op.EQ, _scalar(path, value))


def _ordered(op: Op) -> Callable[[str, Any], Predicate]:
    def build(path: str, value: Any) -> Predicate:
        scalar = _scalar(path, value)
        if not isinstance(scalar, _ORDERABLE):
            raise InvalidFilterError(f"{path}: {op} needs a number, text, datetime, date or boolean")
        return Compare(path, op, scalar)

    return build


def _in(path: str, value: Any) -> Predicate:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise InvalidFilterError(f"{path}: 'in' needs a list of values")
    return Compare(path, Op.IN, tuple(_scalar(path, item) for item in value))


def _contains(path: str, value: Any) -> Predicate:
    return Compare(path, Op.CONTAINS, _scalar(path, value))


def _startswith(path: str, value: Any) -> Predicate:
    if not isinstance(value, str):
        raise InvalidFilterError(f"{path}: 'startswith' needs text")
    return Compare(path, Op.STARTSWITH, _scalar(path, value))


def _exists(path: str, value: Any) -> Predicate:
    if value is not None and not isinstance(value, bool):
        raise InvalidFilterError(f"{path}: 'exists' takes True or False")
    return _equals(path, None) if value is False else Not(_equals(path, None))


def _is_null(path: str, value: Any) -> Predicate:
    return Not(_exists(path, value))


def _negated(build: Callable[[str, Any], Predicate]) -> Callable[[str, Any], Predicate]:
    return lambda path, value: Not(build(path, value))


_OPERATORS: Final[Mapping[str, Callable[[str, Any], Predicate]]] = {
    "=": _equals,
    "!=": _negated(_equals),
    "<": _ordered(Op.LT),
    "<=": _ordered(Op.LE),
    ">": _ordered(Op.GT),
    ">=": _ordered(Op.GE),
    "in": _in,
    "not in": _negated(_in),
    "contains": _contains,
    "startswith": _startswith,
    "exists": _exists,
    "is null": _is_null,
}

_MONGO_OPERATORS: Final[Mapping[str, str]] = {
    "$eq": "=",
    "$ne": "!=",
    "$lt": "<",
    "$lte": "<=",
    "$gt": ">",
    "$gte": ">=",
    "$in": "in",
    "$nin": "not in",
    "$contains": "contains",
    "$startswith": "startswith",
    "$exists": "exists",
}


def _from_dict(given: Mapping[str, Any], depth: int) -> Predicate:
    if depth == 0:
        raise _too_deep()
    terms: list[Predicate] = []
    for key, value in given.items():
        if key in ("$and", "$or", "$nor"):
            if not isinstance(value, list | tuple) or not value or not all(isinstance(v, Mapping) for v in value):
                raise InvalidFilterError(f"{key} needs a list of filters")
            parts = tuple(_from_dict(each, depth - 1) for each in value)
            terms.append(And(parts) if key == "$and" else Or(parts) if key == "$or" else Not(Or(parts)))
        elif str(key).startswith("$"):
            known = ("$and", "$or", "$nor")
            raise InvalidFilterError(
                f"unknown operator {str(key)!r}{did_you_mean(str(key), known)}; there is: {', '.join(known)}"
            )
        else:
            terms.append(_from_condition(check_path(key), value, depth))
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _from_condition(path: str, value: Any, depth: int) -> Predicate:
    if type(value) in _SCALARS or not isinstance(value, Mapping):
        return _equals(path, value)
    if depth == 0:
        raise _too_deep()
    if not value:
        raise InvalidFilterError(f"{path}: an empty condition")
    terms: list[Predicate] = []
    for operator, operand in value.items():
        if operator == "$not":
            if not isinstance(operand, Mapping):
                raise InvalidFilterError(f"{path}: $not needs a condition such as {{'$gt': 5}}")
            terms.append(Not(_from_condition(path, operand, depth - 1)))
        elif operator in _MONGO_OPERATORS:
            terms.append(compare(path, _MONGO_OPERATORS[operator], operand))
        else:
            known = (*_MONGO_OPERATORS, "$not")
            raise InvalidFilterError(
                f"{path}: unknown operator {operator!r}{did_you_mean(str(operator), known)}; "
                f"there is: {', '.join(known)}; for a nested field write {path}.name"
            )
    return terms[0] if len(terms) == 1 else And(tuple(terms))
