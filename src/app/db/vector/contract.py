"""What a collection remembers of how it was made. Vectors of two models, or lengths, do not mix."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any, Final, Self

from ...core.constants import Distance
from ...core.errors import DimensionMismatchError, EmbeddingMismatchError, TransactionError

STAGED: Final = "__reembed"
"""How the names of collections end that are made to take another's place. Users cannot name one so."""
ALONE: Final = "-"
"""Who makes a collection `ready` that is no re-embedding."""
_ASKER: Final = ("store", "entry")
_LONGEST: Final = 49  # PostgreSQL's identifiers have 63 bytes, and the longest name of an index is 14 more


def staged_name(collection: str) -> str:
    """The collection that is made beside this one while it is re-embedded."""
    if len(collection) + len(STAGED) > _LONGEST:
        digest = hashlib.sha256(collection.encode()).hexdigest()[:8]
        collection = f"{collection[: _LONGEST - len(STAGED) - len(digest) - 1]}_{digest}"
    return collection + STAGED


@dataclass(frozen=True, slots=True)
class CollectionContract:
    """`dimension` is None where a store does not know it yet; a collection always does.

    `provider` and `model` are None in a collection that a migration made: the first store that writes to it says them.
    """

    provider: str | None
    model: str | None
    dimension: int | None
    distance: Distance
    chunker: str | None = None
    """The rules by which ingested texts were cut, `split.RULES`; None where nothing was ingested."""
    replaces: str | None = None
    """Of a staged collection: the one whose place it is to take."""
    ready: str | None = None
    """Of a staged collection: the run that completed it. Where none has the other's name, or one that this very run has
    closed, `replace_by` is from then on only ever finished, never undone.
    """
    moving_to: str | None = None
    """The embedding of the collection that is about to take the place of this one, which takes no more writes. Nobody
    keeps such a contract in memory, so that all see at once when the other has taken its place.
    """
    closed_by: str | None = None
    """The run that said `moving_to`."""
    run: str | None = None
    """The re-embedding that began last: no other may replace the collection."""
    store: str | None = field(default=None, compare=False)
    """Who asks, for messages: the names of the store and of its embedding in the configuration. Not remembered."""
    entry: str | None = field(default=None, compare=False)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """KeyError, TypeError or ValueError where it is none. Keys of other versions are ignored."""
        known = {each.name for each in fields(cls)} - {*_ASKER}
        given = {key: value for key, value in stored.items() if key in known}
        return cls(**{**given, "distance": Distance(stored["distance"])})

    def to_json(self) -> dict[str, Any]:
        """What is to be remembered, for `json.dumps`."""
        always = ("provider", "model", "dimension", "distance")
        known = asdict(self)
        return {key: value for key, value in known.items() if key in always or (value and key not in _ASKER)}

    def check(self, asked: "CollectionContract", place: str, *, write: bool = False) -> None:
        """Raise unless a store that asks for `asked` may use the collection at `place`, which is made by this one.

        `write` says that it is to be changed in any way, deletions too.
        """
        known = self.provider is not None and asked.provider is not None
        if known and (self.provider, self.model) != (asked.provider, asked.model):
            raise EmbeddingMismatchError(
                f"{place} is embedded with {self.embedding}, and this store uses {asked.embedding}: {asked._way_out()}"  # noqa: SLF001
            )
        if asked.dimension is not None and self.dimension != asked.dimension:
            raise DimensionMismatchError(
                f"{place} has vectors of {self.dimension} dimensions, and this store makes {asked.dimension}: "
                f"{asked._way_out()}"  # noqa: SLF001
            )
        if self.distance != asked.distance:
            raise EmbeddingMismatchError(
                f"{place} measures by {self.distance}, and this store by {asked.distance}: {asked._way_out()}"  # noqa: SLF001
            )
        if write and self.moving_to is not None:
            raise EmbeddingMismatchError(
                f"{place} is being re-embedded with {self.moving_to}, and takes no writes until that is done: write "
                f"again then, with that embedding (`{reembed_command(asked.store, None)}` ends one that was stopped)"
            )

    def check_run(self, run: str | None, place: str) -> None:
        """Raise unless the collection at `place` may be replaced by what this run of a re-embedding has made."""
        if (self.run, self.closed_by) != (run, run):
            raise TransactionError(
                f"{place}: another re-embedding has begun meanwhile, so the collection is not replaced: "
                "let that one end, and run this one again"
            )

    @property
    def embedding(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else str(self.provider)

    @property
    def summary(self) -> str:
        """All that vectors must have in common to be compared."""
        return f"{self.embedding}, {self.dimension} dimensions, {self.distance}"

    def _way_out(self) -> str:
        return (
            "configure for the store what the collection was made with, or embed the collection anew: "
            f"`{reembed_command(self.store, self.entry)}`"
        )


contract_of = lru_cache(maxsize=1_000)(CollectionContract)
"""Makes one, for every operation that asks for it."""


def decided(staged: CollectionContract, old: CollectionContract | None, run: str | None) -> bool:
    """That the staged collection takes the old one's place: whoever comes to see it finishes that."""
    return old is not None and run is not None and staged.ready == old.closed_by == run


def reembed_command(store: str | None, entry: str | None) -> str:
    """The command that embeds a store's collection anew, with an entry under `embeddings`."""
    return f"manystore vectors reembed {shlex.quote(store or 'STORE')} --to {shlex.quote(entry or 'EMBEDDING')}"
