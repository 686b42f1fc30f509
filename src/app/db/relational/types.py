"""Column types that keep values as the repositories keep them, so that both read and write the same table.

On SQLite all of them are TEXT in a spelling that sorts as the values do, decimals by a collation of ours. On PostgreSQL
they are its own types.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from ..backends._json import decode_json, encode_json, untagged
from ..backends._postgres_json import encode_nested, stored_decimal
from ..backends._sqlite_dialect import DECIMAL
from ..models.schema import Kind
from ..models.values import check_decimal, storable, to_milliseconds

__all__ = ["GUID", "Document", "ExactDecimal", "UTCDateTime"]


def _is_sqlite(dialect: Dialect) -> bool:
    return dialect.name == "sqlite"


class UTCDateTime(TypeDecorator[datetime]):
    """A moment: aware, in UTC, cut to milliseconds. ValueError for a naive one."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if _is_sqlite(dialect):
            return dialect.type_descriptor(sa.TEXT())
        if dialect.name == "postgresql":
            return postgresql.TIMESTAMP(timezone=True, precision=3)  # a descriptor would have no precision
        return super().load_dialect_impl(dialect)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        moment = to_milliseconds(value)
        return moment.isoformat(timespec="milliseconds") if _is_sqlite(dialect) else moment

    def process_literal_param(self, value: datetime | None, dialect: Dialect) -> str:
        del dialect
        return "NULL" if value is None else f"'{to_milliseconds(value).isoformat(timespec='milliseconds')}'"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return to_milliseconds(datetime.fromisoformat(value) if isinstance(value, str) else value)


class GUID(TypeDecorator[UUID]):
    """A UUID; its text is accepted for it."""

    impl = sa.Uuid()
    cache_ok = True

    @property
    def python_type(self) -> type[UUID]:
        return UUID

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(sa.TEXT()) if _is_sqlite(dialect) else super().load_dialect_impl(dialect)

    def process_bind_param(self, value: UUID | str | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        given = value if isinstance(value, UUID) else UUID(value)
        return str(given) if _is_sqlite(dialect) else given

    def process_literal_param(self, value: UUID | str | None, dialect: Dialect) -> str:
        del dialect
        return "NULL" if value is None else f"'{value if isinstance(value, UUID) else UUID(value)}'"

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        del dialect
        return UUID(value) if isinstance(value, str) else value


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal with all its digits."""

    impl = sa.Numeric()
    cache_ok = True

    @property
    def python_type(self) -> type[Decimal]:
        return Decimal

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if _is_sqlite(dialect):
            return dialect.type_descriptor(sa.TEXT(collation=DECIMAL))
        return super().load_dialect_impl(dialect)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        given = check_decimal(Decimal(value))
        return str(given) if _is_sqlite(dialect) else stored_decimal(given)

    def process_literal_param(self, value: Any, dialect: Dialect) -> str:
        del dialect
        return "NULL" if value is None else f"'{check_decimal(Decimal(value))}'"

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        del dialect
        # SQLite's own functions, such as `sum`, make a float of it.
        return Decimal(str(value)) if isinstance(value, str | int | float) else value


class Document(TypeDecorator[Any]):
    """Nested values as JSON, in which every type that a repository stores comes back as it went in."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True
    kind = Kind.JSON

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if _is_sqlite(dialect):
            return dialect.type_descriptor(sa.TEXT())
        if dialect.name == "postgresql":
            return _PlainJson()
        return super().load_dialect_impl(dialect)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self.impl_instance.coerce_compared_value(op, value)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        plain = storable(value)
        return encode_json(plain) if _is_sqlite(dialect) else encode_nested(plain)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return decode_json(value) if _is_sqlite(dialect) and value is not None else untagged(value)


class _PlainJson(UserDefinedType[str]):
    """PostgreSQL's JSON, whose text is made by `Document`: JSON and not JSONB, which reorders keys, and none of
    SQLAlchemy's, for which the driver makes the text.
    """

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **options: Any) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        return "JSON"
