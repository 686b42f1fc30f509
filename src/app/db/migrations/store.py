"""What a document, key-value or vector store has to do to be migrated."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from ...connections.base import ConnectionManager
from ...core.registry import Registry
from .ledger import Entry
from .lock import LockStore
from .steps import Step

Handler: TypeAlias = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Found:
    """A document as the store has it: batches go by `id`, and `document` has its top-level fields without it."""

    id: Any
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replacement:
    """What becomes of one document. All values are the store's own, and can be kept in an entry of the ledger."""

    id: Any
    expected: Mapping[str, Any]
    """The fields that will change, as they were read; one that was not there is left out."""
    values: Mapping[str, Any]
    removed: tuple[str, ...] = ()


class MigrationStore(LockStore):
    """One connection. Every step in `handlers` leaves what is done already as it is, so that it can be run again.

    Errors leave it as ours, `raise … from` the driver's.
    """

    def __init__(self, manager: ConnectionManager[Any]) -> None:
        self.manager = manager

    async def prepare(self) -> None:
        """Make the place of ledger and lock, by any number of processes at once. Reading them needs no place."""

    @property
    @abstractmethod
    def handlers(self) -> Mapping[type[Step], Handler]:
        """How each kind of step is done, but for conversions; what is not in it the store cannot do."""

    converts: ClassVar[bool] = True
    """Whether it has documents that can be converted."""

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
        """How many documents there are, nearly: for progress only."""

    @abstractmethod
    async def read_batch(self, collection: str, after: Any, limit: int) -> Sequence[Found]:
        """The next documents in the order of their ids; `after` None means from the beginning.

        A document that is there from beginning to end of a conversion is met at least once, and need not be met only
        once. The empty batch is the end.
        """

    @abstractmethod
    async def read_some(self, collection: str, ids: Sequence[Any]) -> Sequence[Found]:
        """Those of the documents that are still there."""

    @abstractmethod
    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> None:
        """Change each document whose fields are still as expected, in one atomic step for each. Others are left."""

    async def converted(self, collection: str) -> None:
        """Called when a conversion has come to its end, before that is written down: for what hangs on the values."""


MigrationStoreRegistry: Registry[type[MigrationStore]] = Registry(
    "migration store",
    {},
    entry_point_group="manystore.migrations",
)
