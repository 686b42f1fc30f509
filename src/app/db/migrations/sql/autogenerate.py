"""What Alembic writes into a revision, and what it takes for a difference."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _repr_type
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from ....core.utils.logger import get_logger
from ...backends._sql import EXPIRES, EXTRA
from ...backends._sql_table import TABLE, Table
from ..ledger import LEDGER
from .description import DESCRIBED
from .indexes import is_as, present_indexes
from .named_types import changes, named_type, rendered, without_variants

logger = get_logger(__name__)

_NUMBER = re.compile(r"(\d{1,14})(?:_|$)")


def options(metadata: sa.MetaData, *, from_nothing: bool) -> dict[str, Any]:
    """For `EnvironmentContext.configure`. `from_nothing` compares with an empty database: for the first revision."""

    def include_name(_name: str | None, kind: str, parents: Any) -> bool:
        if kind == "index" and DESCRIBED in metadata.tables[parents["table_name"]].info:
            return False  # they are compared here
        return not (from_nothing and kind == "table")

    return {
        "target_metadata": metadata,
        "include_name": include_name,
        "include_object": _include,
        "compare_type": _compare_type,
        "render_item": _render,
        "process_revision_directives": _process,
    }


def next_number(names: list[str]) -> str:
    numbers = [int(found[1]) for name in names if (found := _NUMBER.match(name))]
    return f"{max(numbers, default=0) + 1:03}"


def _include(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    if not reflected or compare_to is not None:
        return True
    # A table that no model has may be anybody's. The columns of a lifetime or of free fields hold data.
    return not (kind == "table" or name == LEDGER or (kind == "column" and item.name in (EXTRA, EXPIRES)))


def _compare_type(
    context: MigrationContext,
    _inspected: Any,
    column: sa.Column[Any],
    present: TypeEngine[Any],
    wanted: TypeEngine[Any],
) -> bool | None:
    """Alembic's own way is too lenient for ours: to SQLite all of its types are alike."""
    if DESCRIBED not in column.table.info:
        return None
    plain = re.sub(r' COLLATE "?\w+"?', "", wanted.compile(context.dialect))
    return present.compile(context.dialect).partition(" COLLATE")[0].upper() != plain.upper()


def _render(kind: str, item: Any, context: AutogenContext) -> str | bool:
    """Types as SQLAlchemy's own, so that a revision means the same whatever becomes of the library."""
    if kind != "type" or not isinstance(item, TypeEngine):
        return False
    dialect = context.migration_context.dialect
    given, item = item, without_variants(item, dialect)
    named = named_type(item, dialect)
    if named is not None:
        context.imports.add("from sqlalchemy.dialects import postgresql")
        return rendered(named)
    if type(item).__module__.startswith("sqlalchemy."):
        return False if item is given else _repr_type(item, context)
    while isinstance(item, TypeDecorator):
        item = item.load_dialect_impl(dialect)
    if isinstance(item, UserDefinedType):
        known = dialect.ischema_names.get(str(item.compile(dialect)).lower())  # type: ignore[attr-defined]
        if known is None:
            context.imports.add(f"import {type(item).__module__}")
            return f"{type(item).__module__}.{item!r}"
        item = known()
    base: Any = next(each for each in type(item).__mro__ if each.__module__.startswith("sqlalchemy."))
    return _repr_type(item if type(item) is base else item.adapt(base), context)


def _process(context: MigrationContext, _revision: Any, directives: list[ops.MigrationScript]) -> None:
    [script] = directives
    given = context.opts["revision_context"].command_args
    if given["rev_id"] is None:
        files = Path(context.opts["script"].versions).glob("*.py")
        script.rev_id = next_number([each.stem for each in files])
    if not given.get("autogenerate"):
        return
    upgrade, downgrade = script.upgrade_ops, script.downgrade_ops
    assert upgrade is not None  # noqa: S101 - Alembic has made both
    assert downgrade is not None  # noqa: S101
    metadata: sa.MetaData = context.opts["target_metadata"]
    tables = {name: table.info[DESCRIBED] for name, table in metadata.tables.items() if DESCRIBED in table.info}
    comments = [one for each in tables.values() for one in _add_index_changes(context, upgrade, each)]
    creates, drops = changes(upgrade, metadata, context.dialect)
    downgrade.ops = [*upgrade.reverse().ops, *_executed(comments), *_executed(drops)]
    finished = [one for each in upgrade.ops for one in _finished(each, tables, context.dialect)]
    upgrade.ops = [*_executed(creates), *finished]


def _executed(statements: Iterable[str]) -> Iterator[ops.ExecuteSQLOp]:
    return map(ops.ExecuteSQLOp, map(_escaped, statements))


def _add_index_changes(context: MigrationContext, upgrade: ops.UpgradeOps, table: sa.Table) -> Iterator[str]:
    """Of a repository's table: Alembic sees neither the conditions of indexes nor, on SQLite, their collations.

    Gives the statements that describe the old indexes, for the way back.
    """
    connection = context.connection
    assert connection is not None  # noqa: S101 - the database is what is compared with
    wanted = {str(index.name): index for index in table.indexes}
    there: dict[str, sa.Index] = {}
    if not any(isinstance(each, ops.CreateTableOp) and each.table_name == table.name for each in upgrade.ops):
        present = present_indexes(connection, table.name)
        reflected = sa.Table(table.name, sa.MetaData(), autoload_with=connection)
        there = {str(index.name): index for index in reflected.indexes if str(index.name) in present}
        same = {name for name in there if name in wanted and is_as(present[name], wanted[name])}
        lifetime = {name for name in there if name not in wanted and present[name].columns == (EXPIRES,)}
        there = {name: index for name, index in there.items() if name not in same | lifetime}
        wanted = {name: index for name, index in wanted.items() if name not in same}
        comment = table.info[TABLE].dialect.index_comment
        described = ((name, present[name].made_by) for name in sorted(there))
        yield from (text for name, ddl in described if ddl and (text := comment(name, ddl)))
    # What is dropped goes first, since it may be of a column that is dropped too.
    upgrade.ops[:0] = [ops.DropIndexOp.from_index(each) for _, each in sorted(there.items())]
    upgrade.ops += [ops.CreateIndexOp.from_index(each) for _, each in sorted(wanted.items())]


def _finished(operation: Any, tables: Mapping[str, sa.Table], dialect: sa.Dialect) -> Iterator[ops.MigrateOperation]:
    """An operation as it is written: what first use has made already is taken as it is."""
    table = tables.get(getattr(operation, "table_name", ""))
    if isinstance(operation, ops.CreateTableOp):
        operation.info = {}
        operation.if_not_exists = True
    elif isinstance(operation, ops.ModifyTableOps):
        # Alembic's batch mode refuses that beside what makes SQLite build the table anew.
        only_indexes = all(isinstance(each, ops.CreateIndexOp) for each in operation.ops)
        for each in operation.ops:
            if isinstance(each, ops.CreateIndexOp):
                each.if_not_exists = only_indexes or None
            elif isinstance(each, ops.AddColumnOp):
                if table is not None:
                    _give_default(table.info[TABLE], each.column)
                else:
                    _give_declared_default(each.table_name, each.column, dialect)
    elif isinstance(operation, ops.CreateIndexOp):
        operation.if_not_exists = True
        if table is not None:
            yield from _described(operation, table)
            return
    yield operation


def _described(operation: ops.CreateIndexOp, table: sa.Table) -> Iterator[ops.MigrateOperation]:
    own: Table = table.info[TABLE]
    index = next(each for each in table.indexes if each.name == operation.index_name)
    ddl = own.ddl(sa.schema.CreateIndex(index))
    if ":" in ddl or "%" in ddl:
        # Alembic would write the condition as a text in which `:name` is a parameter, and percent signs are doubled.
        yield ops.ExecuteSQLOp(_escaped(own.ddl(sa.schema.CreateIndex(index, if_not_exists=True))))
    else:
        yield operation
    comment = own.dialect.index_comment(str(index.name), ddl)
    if comment:
        yield ops.ExecuteSQLOp(_escaped(comment))


def _give_default(table: Table, column: sa.Column[Any]) -> None:
    """What a new column shall have in the records that are there, as on first use."""
    name = column.name
    if table.has_added_default(name):
        value = table.added_default(name)
        if value is not None:
            # A text as it is: Alembic would write one inside SQL with its percent signs doubled.
            text = value if isinstance(value, str) else sa.text(table.dialect.literal(value))
            column.server_default = sa.DefaultClause(text)
    elif not column.nullable:
        _warn(table.schema.name, name)


def _give_declared_default(table: str, column: sa.Column[Any], dialect: sa.Dialect) -> None:
    """The same for a column of a declarative class, whose `default` is a value of Python."""
    if column.nullable or column.server_default is not None or column.computed or column.identity:
        return
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    value = column.default.arg if isinstance(column.default, ScalarElementColumnDefault) else None
    value = value if process is None or value is None else process(value)
    if isinstance(value, bool | int | float):
        column.server_default = sa.DefaultClause(sa.text(str(value).lower()))
    elif isinstance(value, str | Decimal | UUID | date):
        column.server_default = sa.DefaultClause(str(value))
    else:
        _warn(table, column.name)


def _warn(table: str, column: str) -> None:
    logger.warning(
        "%s.%s has no default: say in the new file what it shall be in the records that are there", table, column
    )


def _escaped(sql: str) -> str:
    """For `op.execute`, to which `:name` is a parameter."""
    return sql.replace(":", "\\:")
