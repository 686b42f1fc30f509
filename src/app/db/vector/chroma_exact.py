"""The nearest rows of all that are given, compared one by one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...core.constants import Distance
from .engine import Found

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Best:
    def __init__(self, distance: Distance, query: "NDArray[np.float32]", k: int) -> None:
        self._distance = distance
        self._query = query
        self._k = k
        self._best: list[Found] = []

    def add(self, page: Sequence[Found]) -> None:
        """Rows with their vectors."""
        import numpy as np  # noqa: PLC0415 - loaded by what made the vectors

        vectors = np.stack([each.vector for each in page if each.vector is not None]).astype(np.float64)
        query = self._query.astype(np.float64)
        far = self._distance == Distance.L2
        measures = np.linalg.norm(vectors - query, axis=1) if far else vectors @ query
        scored = [each._replace(score=float(measure)) for each, measure in zip(page, measures, strict=True)]
        order = sorted([*self._best, *scored], key=lambda each: each.score if far else -each.score)
        self._best = order[: self._k]

    def found(self, *, vectors: bool) -> list[Found]:
        return self._best if vectors else [each._replace(vector=None) for each in self._best]
