"""What the vector stores share: what they can do, what is read of a row, and what an entry may hold."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from ....core.constants import Distance
from ....core.errors import MigrationError, UnsupportedOperationError
from ...vector.contract import CollectionContract
from ..ledger import LEDGER, Entry
from ..steps import (
    CreateCollection,
    CreatePayloadIndex,
    CreateVectorCollection,
    DropCollection,
    DropPayloadIndex,
    Run,
    Step,
)
from ..store import Handler, MigrationStore, Replacement
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
        if name.startswith((LEDGER, LOCK)):
            raise UnsupportedOperationError(f"{name} is where the migrations are remembered: give it another name")

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

    def to_document(self, entry: Entry) -> dict[str, Any]:
        """What the ledger keeps: JSON, since the values of a conversion under way are checked before it begins."""
        for each in entry.pending or ():
            self.check_values(dict(each["values"]))
        return entry.to_document()


def contract_of(step: CreateVectorCollection) -> CollectionContract:
    """What is known of a collection before anything is embedded."""
    return CollectionContract(None, None, step.dimension, Distance(step.distance))


def still_expected(document: Mapping[str, Any], replacement: Replacement) -> bool:
    """Whether the fields that are to change are as they were read, and those that were not there are not."""
    return all(
        document.get(name, _MISSING) == replacement.expected.get(name, _MISSING)
        for name in (*replacement.values, *replacement.removed)
    )


class StoredFloat(float):
    """As Qdrant, and Chroma over HTTP, give it back: one in ten is off by one in its last place."""

    def __eq__(self, other: object) -> bool:
        near = isinstance(other, float) and abs(float(self) - other) <= 2 * math.ulp(other)
        return near or float.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return float.__hash__(self)


def as_stored(value: Any) -> Any:
    """A value that was read, in which floats equal what was written."""
    match value:
        case float():
            return StoredFloat(value)
        case list():
            return [as_stored(each) for each in value]
        case dict():
            return {name: as_stored(each) for name, each in value.items()}
    return value
