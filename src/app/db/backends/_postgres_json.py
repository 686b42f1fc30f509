"""Nested values as JSONB, which keeps numbers as decimals: what they are has to stand in how they are written.

JSONB keeps the digits behind the point and nothing else of the spelling, so a number with some is a float and one
without is an integer. A float that is a whole number is written with all its digits, which makes it equal to the
integer that it equals; other floats have the shortest digits that give them back, and no two of these are equal.
"""

import re
from decimal import Decimal, localcontext
from typing import Any, Final

from ...core.errors import InvalidChangeError
from ._json import decode_json, encode_json

_BEFORE_POINT: Final = 131_072
_BEHIND_POINT: Final = 16_382  # one less than numeric has, so that every number lies between two it can name
_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]\d+)?')
_MINUS_ZERO = "0.00"  # no float is written like this, and numeric has no sign on a zero


def encode_jsonb(value: Any) -> str:
    """As `encode_json`. InvalidChangeError for a Decimal that could not be compared with."""
    text = encode_json(value)
    if '"$decimal"' in text:
        _check_decimals(value)
    return _STRING_OR_NUMBER.sub(_respelt, text) if "e+" in text or "-0.0" in text else text


def decode_jsonb(text: str) -> Any:
    return decode_json(_STRING_OR_NUMBER.sub(_signed, text) if _MINUS_ZERO in text else text)


def number_jsonb(value: float | Decimal) -> str | None:
    """The JSON that equals every integer and float that equals the number; None where none does."""
    if isinstance(value, int):
        return str(value)
    if value == (whole := _whole(value)):
        return str(whole)
    try:
        nearest = float(value)
    except OverflowError:
        return None
    return encode_jsonb(nearest) if nearest == value else None


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
    if text == "-0.0":
        return _MINUS_ZERO
    return f"{int(float(text))}.0" if text[0] != '"' and "e+" in text else text


def _signed(found: re.Match[str]) -> str:
    return "-0.0" if found.group() == _MINUS_ZERO else found.group()
