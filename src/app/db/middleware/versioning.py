"""A version that every write raises by one, in the same statement."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Self

from ...core.errors import InvalidChangeError
from ..models.base import Versioned
from ..query.operations import Insert, Update, Upsert
from .base import CallNext, Declaration, Middleware

VERSION = "version"


class Versions(Middleware):
    """Nearest to the store, so that marking as deleted is a new version too."""

    handles = (Insert, Upsert, Update)

    @classmethod
    def declared(cls, declaration: Declaration) -> Self | None:
        return cls() if issubclass(declaration.model, Versioned) else None

    def __call__(self, operation: Insert | Upsert | Update, call_next: CallNext) -> Awaitable[Any]:
        if isinstance(operation, Insert | Upsert):
            first = tuple({**document, VERSION: 1} for document in operation.documents)
            if isinstance(operation, Insert):
                return call_next(replace(operation, documents=first))
            return call_next(replace(operation, documents=first, increments=(*operation.increments, VERSION)))
        if VERSION in operation.changes or VERSION in operation.increments:
            raise InvalidChangeError("version: raised by the library; give the one that was read as version=…")
        return call_next(replace(operation, increments={**operation.increments, VERSION: 1}))
