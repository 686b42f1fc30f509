"""Numbers beyond BSON's types: a Decimal of more than 34 digits, an integer of more than 64 bits.

Each has a head, the nearest Decimal128 that is not greater, and a tail, a text that sorts numbers of the same head. A
number that is its own head has no tail. So any two numbers compare by head, then by tail, None first.
"""

from decimal import Decimal

from bson import Decimal128

from ..models.values import INT64

_DIGITS = 34
_LEAST = -6176
_GREATEST = 6111
_EXPONENTS = 10**19  # beyond any exponent that Python's Decimal has
_MAX = Decimal128("9." + "9" * 33 + "E+6144")
_BELOW_ALL = Decimal128("-Infinity")


def fits_decimal128(value: Decimal) -> bool:
    """Whether BSON gives the Decimal back with every digit and zero."""
    _, digits, exponent = value.as_tuple()
    return len(digits) <= _DIGITS and isinstance(exponent, int) and _LEAST <= exponent <= _GREATEST


def head_and_tail(value: Decimal | float) -> tuple[Decimal128, str | None]:
    """`value` is finite."""
    if isinstance(value, int) and value in INT64:
        return Decimal128(str(value)), None
    exact = Decimal(value)
    if fits_decimal128(exact):
        return Decimal128(exact), None
    sign, all_digits, exponent = exact.as_tuple()
    text = "".join(map(str, all_digits)).lstrip("0")
    digits = text.rstrip("0")
    if not digits:
        return Decimal128("0"), None
    least = int(exponent) + len(text) - len(digits)
    adjusted = least + len(digits) - 1
    quantum = max(adjusted - _DIGITS + 1, _LEAST)
    if len(digits) <= _DIGITS and least >= _LEAST and quantum <= _GREATEST:
        return Decimal128(f"{'-' * sign}{digits}E{least}"), None
    return _floor(digits, adjusted, quantum, negative=bool(sign)), _tail(digits, adjusted, negative=bool(sign))


def _floor(digits: str, adjusted: int, quantum: int, *, negative: bool) -> Decimal128:
    if quantum > _GREATEST:
        return _BELOW_ALL if negative else _MAX
    # What is cut off is not zero, so towards minus infinity a negative number has one more.
    kept = int(digits[: max(adjusted - quantum + 1, 0)] or "0") + negative
    if kept == 10**_DIGITS:
        kept, quantum = kept // 10, quantum + 1
        if quantum > _GREATEST:
            return _BELOW_ALL
    return Decimal128(f"{'-' * negative}{kept}E{quantum}")


_COMPLEMENT = str.maketrans("0123456789", "9876543210")


def _tail(digits: str, adjusted: int, *, negative: bool) -> str:
    text = f"{adjusted + _EXPONENTS:020}{digits}"
    return text.translate(_COMPLEMENT) + "~" if negative else text
