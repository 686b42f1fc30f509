"""What is known of a collection that is migrated: the schema of its repository, or what the migration itself says."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic_core import SchemaValidator, core_schema

from ...connections.base import ConnectionManager
from ...core.errors import AppError
from ..backends.base import CollectionSchema, Index
from ..models.schema import FieldSchema, Kind
from ..query.predicates import ALL, comparisons
from ..repositories.registry import RepositoryRegistry

_ANYTHING: Final = SchemaValidator(core_schema.any_schema())
# In this order, since True is an integer, and a datetime a date.
_KINDS: Final = (
    (bool, Kind.BOOLEAN),
    (int, Kind.INTEGER),
    (float, Kind.FLOAT),
    (Decimal, Kind.DECIMAL),
    (datetime, Kind.DATETIME),
    (date, Kind.DATE),
    (UUID, Kind.UUID),
    (bytes, Kind.BYTES),
)


class Repositories(Protocol):
    """A DataLayer, as far as it gives repositories."""

    def repository(self, name: str) -> Any: ...


def schemas_on(host: Repositories, manager: ConnectionManager[Any]) -> dict[str, CollectionSchema]:
    """The collections of the registered repositories that live on a connection, with those beside them, by name."""
    found: dict[str, CollectionSchema] = {}
    for name in RepositoryRegistry.names():
        try:
            repository = host.repository(name)
            backend = repository._binding.backend  # noqa: SLF001 - without a first use
        except AppError:
            continue  # placed nowhere, or where it cannot be: its first use says so
        if backend.manager is manager:
            for each in (backend, *backend.companions.values()):
                found[each.schema.name] = each.schema
    return found


def described(schema: CollectionSchema | None, collection: str, index: Index | None = None) -> CollectionSchema:
    """The collection with that index alone; without a repository, with what the index itself says of its fields."""
    indexes = () if index is None else (index,)
    if schema is not None:
        return replace(schema, indexes=indexes)
    # A field that is no None is left to the store as it is: nobody knows whether it may be one.
    fields = {"id": _field("id", Kind.TEXT)}
    if index is not None:
        fields |= {name: _field(name, Kind.TEXT) for name in index.fields}
        for each in comparisons(index.where):
            values = each.value if isinstance(each.value, tuple) else (each.value,)
            kinds = [kind for value in values for type_, kind in _KINDS if isinstance(value, type_)]
            fields[each.path] = _field(each.path, kinds[0] if kinds else Kind.TEXT)
    return CollectionSchema(collection, "id", fields, indexes, open=True)


def declared(schema: CollectionSchema | None, index: Index) -> Index:
    """The repository's own index where it is meant: of that name or after those fields, with nothing said against it.

    `index` has a name; without fields it is only looked for by that.
    """
    for each in () if schema is None else schema.indexes:
        named = index.name in (each.name, default_name(each))
        same = (each.fields, each.unique) == (index.fields, index.unique) and index.where in (ALL, each.where)
        if named and (same or not index.fields):
            return each
    return index


def default_name(index: Index) -> str:
    return f"{'_'.join(index.fields)}_{'unique' if index.unique else 'index'}"


def _field(name: str, kind: Kind) -> FieldSchema:
    return FieldSchema(
        name, kind, nullable=False, required=False, default=lambda: None, validator=_ANYTHING, has_validators=False
    )
