"""Deleting marks; what is marked is absent from every read and write, and its unique values are free again."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Self

from ...core.errors import InvalidChangeError
from ..backends.base import CollectionSchema
from ..models.base import SoftDeletable
from ..models.values import utc_now
from ..query.operations import Aggregate, Count, Delete, Explain, Find, Insert, Stream, Update, Upsert, altered
from ..query.predicates import Compare, Not, Op, Predicate, both
from .base import CallNext, Declaration, Middleware, Visibility

IS_LIVE = Compare("deleted_at", Op.EQ, None)


_VISIBLE: dict[Visibility, Predicate | None] = {
    Visibility.LIVE: IS_LIVE,
    Visibility.ALL: None,
    Visibility.DELETED: Not(IS_LIVE),
}


class SoftDelete(Middleware):
    """The one point where deleted records are left out."""

    handles = (Find, Stream, Explain, Aggregate, Count, Insert, Upsert, Update, Delete)

    def __init__(self, visibility: Visibility = Visibility.LIVE) -> None:
        self._visible = _VISIBLE[visibility]

    @classmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        return cls(declaration.visibility) if issubclass(declaration.model, SoftDeletable) else None

    def adapt(self, schema: CollectionSchema) -> CollectionSchema:
        indexes = tuple(index.limited_to(IS_LIVE) if index.unique else index for index in schema.indexes)
        return replace(schema, indexes=indexes)

    def __call__(
        self,
        operation: Find | Stream | Explain | Aggregate | Count | Insert | Upsert | Update | Delete,
        call_next: CallNext,
    ) -> Awaitable[Any]:
        if isinstance(operation, Delete) and not operation.hard:
            return call_next(
                Update(
                    where=operation.where,
                    changes={"deleted_at": utc_now()},
                    guard=both(operation.guard, IS_LIVE),
                    returning=False,
                )
            )
        if isinstance(operation, Update) and operation.changes.get("deleted_at") is not None:
            raise InvalidChangeError("deleted_at: set by deleting, not by a caller; None restores a deleted record")
        if isinstance(operation, Insert | Upsert):
            for document in operation.documents:
                document["deleted_at"] = None
        if self._visible is None or isinstance(operation, Insert):
            return call_next(operation)
        if isinstance(operation, Update | Upsert | Delete):
            return call_next(altered(operation, guard=both(operation.guard, self._visible)))
        if isinstance(operation, Explain):
            find = altered(operation.find, where=both(operation.find.where, self._visible))
            return call_next(Explain(find))
        where = both(operation.where, self._visible)
        if isinstance(operation, Find):  # written out: `replace` takes four times as long, and every read comes here
            order_by, fields = operation.order_by, operation.fields
            return call_next(Find(where, order_by, operation.skip, operation.limit, fields, operation.lock))
        return call_next(altered(operation, where=where))
