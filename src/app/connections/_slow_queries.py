"""The log of slow statements, which has their text and none of their parameters."""

import re
from typing import Any, Final

from ..core.utils.logger import get_logger

logger = get_logger(__name__)

_MOST_CHARACTERS: Final = 2_000
_BLANKS = re.compile(r"\s+")


class SlowQueries:
    """Logs what takes `threshold` seconds or longer on the connection `name`, at WARNING.

    The time is that of the statement, until its last row is there. Waiting for a connection or for the turn to write is
    no part of it.
    """

    def __init__(self, name: str, threshold: float) -> None:
        self.name = name
        self.threshold = threshold

    def note(self, statement: Any, seconds: float) -> None:
        if seconds >= self.threshold:
            logger.warning("slow query on %s: %.3f s: %s", self.name, seconds, _shown(statement))


def _shown(statement: Any) -> str:
    text = _BLANKS.sub(" ", _text(statement)).strip()
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _text(statement: Any) -> str:
    """A statement without what psycopg would write into it: the literals of `psycopg.sql` and of t-strings."""
    if isinstance(statement, str):
        return statement
    if isinstance(statement, bytes):
        return statement.decode(errors="replace")
    if hasattr(statement, "strings"):  # a t-string
        return "…".join(statement.strings)
    from psycopg import sql  # noqa: PLC0415 - only its own statements come here

    if isinstance(statement, sql.Composed):
        return "".join(map(_text, statement))
    return statement.as_string(None) if isinstance(statement, sql.SQL | sql.Identifier | sql.Placeholder) else "…"
