"""The declarative base: table names, types and names of constraints that fit the repositories, and dicts."""

import enum
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal, Self
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from sqlalchemy import inspect
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import DeclarativeBase, MappedColumn, Mapper

from ...core.errors import InvalidChangeError, did_you_mean
from ..models.mapped_types import form_of
from ..models.naming import collection_name
from ..models.schema import Kind, is_mapped, schema_of
from ..models.values import storable
from .audit_table import add_audit_table
from .naming import CONVENTION
from .types import GUID, Document, ExactDecimal, UTCDateTime

_DICT = MutableDict.as_mutable(Document())
_LIST = MutableList.as_mutable(Document())


class Base(DeclarativeBase):
    """The base of an application's tables: `class Campaign(Base)` is the table `campaigns`.

    A class with an `__abstract__ = True` of its own has no table, and one that is derived from a mapped class shares
    its table, unless it has a primary key of its own. `__tablename__` names it otherwise.
    """

    metadata = sa.MetaData(naming_convention=CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime(),
        UUID: GUID(),
        Decimal: ExactDecimal(),
        int: sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        # By their values and as text, so that a new member is no change of the schema.
        enum.Enum: sa.Enum(
            enum.Enum,
            values_callable=lambda members: [str(each.value) for each in members],
            native_enum=False,
            length=255,
        ),
        **dict.fromkeys((dict, dict[str, Any], dict[str, str], dict[str, int], dict[str, float]), _DICT),
        **dict.fromkeys((list, list[Any], list[str], list[int], list[float], list[dict[str, Any]]), _LIST),
    }

    MANAGED: ClassVar[frozenset[str]] = frozenset()
    """The attributes that the library sets; each mixin adds its own."""
    __audited__: ClassVar[bool] = False
    """Whether every row that is written, by a session or a repository, leaves one in `<table>_audit`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        managed = (vars(base).get("MANAGED", frozenset()) for base in cls.__mro__)
        cls.MANAGED = frozenset[str]().union(*managed)
        if not vars(cls).get("__abstract__") and not _has_table_name(cls):
            # An explicit None shares the table of the mapped base.
            name: Any = None if _mapped_base(cls) and not _has_own_key(cls) else collection_name(cls)
            cls.__tablename__ = name
        super().__init_subclass__(**kwargs)
        if cls.__audited__ and is_mapped(cls):
            schema_of(cls)  # raises for a class that no repository can be of, so that nobody could read the log
            add_audit_table(_mapper(cls))

    def to_dict(self, *, exclude: Collection[str] = (), mode: Literal["python", "json"] = "python") -> dict[str, Any]:
        """The columns, by the names of their attributes; relationships are left out.

        `mode="json"` has what `json.dumps` takes: moments, UUIDs and decimals as text. A column that was not loaded is
        loaded, for which the object has to be in a session.
        """
        names = [attribute.key for attribute in _mapper(type(self)).column_attrs]
        _refuse_unknown(type(self), [name for name in exclude if name not in names], names)
        values = {name: getattr(self, name) for name in names if name not in exclude}
        if mode == "json":
            return {name: _jsonable(value) for name, value in values.items()}
        # Copies of what a change would be noticed in.
        return {name: _PLAIN.get(type(value), _same)(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, managed: bool = False) -> Self:
        """Make an object of what came from outside, texts of dates and numbers included.

        InvalidChangeError (a ValueError) for unknown names, for values that are not of their column's type, and for
        the primary key and what the library sets (`created_at`, `deleted_at`, …), so that data from outside cannot
        choose them; `managed=True` takes those too, for what `to_dict` gave.
        """
        mapper = _mapper(cls)
        columns = {attribute.key: attribute.columns[0] for attribute in mapper.column_attrs}
        _refuse_unknown(cls, [name for name in data if name not in columns], columns)
        kept = [name for name in data if columns[name].primary_key or name in cls.MANAGED]
        if kept and not managed:
            raise InvalidChangeError(f"{cls.__name__}: {', '.join(kept)}: set by the library, not by a caller")
        return cls(**{name: _value(cls, name, columns[name], value) for name, value in data.items()})

    def __repr__(self) -> str:
        """The primary key alone: other columns may be secret, or not loaded."""
        names = [_mapper(type(self)).get_property_by_column(each).key for each in inspect(self).mapper.primary_key]
        values = ", ".join(f"{name}={self.__dict__.get(name)!r}" for name in names)
        return f"{type(self).__name__}({values})"


def table_name(model: type[Base]) -> str:
    """The table of a mapped class."""
    return str(_mapper(model).local_table.description)


def _mapper(model: type[Base]) -> Mapper[Any]:
    mapper: Mapper[Any] = inspect(model)
    return mapper


def _has_table_name(cls: type[Base]) -> bool:
    """Whether the class, or a mixin or abstract base of it, says what its table is."""
    for base in cls.__mro__:
        if base is not cls and inspect(base, raiseerr=False) is not None:
            return False
        if {"__tablename__", "__table__"} & vars(base).keys():
            return True
    return False


def _mapped_base(cls: type[Base]) -> bool:
    return any(inspect(base, raiseerr=False) is not None for base in cls.__mro__[1:])


def _has_own_key(cls: type[Base]) -> bool:
    """Whether it is joined to the table of its mapped base by a key of its own."""
    columns = [each.column if isinstance(each, MappedColumn) else each for each in vars(cls).values()]
    return any(isinstance(each, sa.Column) and each.primary_key for each in columns)


def _refuse_unknown(cls: type[Base], unknown: list[str], known: Collection[str]) -> None:
    if unknown:
        near = did_you_mean(str(unknown[0]), known)
        raise InvalidChangeError(f"{cls.__name__} has no column {unknown[0]!r}{near}; there is: {', '.join(known)}")


def _value(cls: type[Base], name: str, column: sa.ColumnElement[Any], value: Any) -> Any:
    """The value as an attribute has it, refused where the column could not keep it."""
    if not isinstance(column, sa.Column):  # an expression, which no row has
        return value
    if value is None:
        is_made = column.default is not None or column.server_default is not None
        if not (column.nullable or is_made or column is column.table.autoincrement_column):
            raise InvalidChangeError(f"{cls.__name__}.{name}: may not be None")
        return None
    form = form_of(column.type)
    try:
        converted = _converted(column.type, value)
        if form.kind is not Kind.OTHER:
            form.check(form.to_document(TypeAdapter(form.annotation).validate_python(converted)))
    except ValidationError as error:
        reason = "; ".join(each["msg"] for each in error.errors(include_input=False, include_url=False))
    except (ValueError, TypeError) as error:
        reason = str(error)
    else:
        return converted
    # Not `from` pydantic's, whose text has the value.
    raise InvalidChangeError(f"{cls.__name__}.{name}: {reason}")


def _converted(column_type: sa.types.TypeEngine[Any], value: Any) -> Any:
    try:
        expected = column_type.python_type
    except NotImplementedError:
        return value
    if isinstance(column_type, sa.JSON | Document) or type(value) is expected:
        return value
    if expected is bytes and not isinstance(value, bytes):
        try:
            return b64decode(value, validate=True)
        except (ValueError, TypeError):
            raise ValueError("bytes are written in base64") from None
    return TypeAdapter(expected).validate_python(value)


def _jsonable(value: Any) -> Any:
    """As pydantic writes it, for the types that the stores keep."""
    return to_jsonable_python(storable(value), bytes_mode="base64")


def _same(value: Any) -> Any:
    return value


_PLAIN: Final[Mapping[type, Callable[[Any], Any]]] = {MutableDict: dict, MutableList: list}
