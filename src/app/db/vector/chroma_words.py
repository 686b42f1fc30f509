"""Ranks texts by words (BM25: Robertson and Zaragoza, 2009), for an engine that only says which texts have a word."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from .engine import Found

MOST_WORDS: Final = 32
MOST_TEXTS: Final = 1_000
"""How many texts are ranked; of more, those with the most and rarest words."""

_K1: Final = 1.2
_B: Final = 0.75
_WORD: Final = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The different words of a question, the first MOST_WORDS of them."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))[:MOST_WORDS]


def pattern(word: str) -> dict[str, Any]:
    """As Chroma's `where_document`."""
    return {"$regex": rf"(?i)\b{re.escape(word)}\b"}


class Ranking:
    def __init__(self, rows: int) -> None:
        """`rows` is how many there are in all, which says how rare a word is."""
        self._rows = rows
        self._weights: dict[str, float] = {}
        self._promise: dict[str, float] = {}
        self._texts: list[tuple[Found, list[str]]] = []

    def add(self, word: str, ids: Sequence[str]) -> None:
        weight = math.log(1 + (self._rows - len(ids) + 0.5) / (len(ids) + 0.5)) if len(ids) <= self._rows else 0.0
        self._weights[word] = weight
        for each in ids:
            self._promise[each] = self._promise.get(each, 0.0) + weight

    def candidates(self) -> list[str]:
        """The texts with the most and rarest words first."""
        return sorted(self._promise, key=lambda each: (-self._promise[each], each))

    def read(self, found: Sequence[Found]) -> int:
        """Have texts ranked; return how many there are by now."""
        self._texts += [(each, _WORD.findall(each.text.lower())) for each in found]
        return len(self._texts)

    def best(self, k: int) -> list[Found]:
        if not self._texts:
            return []
        usual = sum(len(words) for _, words in self._texts) / len(self._texts)
        scored = [each._replace(score=self._score(words, usual)) for each, words in self._texts]
        return sorted(scored, key=lambda each: (-each.score, each.id))[:k]

    def _score(self, words: Sequence[str], usual: float) -> float:
        length = _K1 * (1 - _B + _B * len(words) / usual)
        counts = ((weight, words.count(word)) for word, weight in self._weights.items())
        return sum(weight * count * (_K1 + 1) / (count + length) for weight, count in counts if count)
