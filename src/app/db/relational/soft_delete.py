"""`session.delete` marks what is deleted softly, in every session."""

import weakref
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

from .mixins import SoftDeleteMixin

_for_good: weakref.WeakKeyDictionary[Session, list[Any]] = weakref.WeakKeyDictionary()


def remove_for_good(session: Session, instance: object) -> None:
    """Let the deletion of this object at the next flush remove its row, and the rows that it cascades to."""
    _for_good.setdefault(session, []).append(instance)


@event.listens_for(Session, "before_flush")
def _mark(session: Session, context: Any, instances: Any) -> None:
    del context, instances
    gone = {id(each) for root in _for_good.pop(session, []) for each in _reached(root)}
    marked = [each for each in session.deleted if isinstance(each, SoftDeleteMixin) and id(each) not in gone]
    kept = {id(each) for root in marked for each in _reached(root)}
    for root in session.deleted if marked else ():
        # What can only be removed takes its cascade along: rows that stayed would refer to one that is gone.
        if not isinstance(root, SoftDeleteMixin) and id(root) not in kept:
            gone.update(map(id, _reached(root)))
    for each in [each for each in marked if id(each) not in gone]:
        each.soft_delete()
        # What the deletion would have taken along stays with its owner, which stays; what can be marked, has its turn.
        for reached in _reached(each):
            if reached in session.deleted and id(reached) not in gone:
                session.add(reached)


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, previous: Any) -> None:
    del previous
    _for_good.pop(session, None)


def _reached(instance: object) -> list[Any]:
    """An object and what `delete` cascades to from it."""
    state: Any = inspect(instance)
    return [instance, *(found for found, _, _, _ in state.mapper.cascade_iterator("delete", state))]
