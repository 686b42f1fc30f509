"""The SQL of revisions, without a database that it could change."""

import io
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script

from ...backends._sqlite_dialect import register_functions
from ..ledger import Direction
from .errors import cause, explained
from .revisions import name_of

Plan = list[tuple[str, tuple[str, ...]]]


def statements_of(engine: sa.Engine, scripts: Sequence[Script], direction: Direction) -> Plan:
    """The statements of each. On SQLite they are run on an empty copy in memory, since a table is rebuilt by what is
    there; on PostgreSQL they are only written, so a revision that asks the database something cannot be shown.
    """
    if engine.dialect.name == "sqlite":
        return _on_copy(engine, scripts, direction)
    return [(name_of(each), _written(engine.dialect, each, direction)) for each in scripts]


def _written(dialect: sa.Dialect, script: Script, direction: Direction) -> tuple[str, ...]:
    out = io.StringIO()
    options = {"as_sql": True, "literal_binds": True, "output_buffer": out, "transactional_ddl": True}
    context = MigrationContext.configure(dialect=dialect, opts=options)
    _run(context, script, direction)
    return tuple(each.strip() for each in out.getvalue().split(";\n\n") if each.strip())


def _on_copy(engine: sa.Engine, scripts: Sequence[Script], direction: Direction) -> Plan:
    with engine.connect() as connection:
        schema = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            " ORDER BY type <> 'table', rowid"
        ).fetchall()
    memory = sqlite3.connect(":memory:", isolation_level=None)
    register_functions(memory)
    for [sql] in schema:
        memory.execute(sql)
    copy = sa.create_engine("sqlite+manystore://", creator=lambda: memory, poolclass=sa.pool.StaticPool)
    plan: Plan = []
    try:
        with copy.connect() as connection:
            for each in scripts:
                statements: list[str] = []
                seen = _collecting(statements)
                sa.event.listen(connection, "before_cursor_execute", seen)
                _run(MigrationContext.configure(connection, opts={"transactional_ddl": True}), each, direction)
                sa.event.remove(connection, "before_cursor_execute", seen)
                plan.append((name_of(each), tuple(statements)))
    finally:
        copy.dispose()
        memory.close()
    return plan


def _collecting(statements: list[str]) -> Callable[..., None]:
    def seen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            statements.append(statement.strip())

    return seen


def _run(context: MigrationContext, script: Script, direction: Direction) -> None:
    work = script.module.upgrade if direction is Direction.UP else script.module.downgrade
    try:
        with Operations.context(context):
            work()
    except Exception as error:  # noqa: BLE001 - whatever an application's code raises
        raise explained(f"{name_of(script)} cannot be shown", error, script.path) from cause(error)
