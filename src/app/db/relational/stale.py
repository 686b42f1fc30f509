"""Which row it was that somebody else has changed: SQLAlchemy counts rows, and names none."""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import inspect
from sqlalchemy.orm import Mapper, Session

from .errors import RowGoneError, StaleRowError


class Seen(NamedTuple):
    """A row as the session knows it."""

    mapper: Mapper[Any]
    key: tuple[Any, ...]
    version: int | None


def versions_in(session: Session) -> list[Seen]:
    """The rows that the next flush may change, before it does."""
    found = []
    for each in [*session.dirty, *session.deleted]:
        state: Any = inspect(each)
        column = state.mapper.version_id_col
        name = None if column is None else state.mapper.get_property_by_column(column).key
        found.append(Seen(state.mapper, state.identity, None if name is None else state.dict.get(name)))
    return found


def stale_error(session: Session, before: list[Seen]) -> RowGoneError | StaleRowError | None:
    """The error for the first row that is another now, if one is.

    It looks on a connection of its own, as the session's is rolled back.
    """
    for mapper, key, version in before:
        table = mapper.local_table.description
        with session.get_bind(mapper).engine.connect() as connection:
            column = sa.literal(None) if mapper.version_id_col is None else mapper.version_id_col
            where = [known == value for known, value in zip(mapper.primary_key, key, strict=True)]
            row = connection.execute(sa.select(column).select_from(mapper.persist_selectable).where(*where)).first()
        shown = key[0] if len(key) == 1 else key
        if row is None:
            return RowGoneError(f"{table}: the record {shown!r} is gone: it was deleted since it was read")
        if version is not None and row[0] != version:
            return StaleRowError(table, shown, version, row[0])
    return None
