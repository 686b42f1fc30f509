"""One cross-cutting rule for all operations of all stores, and the chain they are called in."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from pydantic import BaseModel

from ..backends.base import CollectionSchema, Handler
from ..query.operations import Operation

CallNext: TypeAlias = Callable[[Operation], Awaitable[Any]]


class Middleware(ABC):
    """Sees an operation before the store does, may change it (also into one of another type), and sees the result."""

    handles: ClassVar[tuple[type[Operation], ...]]
    """The operations that pass through; the others are called as if the middleware were not there."""

    @classmethod
    @abstractmethod
    def applies_to(cls, model: type[BaseModel]) -> bool:
        """Whether the model asks for it, by a mixin."""

    def adapt(self, schema: CollectionSchema) -> CollectionSchema:
        """Say what the rule needs of the collection, such as a condition on its unique indexes."""
        return schema

    @abstractmethod
    def __call__(self, operation: Any, call_next: CallNext) -> Awaitable[Any]:
        """Usually `async def`. What only changes the operation returns `call_next(…)`: no frame for each call then."""


def chain(
    middleware: Sequence[Middleware], handlers: Mapping[type[Operation], Handler]
) -> dict[type[Operation], Handler]:
    """The way from the repository to the store, built once, with only those on it that handle the operation."""
    current = dict(handlers)
    for each in reversed(middleware):
        current = {**current, **_through(each, current)}
    return current


def _through(middleware: Middleware, inner: Mapping[type[Operation], Handler]) -> dict[type[Operation], Handler]:
    def call_next(operation: Operation) -> Awaitable[Any]:
        return inner[type(operation)](operation)

    def handler(operation: Operation) -> Awaitable[Any]:
        return middleware(operation, call_next)

    return dict.fromkeys(middleware.handles, handler)
