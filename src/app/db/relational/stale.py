"""Which row it was that somebody else has changed: SQLAlchemy counts rows, and names none."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event, inspect
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


@event.listens_for(Session, "after_begin")
def _note_connection(session: Session, transaction: Any, connection: sa.Connection) -> None:
    del transaction
    _connections.setdefault(session, {})[connection.engine] = weakref.ref(connection)


_connections: weakref.WeakKeyDictionary[Session, dict[sa.Engine, weakref.ref[sa.Connection]]]
_connections = weakref.WeakKeyDictionary()


@contextmanager
def _connected(session: Session, mapper: Mapper[Any]) -> Iterator[sa.Connection]:
    """The session's connection, which is rolled back by now: another one might not be free before this one is."""
    noted = _connections.get(session, {}).get(session.get_bind(mapper).engine)
    connection = None if noted is None else noted()
    if connection is None or connection.closed:
        with session.get_bind(mapper).engine.connect() as connection:
            yield connection
        return
    with nullcontext() if connection.in_transaction() else connection.begin() as begun:
        yield connection
        if begun is not None:
            begun.rollback()


def stale_error(session: Session, before: list[Seen]) -> RowGoneError | StaleRowError | None:
    """The error for the first row that is another now, if one is."""
    for mapper, key, version in before:
        table = mapper.local_table.description
        with _connected(session, mapper) as connection:
            column = sa.literal(None) if mapper.version_id_col is None else mapper.version_id_col
            where = [known == value for known, value in zip(mapper.primary_key, key, strict=True)]
            row = connection.execute(sa.select(column).select_from(mapper.persist_selectable).where(*where)).first()
        shown = key[0] if len(key) == 1 else key
        if row is None:
            return RowGoneError(f"{table}: the record {shown!r} is gone: it was deleted since it was read")
        if version is not None and row[0] != version:
            return StaleRowError(table, shown, version, row[0])
    return None
