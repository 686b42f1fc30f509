"""PostgreSQL's enumerations, which are types with names: a revision makes those that it needs, and its way back drops
them. Alembic makes one with a table, though it may be there, makes none with a column, and drops none.
"""

from collections.abc import Iterable, Iterator
from copy import copy
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import CreateEnumType, DropEnumType
from sqlalchemy.types import TypeDecorator, TypeEngine

_COMPILER = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call] # others double percent signs


def without_variants(item: TypeEngine[Any], dialect: sa.Dialect) -> TypeEngine[Any]:
    """What the type is on this store."""
    variants = item._variant_mapping  # noqa: SLF001 - what Alembic reads, too
    if not variants:
        return item
    found = copy(variants.get(dialect.name, item))
    found._variant_mapping = type(variants)()  # noqa: SLF001
    return found


def named_type(item: TypeEngine[Any], dialect: sa.Dialect) -> sa.Enum | None:
    """The enumeration that is a type of its own in the database, but for those that an application makes itself."""
    while isinstance(item, TypeDecorator):
        item = item.load_dialect_impl(dialect)
    if dialect.name != "postgresql" or not isinstance(item, sa.Enum) or not item.native_enum:
        return None
    return item if getattr(item, "create_type", True) else None


def rendered(item: sa.Enum) -> str:
    schema = f", schema={item.schema!r}" if item.schema else ""
    return f"postgresql.ENUM({', '.join(map(repr, item.enums))}, name={item.name!r}{schema}, create_type=False)"


def changes(upgrade: ops.UpgradeOps, metadata: sa.MetaData, dialect: sa.Dialect) -> tuple[list[str], list[str]]:
    """What makes the types that only new columns have, and what drops them."""
    new = {(table, column.name): column for table, column in _new_columns(upgrade.ops)}
    columns = [(table.name, column) for table in metadata.tables.values() for column in table.columns]
    there = _types([column for table, column in columns if (table, column.name) not in new], dialect)
    made = [each for name, each in _types(new.values(), dialect).items() if name not in there]
    creates = [str(CreateEnumType(each).compile(dialect=_COMPILER)) for each in made]
    drops = [str(DropEnumType(each).compile(dialect=_COMPILER)) for each in made]
    # What `create_all` has made already is taken as it is.
    unless_there = "DO $do$ BEGIN {}; EXCEPTION WHEN duplicate_object THEN NULL; END $do$"
    return [unless_there.format(each) for each in creates], drops


def _types(columns: Iterable[sa.Column[Any]], dialect: sa.Dialect) -> dict[tuple[str | None, str | None], sa.Enum]:
    found: dict[tuple[str | None, str | None], sa.Enum] = {}
    for each in columns:
        item = without_variants(each.type, dialect)
        named = named_type(item.item_type if isinstance(item, sa.ARRAY) else item, dialect)
        if named is not None:
            found[named.schema, named.name] = named
    return found


def _new_columns(operations: Iterable[ops.MigrateOperation]) -> Iterator[tuple[str, sa.Column[Any]]]:
    for each in operations:
        if isinstance(each, ops.CreateTableOp):
            yield from ((each.table_name, column) for column in each.columns if isinstance(column, sa.Column))
        elif isinstance(each, ops.ModifyTableOps):
            yield from _new_columns(each.ops)
        elif isinstance(each, ops.AddColumnOp):
            yield each.table_name, each.column
