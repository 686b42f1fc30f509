"""One ranking of several, by reciprocal ranks (Cormack, Clarke and Büttcher, SIGIR 2009)."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .engine import Found

RANK_CONSTANT: Final = 60
"""As in the paper: how little the first ranks weigh more than the next."""


def fused(rankings: "Sequence[Sequence[Found]]", k: int) -> "list[Found]":
    """The k best of all rankings together; ties in the order of the first. The score is the sum of 1 / (60 + rank)."""
    scores: dict[str, float] = {}
    rows: dict[str, Found] = {}
    for ranking in rankings:
        for rank, found in enumerate(ranking, start=1):
            scores[found.id] = scores.get(found.id, 0.0) + 1 / (RANK_CONSTANT + rank)
            rows.setdefault(found.id, found)
    best = sorted(scores, key=lambda row_id: -scores[row_id])[:k]
    return [rows[row_id]._replace(score=scores[row_id]) for row_id in best]
