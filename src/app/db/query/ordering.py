"""What a caller gives as an order, a number of rows, or a list of fields."""

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

from ...core.errors import InvalidFilterError, did_you_mean
from .operations import Order

OrderBy: TypeAlias = str | Sequence[str | tuple[str, str]] | None
"""`"name"`, `"-name"`, or a list of these or of `("name", "desc")`."""


def read_order(given: OrderBy, known: Collection[str]) -> tuple[Order, ...]:
    if given is None:
        return ()
    if not isinstance(given, str | list | tuple):
        raise InvalidFilterError("order by a field's name, by '-name', or by a list of these")
    return tuple(_one_order(each, known) for each in ([given] if isinstance(given, str) else given))


def read_rows(given: Any) -> Any:
    """`skip` and `limit` count rows: SQLite would read a negative limit as none at all."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given not in range(2**63)):
        raise InvalidFilterError("skip and limit are whole numbers from 0")
    return given


def read_skip(given: Any) -> int:
    if given is None:
        raise InvalidFilterError("skip is a whole number from 0")
    return int(read_rows(given))


def read_size(given: Any) -> int:
    """The size of a page or a batch."""
    if isinstance(given, bool) or not isinstance(given, int) or given not in range(1, MOST_IN_A_PAGE + 1):
        raise InvalidFilterError(f"a page or a batch has 1 to {MOST_IN_A_PAGE} records")
    return given


MOST_IN_A_PAGE = 10_000


def _one_order(given: object, known: Collection[str]) -> Order:
    match given:
        case str():
            name, direction = given.removeprefix("-"), "desc" if given.startswith("-") else "asc"
        case (str(name), str(direction)):
            pass
        case _:
            raise InvalidFilterError("order by a field's name, by '-name', or by (name, 'asc' or 'desc')")
    check_field(name, known, "to order by")
    if direction not in ("asc", "desc"):
        raise InvalidFilterError(f"order {name!r} by 'asc' or 'desc', not {direction!r}")
    return Order(name, direction == "desc")


def check_field(name: str, known: Collection[str], purpose: str) -> None:
    if name not in known:
        raise InvalidFilterError(f"there is no field {name!r} {purpose}{did_you_mean(name, known)}")
