"""Operations in words, for `migrate check`."""

from collections.abc import Iterator
from typing import Any

from alembic.operations import ops


def words(operations: ops.UpgradeOps) -> Iterator[str]:
    """What the database has not, or has otherwise; statements that only describe say nothing."""
    for each in _flat(operations.ops):
        match each:
            case ops.CreateTableOp():
                yield f"the table {each.table_name} is missing"
            case ops.DropTableOp():
                yield f"no model has the table {each.table_name}"
            case ops.AddColumnOp():
                yield f"the column {each.table_name}.{each.column.name} is missing"
            case ops.DropColumnOp():
                yield f"no model has the column {each.table_name}.{each.column_name}"
            case ops.AlterColumnOp():
                yield f"the column {each.table_name}.{each.column_name} is another than the model's"
            case ops.CreateIndexOp():
                yield f"the index {each.index_name} on {each.table_name} is missing or another"
            case ops.DropIndexOp():
                yield f"no model has the index {each.index_name} on {each.table_name}, as it is"
            case ops.ExecuteSQLOp():
                continue
            case _:
                yield f"{type(each).__name__.removesuffix('Op')} on {getattr(each, 'table_name', '?')}"


def _flat(operations: Any) -> Iterator[Any]:
    for each in operations:
        if isinstance(each, ops.ModifyTableOps):
            yield from _flat(each.ops)
        else:
            yield each
