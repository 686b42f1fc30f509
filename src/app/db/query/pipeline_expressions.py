"""What a stage computes: `"$path"`, a plain value, `{"$literal": …}`, or a dict or list of these."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ...core.errors import InvalidFilterError
from ..models.values import storable
from .predicates import MAX_DEPTH, check_path

Expression: TypeAlias = Any
Reader: TypeAlias = Callable[[Mapping[str, Any]], Any]


def check_expression(given: Expression, place: str, check_source: Callable[[str], None], depth: int = MAX_DEPTH) -> Any:
    """Return the expression with its plain values as stores keep them; each path in it goes to `check_source`."""
    if depth == 0:
        raise InvalidFilterError(f"{place}: nested more than {MAX_DEPTH} levels deep")
    match given:
        case str() if given.startswith("$"):
            check_source(source(given, place))
            return given
        case {"$literal": value} if len(given) == 1:
            return {"$literal": _plain(value, place)}
        case Mapping():
            for name in given:
                check_output(name, place)
            return {name: check_expression(each, place, check_source, depth - 1) for name, each in given.items()}
        case list() | tuple():
            return [check_expression(each, place, check_source, depth - 1) for each in given]
    return _plain(given, place)


def check_output(name: object, place: str) -> str:
    """The name of a field of the result: one name, no path."""
    if isinstance(name, str) and name.startswith("$"):
        raise InvalidFilterError(f"{place}: the operator {name!r} is not in the language")
    if "." in check_path(name):
        raise InvalidFilterError(f"{place}: {name!r} is a path, where a field's name is needed")
    return str(name)


def source(given: object, place: str) -> str:
    """The path in `"$path"`."""
    if not isinstance(given, str) or not given.startswith("$"):
        raise InvalidFilterError(f"{place}: needs a field of the documents, as '$name'")
    if given.startswith("$$"):
        raise InvalidFilterError(f"{place}: the variable {given!r} is not in the language")
    return check_path(given[1:])


def reader(expression: Expression) -> Reader:
    """What computes a checked expression."""
    match expression:
        case str() if expression.startswith("$"):
            names = expression[1:].split(".")
            if len(names) == 1:
                name = names[0]
                return lambda document: document.get(name)
            return lambda document: follow(document, names)
        case {"$literal": value}:
            return lambda _: value
        case Mapping():
            items = [(name, reader(each)) for name, each in expression.items()]
            return lambda document: {name: read(document) for name, read in items}
        case list():
            readers = [reader(each) for each in expression]
            return lambda document: [read(document) for read in readers]
    return lambda _: expression


def follow(value: Any, names: list[str]) -> Any:
    """The value at a path; through a list, the list of what its documents have there. None for what is missing."""
    for position, name in enumerate(names):
        if isinstance(value, list):
            rest = names[position:]
            return [follow(item, rest) for item in value if isinstance(item, Mapping | list)]
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def sources(expression: Expression) -> list[str]:
    """The fields that an expression, or a dict or list of them, reads."""
    match expression:
        case str() if expression.startswith("$"):
            return [head(expression[1:])]
        case {"$literal": _}:
            return []
        case Mapping():
            return [name for each in expression.values() for name in sources(each)]
        case list():
            return [name for each in expression for name in sources(each)]
    return []


def head(path: str) -> str:
    return path.partition(".")[0]


def _plain(value: Any, place: str) -> Any:
    try:
        return storable(value)
    except ValueError as error:
        raise InvalidFilterError(f"{place}: {error}") from None
