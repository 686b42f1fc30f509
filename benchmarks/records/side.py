"""What is measured: one way to keep products in one store."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

PAGE_SIZE = 50
POOL_SIZE = 10
"""Connections that a side may open where a store has a pool."""

Data = dict[str, Any]


class Side(ABC):
    """Each operation gets plain data and validates it by its pydantic model. A read, and a write of one record,
    returns what is stored as a model that was validated again.
    """

    name: ClassVar[str]
    lacks: ClassVar[frozenset[str]] = frozenset()
    """Operations that it does not have on this store."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def clear(self) -> None:
        """Delete everything, by the shortest way; not measured."""

    @abstractmethod
    async def create(self, data: Data) -> Any: ...

    @abstractmethod
    async def get(self, data: Data) -> Any: ...

    async def get_by_unique_field(self, data: Data) -> Any:
        raise NotImplementedError

    @abstractmethod
    async def update(self, data: Data) -> Any:
        """Set the price, and the time of the change; return the record."""

    async def exists(self, data: Data) -> bool:
        """Whether there is one with this `sku`."""
        raise NotImplementedError

    async def page(self, data: Data) -> Sequence[Any]:
        """The first of its category in the order of `sku`, and whether there are more."""
        raise NotImplementedError

    @abstractmethod
    async def delete(self, data: Data) -> bool: ...

    @abstractmethod
    async def bulk_insert(self, batch: list[Data]) -> Sequence[Any]:
        """Store all or none, and return the records."""

    @abstractmethod
    async def bulk_upsert(self, batch: list[Data]) -> int:
        """Store each, over the record with its id where there is one."""


SINGLE = ("create", "get", "get by unique field", "update", "exists", "delete")
MANY = ("page of 50", "bulk insert of 1,000", "bulk upsert of 1,000")
METHODS = {"page of 50": "page", "bulk insert of 1,000": "bulk_insert", "bulk upsert of 1,000": "bulk_upsert"}


def operation(side: Side, name: str) -> Callable[[Any], Awaitable[Any]]:
    method: Callable[[Any], Awaitable[Any]] = getattr(side, method_of(name))
    return method


def method_of(name: str) -> str:
    return METHODS.get(name, name.replace(" ", "_"))
