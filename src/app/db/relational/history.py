"""Every state of a versioned row, written by the flush that makes it, where `Repository.history` reads it."""

import weakref
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapper, Session, object_session

from ..middleware.history import record_text
from ..models.values import utc_now
from .history_table import history_table
from .mixins import VersioningMixin
from .rows import stored_document


@dataclass
class _Flush:
    """What one flush has done to rows with a history."""

    written: list[Any] = field(default_factory=list)
    removed: list[Any] = field(default_factory=list)


_flushes: weakref.WeakKeyDictionary[Session, _Flush] = weakref.WeakKeyDictionary()


def _flush_of(target: Any) -> _Flush:
    session = object_session(target)
    return _Flush() if session is None else _flushes.setdefault(session, _Flush())


@event.listens_for(VersioningMixin, "before_insert", propagate=True)
def _created(mapper: Mapper[Any], connection: sa.Connection, target: VersioningMixin) -> None:
    del mapper, connection
    if target.__keeps_history__:
        _flush_of(target).written.append(target)


@event.listens_for(VersioningMixin, "before_update", propagate=True)
def _changed(mapper: Mapper[Any], connection: sa.Connection, target: VersioningMixin) -> None:
    del mapper, connection
    session = object_session(target)
    # SQLAlchemy calls this for everything that was touched, also where nothing is written in the end.
    if target.__keeps_history__ and session is not None and session.is_modified(target, include_collections=False):
        _flush_of(target).written.append(target)


@event.listens_for(VersioningMixin, "before_delete", propagate=True)
def _removed(mapper: Mapper[Any], connection: sa.Connection, target: VersioningMixin) -> None:
    del mapper, connection
    if target.__keeps_history__:
        _flush_of(target).removed.append(target)


@event.listens_for(Session, "before_flush")
def _begin(session: Session, context: Any, instances: Any) -> None:
    del context, instances
    _flushes.pop(session, None)  # of one that failed


@event.listens_for(Session, "after_flush")
def _write(session: Session, context: Any) -> None:
    """One SELECT for each changed row, since only the database knows what it made of it, and one write for all."""
    del context
    flush = _flushes.pop(session, None)
    if flush is None:
        return
    for mapper, targets in _by_mapper(flush.removed):
        table = history_table(mapper)
        keys = [record_text(inspect(each).identity[0]) for each in targets]
        session.connection(bind_arguments={"mapper": mapper}).execute(sa.delete(table).where(table.c.record.in_(keys)))
    for mapper, targets in _by_mapper(flush.written):
        connection = session.connection(bind_arguments={"mapper": mapper})
        _upsert(connection, history_table(mapper), [_state(connection, mapper, each) for each in targets])


def _by_mapper(targets: list[Any]) -> Iterator[tuple[Mapper[Any], list[Any]]]:
    found: defaultdict[Mapper[Any], list[Any]] = defaultdict(list)
    for each in targets:
        found[inspect(each).mapper].append(each)
    yield from found.items()


def _state(connection: sa.Connection, mapper: Mapper[Any], target: Any) -> dict[str, Any]:
    (key,) = mapper.primary_key_from_instance(target)
    document = stored_document(connection, mapper, key)
    record, version = record_text(key), document["version"]
    return {"id": f"{record}@{version}", "record": record, "version": version, "at": utc_now(), "document": document}


def _upsert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """A state that is there already is of an earlier record with the same key."""
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    changed = {name: statement.excluded[name] for name in ("at", "document")}
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed), rows)
