"""Unique values among live rows: what is deleted has its values no more, as the repositories have it."""

import sqlalchemy as sa


def limit_to_live(table: sa.Table) -> None:
    """Turn what is unique in the table into partial unique indexes, `WHERE deleted_at IS NULL`."""
    mark = table.c.get("deleted_at")
    if mark is None:  # it is in the table that this one is joined to
        return
    for constraint in [each for each in table.constraints if isinstance(each, sa.UniqueConstraint)]:
        columns = list(constraint.columns)
        if mark in columns:
            continue
        table.constraints.discard(constraint)
        for column in columns:
            column.unique = None  # a copy of the column would bring the constraint back
        _limit(sa.Index(constraint.name if isinstance(constraint.name, str) else None, *columns, unique=True), mark)
    for index in table.indexes:
        if index.unique and mark not in list(index.columns):
            _limit(index, mark)


def _limit(index: sa.Index, mark: sa.Column[object]) -> None:
    for dialect in ("sqlite", "postgresql"):
        options = index.dialect_options[dialect]
        if options["where"] is None:
            options["where"] = mark.is_(None)
