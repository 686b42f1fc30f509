"""`created_by` and `updated_by`, on every write path: who is named by `acting_as`."""

from collections.abc import Awaitable
from typing import Any, Self

from ...core.actor import current_actor
from ...core.errors import InvalidChangeError
from ..models.base import Attributed
from ..query.operations import Insert, Update, Upsert, altered
from .base import CallNext, Declaration, Middleware


class Attribution(Middleware):
    """Where nobody is named it is what the application gives, and else None: not whoever wrote before."""

    handles = (Insert, Upsert, Update)

    @classmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        return cls() if issubclass(declaration.model, Attributed) else None

    def __call__(self, operation: Insert | Upsert | Update, call_next: CallNext) -> Awaitable[Any]:
        actor = current_actor()
        if isinstance(operation, Insert | Upsert):
            for document in operation.documents:
                creator = actor or document.get("created_by")
                document["created_by"] = creator
                document["updated_by"] = actor or document.get("updated_by") or creator
            if isinstance(operation, Insert):
                return call_next(operation)
            return call_next(altered(operation, keep=(*operation.keep, "created_by")))
        changes = operation.changes
        if "created_by" in changes:
            raise InvalidChangeError("created_by: set when the record is created, and never again")
        return call_next(altered(operation, changes={**changes, "updated_by": actor or changes.get("updated_by")}))
