"""What a collection remembers of how it was made. Vectors of two models, or lengths, do not mix."""

from dataclasses import dataclass

from ...core.constants import Distance
from ...core.errors import DimensionMismatchError, EmbeddingMismatchError

_WAY_OUT = (
    "configure what it was made with, name another collection, or drop this one (`drop_collection`) and ingest again"
)


@dataclass(frozen=True, slots=True)
class CollectionContract:
    """`dimension` is None where a store does not know it yet; a collection always does.

    `provider` and `model` are None in a collection that a migration made: the first store that writes to it says them.
    """

    provider: str | None
    model: str | None
    dimension: int | None
    distance: Distance

    def check(self, asked: "CollectionContract", place: str) -> None:
        """Raise unless a store that asks for `asked` may use the collection at `place`, which is made by this one."""
        known = self.provider is not None and asked.provider is not None
        if known and (self.provider, self.model) != (asked.provider, asked.model):
            raise EmbeddingMismatchError(
                f"{place} is embedded with {self.embedding}, and this store uses {asked.embedding}: {_WAY_OUT}"
            )
        if asked.dimension is not None and self.dimension != asked.dimension:
            raise DimensionMismatchError(
                f"{place} has vectors of {self.dimension} dimensions, and this store makes {asked.dimension}: "
                f"{_WAY_OUT}"
            )
        if self.distance != asked.distance:
            raise EmbeddingMismatchError(
                f"{place} measures by {self.distance}, and this store by {asked.distance}: {_WAY_OUT}"
            )

    @property
    def embedding(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else str(self.provider)
