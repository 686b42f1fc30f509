"""What `$group` makes of the values of a group, one value at a time."""

from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final, Protocol

from .comparison import identity, sort_key


class Accumulator(Protocol):
    def add(self, value: Any) -> None: ...

    def result(self) -> Any: ...


class _Numbers:
    """Adds exactly, so that the order of the documents changes nothing. Ignores what is no number."""

    def __init__(self) -> None:
        self.count = 0
        self._integer = 0
        self._scaled = 0
        """The sum of the floats, as a whole number of the smallest float that there is."""
        self._decimal: Decimal | None = None
        self._has_floats = False

    def add(self, value: Any) -> None:
        match value:
            case bool():
                return
            case int():
                self._integer += value
            case float():
                self._has_floats = True
                numerator, denominator = value.as_integer_ratio()
                self._scaled += numerator << (_SMALLEST + 1 - denominator.bit_length())
            case Decimal():
                self._decimal = value if self._decimal is None else _EXACT.add(self._decimal, value)
            case _:
                return
        self.count += 1

    def sum(self) -> int | float | Decimal:
        if self._decimal is not None:
            return _EXACT.add(self._decimal, self._rest_as_decimal())
        return _float(self._rest()) if self._has_floats else self._integer

    def mean(self) -> float | Decimal | None:
        if self.count == 0:
            return None
        if self._decimal is not None:
            return _MEAN.divide(Decimal(self.sum()), self.count)
        return _float(self._rest() / self.count)

    def _rest(self) -> Fraction:
        """The sum of integers and floats."""
        return self._integer + Fraction(self._scaled, 1 << _SMALLEST)

    def _rest_as_decimal(self) -> Decimal:
        return Decimal(repr(_float(self._rest()))) if self._has_floats else Decimal(self._integer)


_SMALLEST: Final = 1074
"""Every float is a whole number of 2**-1074."""
_EXACT: Final = Context(prec=10_000)
_MEAN: Final = Context(prec=34)
"""The digits of MongoDB's decimals."""


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


class _Sum(_Numbers):
    def result(self) -> int | float | Decimal:
        return self.sum()


class _Average(_Numbers):
    def result(self) -> float | Decimal | None:
        return self.mean()


class _Extreme:
    """Ignores None. Of several kinds MongoDB's order decides."""

    def __init__(self, *, largest: bool) -> None:
        self._largest = largest
        self._key: tuple[int, Any] | None = None
        self._value: Any = None

    def add(self, value: Any) -> None:
        if value is None:
            return
        key = sort_key(value)
        if self._key is None or (key > self._key if self._largest else key < self._key):
            self._key, self._value = key, value

    def result(self) -> Any:
        return self._value


class _First:
    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if not self._values:
            self._values.append(value)

    def result(self) -> Any:
        return self._values[0]


class _Last:
    def __init__(self) -> None:
        self._value: Any = None

    def add(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        return self._value


class _Push:
    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        self._values.append(value)

    def result(self) -> list[Any]:
        return self._values


class _AddToSet:
    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def add(self, value: Any) -> None:
        self._values.setdefault(identity(value), value)

    def result(self) -> list[Any]:
        return list(self._values.values())


class _Count:
    def __init__(self) -> None:
        self._count = 0

    def add(self, value: Any) -> None:  # noqa: ARG002 - one signature for all
        self._count += 1

    def result(self) -> int:
        return self._count


ACCUMULATORS: Final[Mapping[str, Callable[[], Accumulator]]] = {
    "$sum": _Sum,
    "$avg": _Average,
    "$min": lambda: _Extreme(largest=False),
    "$max": lambda: _Extreme(largest=True),
    "$first": _First,
    "$last": _Last,
    "$push": _Push,
    "$addToSet": _AddToSet,
    "$count": _Count,
}
