"""What an engine has to do to hold a collection of vectors; everything else is `store.py`, once for all engines."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ...connections.base import ConnectionManager
from ...core.constants import Distance
from ...core.errors import DimensionMismatchError
from ..query import Predicate
from .contract import CollectionContract
from .fusion import fused
from .payload import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Asked: TypeAlias = Callable[[int | None], Awaitable[CollectionContract]]
"""What the store asks of its collection, given the dimension of what is to be written, as far as that is known."""


class Found(NamedTuple):
    """A row that was read.

    `score` is the engine's own measure: the cosine, the distance (L2) or the inner product; of a hybrid search the sum
    of reciprocal ranks. `vector` is there where it was asked for, as float32.
    """

    id: str
    document_id: str
    text: str
    metadata: dict[str, Any]
    embedded_at: str
    score: float = 0.0
    vector: "NDArray[np.float32] | None" = None


FOREIGN_ROW: Final = "the collection has a row that this library did not write: delete it, or use another collection"


def metadata_object(value: Any) -> dict[str, Any]:
    """TypeError where it is none."""
    if type(value) is not dict:
        raise TypeError("metadata is an object")
    return value


class VectorEngine(ABC):
    """One collection on one engine. The first write makes it, with its contract; until then reading finds nothing.

    Every operation checks the contract of a collection that is there, once it is known not to have changed from
    memory; one that changes anything does so as a write (`check(…, write=True)`). Vectors are float32 arrays, finite,
    and under cosine of length 1. Errors leave it as ours, `raise … from` the driver's. Any number of tasks, loops and
    (where the engine admits them) processes use a collection at once.
    """

    most: int = 10_000
    """The largest k, and number of candidates, that the engine answers."""

    settles: float = 0.0
    """Seconds for which another process may still go by a contract that was amended."""
    loading: bool = False
    """Whether a load of many rows is under way, after which `loaded` is called: an index can wait for that."""

    def __init__(self, manager: ConnectionManager[Any], collection: str, distance: Distance, asked: Asked) -> None:
        self.manager = manager
        self.collection = collection
        self.distance = distance
        self.asked = asked

    @abstractmethod
    async def open(self) -> CollectionContract | None:
        """Connect, and check the contract: EmbeddingMismatchError, DimensionMismatchError. None: no collection yet."""

    @abstractmethod
    async def upsert(self, rows: Sequence[Row], vectors: "NDArray[np.float32]", embedded_at: str) -> None:
        """Store rows, in the place of those with the same id; split to what the engine takes at a time, in order."""

    @abstractmethod
    async def replace(
        self,
        document_id: str,
        rows: Sequence[Row],
        vectors: "NDArray[np.float32]",
        embedded_at: str,
        *,
        only_present: bool = False,
    ) -> bool:
        """Store the rows of a document, then remove its others. With `only_present` nothing is done where there is no
        row of it, and the answer is False.
        """

    @abstractmethod
    async def re_embed(self, texts: Mapping[str, str], vectors: "NDArray[np.float32]", embedded_at: str) -> list[str]:
        """Give rows new vectors where their text still is the one that was embedded (by row id); return their ids."""

    @abstractmethod
    async def nearest(
        self, vector: "NDArray[np.float32]", k: int, predicate: Predicate, *, vectors: bool = False
    ) -> list[Found]:
        """The k nearest rows that meet the predicate, best first: k rows whenever k do."""

    @abstractmethod
    async def matching_text(self, text: str, k: int, predicate: Predicate) -> list[Found]:
        """The k best rows by full text, of those that meet the predicate and have any word of the text."""

    async def hybrid(
        self, vector: "NDArray[np.float32]", text: str, k: int, predicate: Predicate, *, candidates: int
    ) -> list[Found]:
        """Both searches, and one ranking of the two; an engine that does it in one call overrides this."""
        near = await self.nearest(vector, candidates, predicate)
        with_words = await self.matching_text(text, candidates, predicate)
        return fused([near, with_words], k)

    @abstractmethod
    async def retrieve(self, ids: Sequence[str], *, vectors: bool = False) -> list[Found]:
        """The rows with these ids, in this order, absent ones left out."""

    @abstractmethod
    def pages(
        self, predicate: Predicate, *, document_id: str | None = None, vectors: bool = False
    ) -> AsyncIterator[list[Found]]:
        """All rows that match, some hundreds at a time, each of those that stay there from begin to end once."""

    @abstractmethod
    async def count(self, predicate: Predicate) -> int: ...

    @abstractmethod
    async def delete(self, ids: Sequence[str]) -> int: ...

    @abstractmethod
    async def delete_where(self, predicate: Predicate) -> int:
        """Delete what matches; return how many went."""

    @abstractmethod
    async def delete_document(self, document_id: str) -> int: ...

    @abstractmethod
    async def update_metadata(self, predicate: Predicate, changes: Mapping[str, Any]) -> int:
        """Set top-level keys of the metadata of what matches; return how many rows did. `changes` is checked."""

    async def loaded(self) -> None:
        """Make what was put off while `loading`, which is over."""
        self.loading = False

    @abstractmethod
    async def drop(self) -> bool:
        """Delete the collection and its contract; False when there is none. It checks nothing.

        A staged collection that is `ready` to take its place goes first, or it would.
        """

    @abstractmethod
    async def contract(self) -> CollectionContract | None:
        """What the collection remembers, whatever is asked of it; None where there is none."""

    @abstractmethod
    async def amend(self, change: Callable[[CollectionContract], CollectionContract]) -> CollectionContract | None:
        """Change what the collection remembers, reading and writing it in one step; return it, or None where there is
        no collection. Writes that had begun are done when it returns, and those of this engine go by it from then on;
        those of other processes after `settles` seconds.
        """

    @abstractmethod
    async def replace_by(self, staged: str, run: str | None = None) -> None:
        """Give the name of this collection to the one that is called `staged` (`contract.staged_name`), and delete
        this one with its rows. Nothing has written to this one since its contract said `moving_to`.

        TransactionError where `run` is not the one that closed this one and the last that began, unless it has marked
        the staged one `ready` before. An engine that cannot look and replace in one step marks first and looks then:
        who begins another run marks that first and looks for `ready` then, so one of the two sees the other's mark.

        Whoever looks for the collection finds the one or the other, whole, and never none. Killed at any moment it is
        undone, or finished by a second call, or by whoever looks: where an engine has no such step, it marks the staged
        one `ready` first, and who finds nothing of this name, but a staged one that is ready, finishes the switch
        before anything else. The contract that remains has neither `replaces` nor `ready`.
        """


def check_dimension(collection: str, dimension: int | None, vector: "NDArray[np.float32]") -> None:
    """What an engine calls before it compares a query with its vectors."""
    if dimension != len(vector):
        raise DimensionMismatchError(
            f"the collection {collection!r} has vectors of {dimension} dimensions, "
            f"and the query has {len(vector)}: search with the embedding it was made with"
        )
