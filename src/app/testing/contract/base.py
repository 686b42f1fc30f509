"""What a class of the contract needs of whoever runs it: one fixture, `open_place`."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import pytest

from ...db.backends.base import Capability
from ...db.repositories.base import Repository
from ..models import Products

Place: TypeAlias = Callable[[type[Repository[Any]]], Any]
"""Makes a repository of a class in the test's own place: `data.repository`, or `lambda cls: cls(manager)`."""
OpenPlace: TypeAlias = Callable[[], AbstractAsyncContextManager[Place]]


class Contract:
    """Derive a test class from this one's subclasses, and give it the fixture `open_place`.

    It returns a function without arguments, whose result is an async context manager: entered, it connects and gives a
    `Place`; left, it closes. All that one test opens is the same place, empty at first. The tests are asynchronous and
    want pytest-asyncio in auto mode.
    """

    @pytest.fixture
    async def place(self, open_place: OpenPlace) -> AsyncIterator[Place]:
        async with open_place() as place:
            yield place

    @pytest.fixture
    def products(self, place: Place) -> Products:
        products: Products = place(Products)
        return products

    @pytest.fixture
    def capabilities(self, products: Products) -> frozenset[Capability]:
        """What the store can do. Without one, the contract asks that it is refused."""
        return products.capabilities
