"""The audit log of a class with `__audited__ = True`: the flush that changes a row writes who did what to it.

Rows that a repository changes are logged by its own middleware, in the same table. Statements of an application's own
(`update(…)`, `delete(…)`) go past both.
"""

import weakref
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper, Session, object_session

from ..middleware._audit_rows import AuditRows, Stage
from ..middleware.history import record_text
from ..models.schema import schema_of
from .audit_table import audit_table
from .base import Base
from .rows import stored_document


class _Change(NamedTuple):
    target: Any
    before: dict[str, Any]
    removed: bool = False


_changes: weakref.WeakKeyDictionary[Session, list[_Change]] = weakref.WeakKeyDictionary()


@event.listens_for(Base, "before_insert", propagate=True)
def _created(mapper: Mapper[Any], connection: sa.Connection, target: Base) -> None:
    del mapper, connection
    _note(target, _Change(target, {}))


@event.listens_for(Base, "before_update", propagate=True)
def _changed(mapper: Mapper[Any], connection: sa.Connection, target: Base) -> None:
    session = object_session(target)
    # SQLAlchemy calls this for everything that was touched, also where nothing is written in the end.
    if target.__audited__ and session is not None and session.is_modified(target, include_collections=False):
        _note(target, _Change(target, _before(mapper, connection, target)))


@event.listens_for(Base, "before_delete", propagate=True)
def _removed(mapper: Mapper[Any], connection: sa.Connection, target: Base) -> None:
    if target.__audited__:
        _note(target, _Change(target, _before(mapper, connection, target), removed=True))


def _before(mapper: Mapper[Any], connection: sa.Connection, target: Base) -> dict[str, Any]:
    (key,) = inspect(target).identity or ()
    return stored_document(connection, mapper, key, lock=True)


def _note(target: Base, change: _Change) -> None:
    session = object_session(target)
    if target.__audited__ and session is not None:
        _changes.setdefault(session, []).append(change)


@event.listens_for(Session, "before_flush")
def _begin(session: Session, context: Any, instances: Any) -> None:
    del context, instances
    _changes.pop(session, None)  # of one that failed


@event.listens_for(Session, "after_flush")
def _write(session: Session, context: Any) -> None:
    """One SELECT for each row besides the one before its change, and one INSERT for each class."""
    del context
    by_class: dict[Any, list[_Change]] = {}
    for change in _changes.pop(session, []):
        by_class.setdefault(type(change.target), []).append(change)
    for model, changes in by_class.items():
        mapper: Mapper[Any] = inspect(model)
        connection = session.connection(bind_arguments={"mapper": mapper})
        rows = AuditRows(schema_of(model).model)
        documents = []
        for change in changes:
            (key,) = mapper.primary_key_from_instance(change.target)
            after = {} if change.removed else stored_document(connection, mapper, key)
            documents.append(rows.make(record_text(key), change.before, after, Stage.DONE))
        connection.execute(sa.insert(audit_table(mapper)), documents)
