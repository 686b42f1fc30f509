"""What psycopg logs of our connecting, without user, database and host: any may be a piece of a mistyped password."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_connecting: ContextVar[bool] = ContextVar("connecting", default=False)


class _WithoutParts(logging.Filter):
    """Leaves other users of psycopg in this process what it tells them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _connecting.get():
            record.msg = str(record.msg).partition(":")[0].replace("%s", "…")
            record.args = record.exc_info = record.exc_text = None
        return True


logging.getLogger("psycopg").addFilter(_WithoutParts())


@contextmanager
def without_parts() -> Iterator[None]:
    """What the task logs through psycopg inside this says that it connects, and not where or as whom."""
    token = _connecting.set(True)
    try:
        yield
    finally:
        _connecting.reset(token)
