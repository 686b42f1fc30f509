"""What the vector stores share: what they can do, what is read of a row, and what an entry may hold."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, ClassVar

from ....core.constants import Distance
from ....core.errors import MigrationError, UnsupportedOperationError
from ...vector.contract import CollectionContract
from ..steps import (
    CreateCollection,
    CreatePayloadIndex,
    CreateVectorCollection,
    DocumentChange,
    DropCollection,
    DropPayloadIndex,
    Run,
    Step,
)
from ..store import Found, Handler, MigrationStore, Replacement
from ._generations import LOCK

DESCRIPTION = "manystore"
"""Under this key a collection on a server has its contract, as JSON text."""

_MISSING = object()


class NoCollectionError(MigrationError):
    """There is no collection of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no collection {name!r}: create it in a migration before")


class VectorMigrationStore(MigrationStore):
    """A document is what a row has beside vector and text: its metadata where a vector store of ours wrote it, and
    else its payload.
    """

    index_kinds: ClassVar[frozenset[str]]

    @property
    def handlers(self) -> Mapping[type[Step], Handler]:
        return {
            CreateVectorCollection: self.create_collection,
            DropCollection: self.drop_collection,
            CreatePayloadIndex: self.create_index,
            DropPayloadIndex: self.drop_index,
            Run: self.run,
        }

    def check(self, step: Step) -> None:
        store = self.manager.connection_type
        match step:
            case CreateCollection():
                raise UnsupportedOperationError(
                    f"{store} cannot {step}: its collections have a dimension; use create_vector_collection"
                )
            case CreatePayloadIndex(kind=kind) if kind not in self.index_kinds:
                known = ", ".join(sorted(self.index_kinds))
                raise UnsupportedOperationError(f"{store} cannot {step}: it indexes {known}")
        super().check(step)
        name: str | None = getattr(step, "collection", None)
        if name is None:
            return
        self.check_name(name)
        if name.startswith(LOCK):
            raise UnsupportedOperationError(f"{name} is called like the lock of migrations: give it another name")

    @abstractmethod
    def check_name(self, name: str) -> None:
        """Refuse what can be no name of a collection."""

    @abstractmethod
    async def create_collection(self, step: CreateVectorCollection) -> None:
        """EmbeddingMismatchError or DimensionMismatchError where there is one that was made otherwise."""

    @abstractmethod
    async def drop_collection(self, step: DropCollection) -> None: ...

    @abstractmethod
    async def create_index(self, step: CreatePayloadIndex) -> None: ...

    @abstractmethod
    async def drop_index(self, step: DropPayloadIndex) -> None: ...

    async def run(self, step: Run) -> None:
        await step.work(self.manager)

    @abstractmethod
    def check_values(self, values: Mapping[str, Any]) -> None:
        """InvalidChangeError for what would not come back as it went in."""

    def has(self, found: Found, replacement: Replacement) -> bool:
        return fate(found.document, replacement) is Fate.DONE

    def replacement(self, collection: str, found: Found, change: DocumentChange) -> Replacement:
        self.check_values(change.values)
        return super().replacement(collection, found, change)


def contract_of(step: CreateVectorCollection) -> CollectionContract:
    """What is known of a collection before anything is embedded."""
    return CollectionContract(None, None, step.dimension, Distance(step.distance))


class Fate(Enum):
    WRITE = auto()
    DONE = auto()
    OVERTAKEN = auto()


def fate(document: Mapping[str, Any], replacement: Replacement) -> Fate:
    """What is to be done with a document as it is now; OVERTAKEN where another has written meanwhile."""
    removed = dict.fromkeys(replacement.removed, _MISSING)
    for goal, outcome in (({**removed, **replacement.values}, Fate.DONE), (replacement.expected, Fate.WRITE)):
        if all(
            is_same(document.get(name, _MISSING), goal.get(name, _MISSING))
            for name in (*replacement.values, *replacement.removed)
        ):
            return outcome
    return Fate.OVERTAKEN


def is_same(stored: Any, value: Any) -> bool:
    """Equal, to the kind: True is no 1. Qdrant, and Chroma over HTTP, give back one float of ten with its last digit
    off by one, so a float equals its neighbours.
    """
    match stored, value:
        case float(), float():
            return abs(stored - value) <= 2 * math.ulp(value)
        case list(), list():
            return len(stored) == len(value) and all(map(is_same, stored, value))
        case dict(), dict():
            return stored.keys() == value.keys() and all(is_same(stored[name], value[name]) for name in value)
    return type(stored) is type(value) and bool(stored == value)
