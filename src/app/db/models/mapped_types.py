"""What SQLAlchemy's column types hold in Python, and what a document has for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import sqlalchemy as sa
from pydantic import AwareDatetime, Field

from .schema import Kind
from .values import storable

Convert: TypeAlias = Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Form:
    """Conversions never see None."""

    kind: Kind
    annotation: Any
    """What is accepted, in pydantic's terms."""
    to_document: Convert = same
    to_python: Convert = same
    check: Convert = storable
    """ValueError for a document's value that the column cannot keep; it may make it plainer."""
    one_by_one: bool = False
    members: Mapping[Any, str] | None = None
    """Of an enumeration: what a document has, and the label that is stored for it."""


def _limited(of: Any, length: int | None) -> Any:
    return of if length is None else Annotated[of, Field(max_length=length)]


def _moment(value: datetime) -> datetime:
    """A naive one is in UTC, as what comes out of a column without time zone."""
    try:
        return value.replace(tzinfo=UTC) if value.utcoffset() is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a datetime must lie between the years 1 and 9999 in UTC") from None


def _naive(value: datetime) -> datetime:
    return value.replace(tzinfo=None)


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def _plain_json(value: Any) -> Any:
    """JSON and nothing more, since sessions read and write it as it is."""
    plain = storable(value)
    _refuse_beyond_json(plain)
    return plain


def _refuse_beyond_json(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_beyond_json(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_beyond_json(item)
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(f"JSON has no {type(value).__name__}")


def form_of(column_type: sa.types.TypeEngine[Any]) -> Form:
    """Of a type of SQLAlchemy's, or of a decorated one that says which Python type it has.

    Any other is stored and read through its own conversions, and compared for equality alone.
    """
    match column_type:
        case sa.types.TypeDecorator():
            return _decorated(column_type)
        case sa.Enum():
            return _enumeration(column_type)
        case sa.Uuid():
            if column_type.as_uuid:
                return Form(Kind.UUID, UUID)
            return Form(Kind.UUID, UUID, to_document=_uuid, to_python=str)
        case sa.DateTime():
            to_python = same if column_type.timezone else _naive
            return Form(Kind.DATETIME, datetime, to_document=_moment, to_python=to_python, check=same)
        case sa.Numeric() | sa.Float():
            return _number(column_type)
        case sa.JSON():
            return Form(Kind.JSON, Any, check=_plain_json)
        case sa.types._Binary():  # noqa: SLF001 - what LargeBinary, BINARY, BLOB and BYTEA have in common
            return Form(Kind.BYTES, _limited(bytes, column_type.length))
        case sa.String():
            return Form(Kind.TEXT, _limited(str, column_type.length))
    return next((form for base, form in _PLAIN.items() if isinstance(column_type, base)), _OTHER)


_PLAIN: Final[Mapping[type, Form]] = {
    sa.Boolean: Form(Kind.BOOLEAN, bool),
    sa.Date: Form(Kind.DATE, date),
    sa.Integer: Form(Kind.INTEGER, int),
}
_OTHER: Final = Form(Kind.OTHER, Any, one_by_one=True)
_BY_PYTHON_TYPE: Final[Mapping[Any, Form]] = {
    str: Form(Kind.TEXT, str),
    int: Form(Kind.INTEGER, int),
    float: Form(Kind.FLOAT, float),
    bool: Form(Kind.BOOLEAN, bool),
    datetime: Form(Kind.DATETIME, AwareDatetime, to_document=_moment, check=same),
    date: Form(Kind.DATE, date),
    Decimal: Form(Kind.DECIMAL, Decimal, one_by_one=True),
    UUID: Form(Kind.UUID, UUID),
    bytes: Form(Kind.BYTES, bytes),
    dict: Form(Kind.JSON, Any),
    list: Form(Kind.JSON, Any),
}


def _decorated(column_type: sa.types.TypeDecorator[Any]) -> Form:
    """By what the class says of itself: `kind`, a Kind, or `python_type`, as SQLAlchemy's own types have it."""
    kind = getattr(type(column_type), "kind", None)
    if isinstance(kind, Kind):
        return next((form for form in _BY_PYTHON_TYPE.values() if form.kind is kind), _OTHER)
    try:
        return _BY_PYTHON_TYPE.get(column_type.python_type, _OTHER)
    except NotImplementedError:
        return _OTHER


def _enumeration(column_type: sa.Enum) -> Form:
    labels = column_type.enums
    found = column_type.enum_class
    if found is None:
        return Form(Kind.TEXT, Literal[tuple(labels)], one_by_one=True, members={label: label for label in labels})
    # The names, unless the column says otherwise (`values_callable`), in the order of the members.
    by_member = dict(zip(found, labels, strict=True))
    if {type(each.value) for each in by_member} not in ({str}, {int}):
        return _labelled(by_member)
    values = {storable(each): each for each in by_member}
    return Form(
        Kind.TEXT if all(isinstance(value, str) for value in values) else Kind.INTEGER,
        found,
        to_document=storable,
        to_python=values.__getitem__,
        one_by_one=True,
        members={value: by_member[each] for value, each in values.items()},
    )


def _labelled(by_member: Mapping[Any, str]) -> Form:
    """An enumeration whose values are neither texts nor integers: a document has the labels."""
    members = {label: member for member, label in by_member.items()}

    def label_of(value: Any) -> str:
        if isinstance(value, str) and value in members:
            return value
        try:
            return by_member[value]
        except (KeyError, TypeError):
            raise ValueError("this is no member of the enumeration") from None

    labels = {label: label for label in members}
    return Form(Kind.TEXT, Any, label_of, members.__getitem__, one_by_one=True, members=labels)


def _number(column_type: sa.Numeric[Any] | sa.Float[Any]) -> Form:
    if not column_type.asdecimal:
        return Form(Kind.FLOAT, float)
    digits = Field(max_digits=column_type.precision, decimal_places=column_type.scale)
    return Form(Kind.DECIMAL, Annotated[Decimal, digits], one_by_one=True)
