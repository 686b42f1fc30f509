"""The indexes that a table has, and whether they are those that it should have."""

from typing import NamedTuple

import sqlalchemy as sa

from ...backends._postgres_schema import INDEXES
from ...backends._sql_table import TABLE, Table, is_same_ddl


class Present(NamedTuple):
    """An index as the database has it. `made_by` is the statement, where it is known."""

    made_by: str | None
    columns: tuple[str | None, ...]
    unique: bool
    limited: bool


def owners(connection: sa.Connection) -> dict[str, str]:
    """The table of each index."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index'")
    else:
        rows = connection.exec_driver_sql(
            "SELECT indexname, tablename FROM pg_indexes WHERE schemaname = current_schema()"
        )
    return {str(name): str(table) for name, table in rows}


def present_indexes(connection: sa.Connection, table: str) -> dict[str, Present]:
    """By their names; what a key or a constraint has made is left out."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql(
            'SELECT i.name, m.sql, i."unique", i.partial FROM pragma_index_list(?) i'
            " JOIN sqlite_master m ON m.type = 'index' AND m.name = i.name WHERE m.sql IS NOT NULL",
            (table,),
        ).fetchall()
        columns = {
            name: tuple(
                each[0] for each in connection.exec_driver_sql("SELECT name FROM pragma_index_info(?)", (name,))
            )
            for name, *_ in found
        }
        return {name: Present(sql, columns[name], bool(unique), bool(partial)) for name, sql, unique, partial in found}
    rows = connection.exec_driver_sql(INDEXES, ([], table)).fetchall()
    return {
        name: Present(made_by, tuple(columns), unique, limited) for name, _, unique, limited, made_by, columns in rows
    }


def is_as(present: Present, index: sa.Index) -> bool:
    """Whether it is what the description says; without its statement, by its form."""
    table: Table = index.table.info[TABLE]  # type: ignore[union-attr]
    if present.made_by is not None and present.made_by.startswith("CREATE "):
        return is_same_ddl(present.made_by, table.ddl(sa.schema.CreateIndex(index)))
    limited = any(each is not None for name, each in index.dialect_kwargs.items() if name.endswith("_where"))
    columns = tuple(column.name for column in index.columns)
    return (present.columns, present.unique, present.limited) == (columns, bool(index.unique), limited)
