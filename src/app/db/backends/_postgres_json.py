"""Nested values as JSON, spelt so that its numbers say what they are when PostgreSQL compares them.

The columns are JSON and not JSONB, which would put the keys of a dict in another order. For a comparison it becomes
JSONB, whose numbers are decimals that keep the digits behind the point: a number with some is a float, one without is
an integer. A float that is a whole number is written with all its digits, so that it equals the integer that it
equals; other floats have the shortest digits that give them back, and no two of these are equal.
"""

import re
from decimal import Decimal, localcontext
from typing import Any, Final

from ...core.errors import InvalidChangeError
from ._json import encode_json

_BEFORE_POINT: Final = 131_072
_BEHIND_POINT: Final = 16_382  # one less than numeric has, so that every number lies between two it can name
_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]\d+)?')


def encode_nested(value: Any) -> str:
    """As `encode_json`. InvalidChangeError for a Decimal that could not be compared with."""
    text = encode_json(value)
    if '"$decimal"' in text:
        _check_decimals(value)
    return _STRING_OR_NUMBER.sub(_respelt, text) if "e+" in text else text


def encode_number(value: float | Decimal) -> str | None:
    """The JSON that equals every integer and float that equals the number; None where none does."""
    if isinstance(value, int):
        return str(value)
    if value == (whole := _whole(value)):
        return str(whole)
    try:
        nearest = float(value)
    except OverflowError:
        return None
    return encode_nested(nearest) if nearest == value else None


def stored_decimal(value: Any) -> Decimal:
    """The Decimal, if numeric can hold it."""
    number = value if type(value) is Decimal else Decimal(value)
    if not number:
        return number if -_BEHIND_POINT <= _exponent(number) <= 0 else Decimal(0)
    if number.adjusted() >= _BEFORE_POINT or _exponent(number) < -_BEHIND_POINT:
        raise InvalidChangeError(
            f"PostgreSQL's numeric has {_BEFORE_POINT} digits before the point and {_BEHIND_POINT} behind it, no more"
        )
    return number


def compared_decimal(value: Any) -> Decimal:
    """A number that numeric knows, and that compares with each it can hold as the given one does."""
    number = Decimal(value)
    if not number:
        return Decimal(0)
    if number.adjusted() >= _BEFORE_POINT:
        return Decimal("Infinity").copy_sign(number)
    if _exponent(number) >= -_BEHIND_POINT:
        return number
    with localcontext() as context:
        context.prec = _BEFORE_POINT + _BEHIND_POINT + 2
        context.rounding = "ROUND_DOWN"
        cut = number.quantize(Decimal((0, (1,), -_BEHIND_POINT)))
        return cut if cut == number else cut + Decimal((int(number < 0), (1,), -_BEHIND_POINT - 1))


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _whole(value: float | Decimal) -> int | None:
    if isinstance(value, Decimal) and value.adjusted() > _LARGEST_FLOAT:
        return None
    return int(value)


_LARGEST_FLOAT: Final = 308


def _check_decimals(value: Any) -> None:
    if isinstance(value, Decimal):
        stored_decimal(value)
    elif isinstance(value, dict):
        for item in value.values():
            _check_decimals(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_decimals(item)


def _respelt(found: re.Match[str]) -> str:
    text = found.group()
    return f"{int(float(text))}.0" if text[0] != '"' and "e+" in text else text
