"""What a query document means to MongoDB, from its manual, as far as the library sends such: a second opinion.

Paths go through arrays, a condition on an array is also one on each of its items, null is what is missing too, and
values compare within one kind of BSON.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from bson import Binary, Decimal128, ObjectId

MISSING: Final = object()
_RANKS: Final = ("null", "number", "string", "object", "array", "binData", "objectId", "bool", "date")


def meets(query: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    return all(_term(name, condition, document) for name, condition in query.items())


def sorted_as(documents: list[dict[str, Any]], sort: Mapping[str, int]) -> list[dict[str, Any]]:
    def compared(first: dict[str, Any], second: dict[str, Any]) -> int:
        for path, direction in sort.items():
            order = compare(_field(first, path), _field(second, path))
            if order:
                return order * direction
        return 0

    return sorted(documents, key=functools.cmp_to_key(compared))


def type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float() | Decimal128():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case list():
            return "array"
        case bytes() | UUID():
            return "binData"
        case ObjectId():
            return "objectId"
        case datetime():
            return "date"
    return "missing" if value is MISSING else type(value).__name__


def compare(first: Any, second: Any) -> int:
    """The order of BSON: by kind, then within the kind; what is missing is as null."""
    kinds = [type_of(None if each is MISSING else each) for each in (first, second)]
    if kinds[0] != kinds[1]:
        return _RANKS.index(kinds[0]) - _RANKS.index(kinds[1])
    match kinds[0]:
        case "null":
            return 0
        case "number":
            return _order(_number(first), _number(second))
        case "string":
            return _order(first.encode(), second.encode())
        case "binData":
            return _order(_binary(first), _binary(second))
        case "object":
            return _pairwise([*first.items()], [*second.items()])
        case "array":
            return _pairwise([("", each) for each in first], [("", each) for each in second])
    return _order(first, second)


def _pairwise(first: list[tuple[str, Any]], second: list[tuple[str, Any]]) -> int:
    for (name, one), (other_name, other) in zip(first, second, strict=False):
        order = _order(name, other_name) or compare(one, other)
        if order:
            return order
    return _order(len(first), len(second))


def _order(first: Any, second: Any) -> int:
    return int(first > second) - int(first < second)


def _number(value: Any) -> Decimal | int | float:
    return value.to_decimal() if isinstance(value, Decimal128) else value


def _binary(value: Any) -> tuple[int, int, bytes]:
    if isinstance(value, UUID):
        return (16, 4, value.bytes)
    return (len(value), value.subtype if isinstance(value, Binary) else 0, bytes(value))


def _term(name: str, condition: Any, document: Mapping[str, Any]) -> bool:
    match name:
        case "$and":
            return all(meets(each, document) for each in condition)
        case "$or":
            return any(meets(each, document) for each in condition)
        case "$nor":
            return not any(meets(each, document) for each in condition)
        case "$expr":
            return bool(_expression(condition, document))
    assert not name.startswith("$"), name
    if isinstance(condition, Mapping) and condition and all(each.startswith("$") for each in condition):
        return all(_operator(each, operand, document, name) for each, operand in condition.items())
    return _operator("$eq", condition, document, name)


def _operator(name: str, operand: Any, document: Mapping[str, Any], path: str) -> bool:
    match name:
        case "$ne":
            return not _operator("$eq", operand, document, path)
        case "$nin":
            return not _operator("$in", operand, document, path)
        case "$not":
            return not all(_operator(each, inner, document, path) for each, inner in operand.items())
        case "$elemMatch":
            return any(isinstance(value, list) and _an_item(operand, value) for value in _at(document, path.split(".")))
    return any(_single(name, operand, each) for value in _at(document, path.split(".")) for each in _expanded(value))


def _an_item(operand: Mapping[str, Any], items: list[Any]) -> bool:
    if all(name.startswith("$") for name in operand):
        return any(all(_single(name, value, item) for name, value in operand.items()) for item in items)
    return any(isinstance(item, Mapping) and meets(operand, item) for item in items)


def _single(name: str, operand: Any, value: Any) -> bool:
    match name:
        case "$eq":
            return compare(value, operand) == 0
        case "$in":
            return any(compare(value, each) == 0 for each in operand)
        case "$type":
            return type_of(value) == str(operand)
        case "$regex":
            return isinstance(value, str) and re.search(operand, value) is not None
    if type_of(value) != type_of(operand):
        return False
    return _ORDERINGS[name](compare(value, operand))


_ORDERINGS: Final[Mapping[str, Callable[[int], bool]]] = {
    "$lt": lambda order: order < 0,
    "$lte": lambda order: order <= 0,
    "$gt": lambda order: order > 0,
    "$gte": lambda order: order >= 0,
}


def _expanded(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    yield value


def _at(value: Any, names: list[str]) -> Iterator[Any]:
    """Each value that a path leads to."""
    if not names:
        yield value
    elif isinstance(value, Mapping):
        yield from _at(value.get(names[0], MISSING), names[1:])
    elif isinstance(value, list):
        if names[0].isdigit() and int(names[0]) < len(value):
            yield from _at(value[int(names[0])], names[1:])
        for item in value:
            if isinstance(item, Mapping):
                yield from _at(item, names)
    else:
        yield MISSING


def _field(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value.get(name, MISSING) if isinstance(value, Mapping) else MISSING
    return value


def _in_turn(name: str, operands: list[Any], document: Mapping[str, Any]) -> Any:
    if name == "$and":
        return all(_expression(each, document) for each in operands)
    condition, then, otherwise = operands
    return _expression(then if _expression(condition, document) else otherwise, document)


def _expression(expression: Any, document: Mapping[str, Any]) -> Any:
    if isinstance(expression, str) and expression.startswith("$"):
        [value, *_] = [*_at(document, expression[1:].split(".")), MISSING]
        return value
    if not isinstance(expression, Mapping):
        return expression
    [(name, operand)] = expression.items()
    if name == "$literal":
        return operand
    if name == "$convert":
        return _expression(operand["input"], document).hex()
    if name in ("$cond", "$and"):  # which do not look further than they have to
        return _in_turn(name, operand, document)
    values = [_expression(each, document) for each in operand] if isinstance(operand, list) else []
    match name:
        case "$eq":
            return compare(values[0], values[1]) == 0
        case "$type":
            return type_of(_expression(operand, document))
        case "$toString":
            return str(_expression(operand, document))
        case "$toUpper":
            return _expression(operand, document).upper()
        case "$indexOfBytes":
            text, part = values
            return None if text is None or text is MISSING else text.encode().find(part.encode())
    return _ORDERINGS[name](compare(values[0], values[1]))
