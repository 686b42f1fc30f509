"""`created_at` and `updated_at`, on every write path, from this clock and from no caller."""

from collections.abc import Awaitable
from typing import Any, Self

from ...core.errors import InvalidChangeError
from ..models.base import Timestamped
from ..models.values import utc_now
from ..query.operations import Insert, Update, Upsert, altered
from .base import CallNext, Declaration, Middleware


class Timestamps(Middleware):
    handles = (Insert, Upsert, Update)

    @classmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        return cls() if issubclass(declaration.model, Timestamped) else None

    def __call__(self, operation: Insert | Upsert | Update, call_next: CallNext) -> Awaitable[Any]:
        now = utc_now()
        if isinstance(operation, Insert | Upsert):
            for document in operation.documents:
                document["created_at"] = document["updated_at"] = now
            if isinstance(operation, Insert):
                return call_next(operation)
            return call_next(altered(operation, keep=(*operation.keep, "created_at")))
        forged = [name for name in ("created_at", "updated_at") if name in operation.changes]
        if forged:
            raise InvalidChangeError(f"{', '.join(forged)}: set by the library, not by a caller")
        return call_next(altered(operation, changes={**operation.changes, "updated_at": now}))
