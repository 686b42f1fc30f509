"""What every side stores and is asked: documents with vectors made before, and questions with their answers."""

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from langchain_core.documents import Document
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

BUCKETS = 100
"""A filter on one of them selects one row in a hundred."""
K = 10


@dataclass(frozen=True)
class Corpus:
    """`clustered` rows lie around 200 centres, as texts do; `hard` ones are random: all are nearly as far."""

    kind: str
    vectors: Vectors
    queries: Vectors

    @cached_property
    def texts(self) -> list[str]:
        return [
            f"{self.kind} passage number {n}, about topic {n % 37} and nothing else of interest"
            for n in range(len(self.vectors))
        ]

    @cached_property
    def metadatas(self) -> list[dict[str, Any]]:
        return [
            {"bucket": n % BUCKETS, "source": f"file-{n // 50}.md", "page": n % 50, "title": f"Chapter {n % 9}"}
            for n in range(len(self.vectors))
        ]

    @cached_property
    def ids(self) -> list[str]:
        return [f"{self.kind}-{n}" for n in range(len(self.vectors))]

    @cached_property
    def uuids(self) -> list[str]:
        """For sides that take no other ids."""
        return [str(uuid.uuid5(uuid.NAMESPACE_URL, each)) for each in self.ids]

    @cached_property
    def documents(self) -> list[Document]:
        given = zip(self.ids, self.texts, self.metadatas, strict=True)
        return [Document(id=row_id, page_content=text, metadata=metadata) for row_id, text, metadata in given]

    def questions(self, number: int, start: int = 0) -> "Corpus":
        """The same with some of the questions only."""
        less = Corpus(self.kind, self.vectors, self.queries[start : start + number])
        vars(less).update({name: vars(self)[name] for name in ("texts", "metadatas", "ids", "uuids", "documents")})
        return less

    def prepare(self) -> None:
        """Make everything, so that no measurement has it in it."""
        _ = self.uuids, self.documents

    def answers(self, bucket: int | None = None) -> list[set[str]]:
        """The ten nearest by cosine, compared with all."""
        rows = np.arange(len(self.vectors))
        if bucket is not None:
            rows = rows[rows % BUCKETS == bucket]
        units = self.vectors[rows] / np.linalg.norm(self.vectors[rows], axis=1, keepdims=True)
        near = np.argsort(-(self.queries @ units.T), axis=1)[:, :K]
        return [{f"{self.kind}-{rows[n]}" for n in each} for each in near]


def corpus(kind: str, number: int, dimension: int, queries: int = 100, *, seed: int = 1) -> Corpus:
    """The same wherever it is made."""
    random = np.random.default_rng(seed)
    if kind == "hard":
        made = Corpus(kind, _normal(random, number, dimension), _normal(random, queries, dimension))
    else:
        centres = _normal(random, 200, dimension)
        around = [centres[random.integers(0, 200, n)] + 0.5 * _normal(random, n, dimension) for n in (number, queries)]
        made = Corpus(kind, around[0], around[1])
    made.prepare()
    return made


def _normal(random: np.random.Generator, number: int, dimension: int) -> Vectors:
    return random.standard_normal((number, dimension)).astype(np.float32)
