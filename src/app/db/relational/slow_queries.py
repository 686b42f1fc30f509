"""The log of slow statements, for engines."""

from time import monotonic
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from ...connections._slow_queries import SlowQueries
from .sqlite_engine import BEGIN

_BEGUN = "manystore_begun"


def log_slow_queries(engine: sa.Engine, watch: SlowQueries) -> None:
    """Waiting for a connection, or on SQLite for the turn to write, is no part of a statement's time."""

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        del connection, cursor, statement, parameters, executemany
        setattr(context, _BEGUN, monotonic())

    def after(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        del connection, cursor, parameters, executemany
        if statement != BEGIN:
            watch.note(statement, monotonic() - getattr(context, _BEGUN))

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
