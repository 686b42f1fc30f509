"""What a document, key-value or vector store has to do to be migrated."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self, TypeAlias

from ...connections.base import ConnectionManager
from ...core.constants import ConnectionType
from ...core.errors import UnsupportedOperationError
from ...core.registry import Registry
from ..backends._json import encode_json
from ..backends.base import CollectionSchema
from .ledger import Entry
from .lock import LockStore
from .steps import Conversion, DocumentChange, Step

Handler: TypeAlias = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Found:
    """A document: batches go by `id`, and `document` has its top-level fields as Python values."""

    id: Any
    document: Mapping[str, Any]
    stored: Any = None
    """As the store has it, for those that need it to make a `Replacement`."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What becomes of one document. All values are such that the store can keep them in an entry of the ledger."""

    id: Any
    expected: Mapping[str, Any]
    """The fields that will change, as they were read; one that was not there is left out."""
    values: Mapping[str, Any]
    removed: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Pairs instead of objects, since not every store takes every name for a key."""
        return {
            "id": self.id,
            "expected": [[name, value] for name, value in self.expected.items()],
            "values": [[name, value] for name, value in self.values.items()],
            "removed": list(self.removed),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        values = dict(document["values"])
        return cls(document["id"], dict(document["expected"]), values, tuple(document["removed"]))


class MigrationStore(LockStore):
    """One connection. Every step in `handlers` leaves what is done already as it is, so that it can be run again.

    Errors leave it as ours, `raise … from` the driver's.
    """

    def __init__(self, manager: ConnectionManager[Any], schemas: Mapping[str, CollectionSchema] | None = None) -> None:
        """`schemas` are the collections of the repositories that live on the connection, by name."""
        self.manager = manager
        self.schemas = schemas or {}

    async def prepare(self) -> None:
        """Make the place of ledger and lock, by any number of processes at once. Reading them needs no place."""

    @property
    @abstractmethod
    def handlers(self) -> Mapping[type[Step], Handler]:
        """How each kind of step is done, but for conversions; what is not in it the store cannot do."""

    converts: ClassVar[bool] = True
    """Whether it has documents that can be converted."""

    def check(self, step: Step) -> None:
        """UnsupportedOperationError for what the store cannot do; asked of every step before anything is done."""
        if not (self.converts if isinstance(step, Conversion) else type(step) in self.handlers):
            raise UnsupportedOperationError(
                f"{self.manager.connection_type} cannot {step}: it is for another connection"
            )

    @abstractmethod
    async def read_entries(self) -> list[Entry]:
        """In any order; none where nothing was ever migrated."""

    @abstractmethod
    async def write_entry(self, entry: Entry) -> None:
        """Put it in the place of the one of that name, in one atomic step, and durably."""

    @abstractmethod
    async def delete_entry(self, name: str) -> None: ...

    @abstractmethod
    async def count(self, collection: str) -> int:
        """How many documents there are, nearly: for the progress of a conversion, of which a batch has been read."""

    @abstractmethod
    async def read_batch(self, collection: str, after: Any, limit: int) -> Sequence[Found]:
        """The next documents behind the id `after`; None means from the beginning. The empty batch is the end.

        A collection that is not there has none.

        A document that is there from beginning to end of a conversion is met once, also where processes take turns.
        """

    async def is_empty(self, collection: str) -> bool:
        """Whether it has no document, or is not there at all."""
        return not await self.read_batch(collection, None, 1)

    def replacement(self, collection: str, found: Found, change: DocumentChange) -> Replacement:
        """What to write for a change. This one is for stores that keep the values as they are."""
        del collection
        expected = {name: found.document[name] for name in change.fields if name in found.document}
        return Replacement(found.id, expected, change.values, change.removed)

    @abstractmethod
    async def read_some(self, collection: str, ids: Sequence[Any]) -> Sequence[Found]:
        """Those of the documents that are still there, in any order."""

    def has(self, found: Found, replacement: Replacement) -> bool:
        """Whether the document has the new values, to the type. This one is for what JSON with our tags tells apart."""
        document = found.document
        same = all(name in document and _same(document[name], value) for name, value in replacement.values.items())
        return same and not any(name in document for name in replacement.removed)

    @abstractmethod
    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> Sequence[Found]:
        """Change each document whose fields are still as expected, in one atomic step for each.

        Those that are there and that others wrote meanwhile come back as they are now. What has the new values
        already, or is gone, is done with.
        """

    async def converted(self, collection: str) -> None:
        """Called when a conversion has come to its end, before that is written down: for what hangs on the values.

        It is called again where it was interrupted, also behind its end.
        """


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or one != other:
        return False
    return not isinstance(one, list | dict | float | Decimal) or encode_json(one) == encode_json(other)


MakeStore: TypeAlias = Callable[[ConnectionManager[Any], Mapping[str, CollectionSchema]], MigrationStore]

MigrationStoreRegistry: Registry[MakeStore] = Registry(
    "migration store",
    {
        ConnectionType.CHROMADB: ".db.migrations.stores.chromadb:migration_store",
        ConnectionType.MONGODB: ".db.migrations.stores.mongodb:MongoDBMigrationStore",
        ConnectionType.QDRANT: ".db.migrations.stores.qdrant:migration_store",
        ConnectionType.REDIS: ".db.migrations.stores.redis:RedisMigrationStore",
    },
    entry_point_group="manystore.migrations",
)
