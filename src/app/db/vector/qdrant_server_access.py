"""How a collection on a Qdrant server is come by: found and checked before each use, and made by the first write."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from qdrant_client import AsyncQdrantClient, models

from ...core.errors import AppError, OutcomeUnknownError, StoreUnavailableError
from .contract import CollectionContract
from .engine import Asked
from .qdrant_server_collections import NoCollectionError, ServerCollection, ServerCollections
from .qdrant_server_rows import number_field

R = TypeVar("R")

_LOOK_AGAIN: Final = 1.0
"""Seconds for which reading goes by what was found: another process may have made the collection anew."""
_ATTEMPTS: Final = 3
MAX_INDEXES: Final = 32
_MARGIN: Final = 1.1

Request = Callable[[AsyncQdrantClient, str], Awaitable[models.UpdateResult | list[models.UpdateResult]]]
"""A write to the collection of that name."""


class CollectionAccess:
    def __init__(self, collections: ServerCollections, name: str, asked: Asked, timeout: float) -> None:
        self.settles = _LOOK_AGAIN + 2 * timeout * _MARGIN
        """Seconds in which any process that goes by a contract is done with the request that it goes by it for."""
        self._tried: set[str] = set()
        """Fields that need no further thought of an index."""
        self._collections = collections
        self._name = name
        self._asked = asked
        self._there: ServerCollection | None = None
        self._worded: ServerCollection | None = None
        """What was found, when its words were indexed after that."""
        self._looked = 0.0
        self._writing: set[object] = set()

    async def found(self, *, again: bool = False) -> ServerCollection | None:
        """The collection, its contract checked. It is not remembered that there is none, or one that another is about
        to replace, or one that was made otherwise.
        """
        asked = await self._asked(None)
        known = self._there is not None and self._there.contract.moving_to is None
        if again or not known or time.monotonic() - self._looked > _LOOK_AGAIN:
            await self.look()
        if self._there is not None:
            try:
                self._there.contract.check(asked, self._place)
            except AppError:
                self.forget()
                raise
        return self._there

    async def look(self) -> ServerCollection | None:
        """What is there now, whatever is asked of it."""
        self._looked = time.monotonic()  # before, so that of many callers one looks
        self._there = await self._collections.find(self._name)
        if self._there is None:
            self._tried.clear()
        return self._there

    async def read(self, work: Callable[[ServerCollection], Awaitable[R]], absent: R) -> R:
        """Run a function that only reads; again where the collection was switched or dropped meanwhile."""
        there = await self.found()
        for _ in range(_ATTEMPTS):
            if there is None:
                return absent
            read = there
            try:
                result = await work(read)
            except NoCollectionError:
                there = await self.found(again=True)
                continue
            if read.contract.moving_to is None:
                return result
            there = await self.found()  # another may have taken its place before it was asked
            if there is not None and there.contract == read.contract:
                return result
        raise StoreUnavailableError(f"{self._place} changes faster than it can be read: try again")

    async def write(self, request: Request, dimension: int | None = None, *, make: bool = False) -> bool:
        """Send one request that writes, the contract checked just before; False where there is no collection."""
        writing = object()
        self._writing.add(writing)
        try:
            for _ in range(_ATTEMPTS):
                try:
                    there = await self._to_write(dimension, make=make)
                    if there is None:
                        if make:
                            continue  # dropped as soon as it was made
                        return False
                    name = there.name
                    done = await self._collections.write(lambda client, n=name: request(client, n))  # type: ignore[misc]
                except NoCollectionError:
                    continue  # not written: it is gone, or another is there
                self._check(done if isinstance(done, list) else [done])
                return True
        finally:
            self._writing.discard(writing)
        if make:
            raise StoreUnavailableError(f"{self._place} is dropped again and again while it is written to")
        return False

    async def amend(self, change: Callable[[CollectionContract], CollectionContract]) -> CollectionContract | None:
        there = await self.look()
        if there is None:
            return None
        changed = change(there.contract)
        try:
            await self._collections.amend(there, changed)
        except NoCollectionError:  # dropped meanwhile
            return None
        finally:
            self.forget()
        begun = set(self._writing)
        while begun & self._writing:  # noqa: ASYNC110 - they may be of other loops
            await asyncio.sleep(0.01)
        return changed

    def forget(self) -> None:
        self._there = None

    async def index_numbers(self, there: ServerCollection, paths: frozenset[str]) -> None:
        """Index numbers that are asked for by order, once. Without an index, past MAX_INDEXES or where it is refused
        to who may only read, they are found all the same: by reading.
        """
        for field in sorted({number_field(path) for path in paths} - there.indexed - self._tried):
            self._tried.add(field)
            if len(there.indexed | self._tried) <= MAX_INDEXES:
                kind = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True)
                with suppress(AppError):
                    await self._collections.index(there, field, kind)

    async def index_words(self, there: ServerCollection) -> None:
        """On the first search by words; from then on the server keeps it, until the collection is made anew."""
        if "text" in there.indexed or self._worded is there:
            return
        await self._collections.needs_words()
        kind = models.TextIndexParams(type=models.TextIndexType.TEXT, lowercase=True, ascii_folding=True, scoring=True)
        await self._collections.index(there, "text", kind)
        self._worded = there

    async def _to_write(self, dimension: int | None, *, make: bool) -> ServerCollection | None:
        asked = await self._asked(dimension)
        there = await self.look()
        if there is None and make:
            await self._collections.make(self._name, asked)
            there = await self.look()
        if there is None:
            return None
        there.contract.check(asked, self._place, write=True)
        if there.contract.provider is None and asked.provider is not None and dimension is not None:
            await self._collections.claim(there, asked)
            there = await self.look()
            if there is None:
                return None
            there.contract.check(asked, self._place, write=True)
        if dimension is not None:
            await self._collections.index_terms(there)
        return there

    @property
    def _place(self) -> str:
        return f"the collection {self._name!r} of {self._collections.server}"

    def _check(self, results: list[models.UpdateResult]) -> None:
        if any(each.status is not models.UpdateStatus.COMPLETED for each in results):
            raise OutcomeUnknownError(
                f"{self._collections.server} took a write and did not say in time that it was applied"
            )
