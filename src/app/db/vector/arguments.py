"""What a caller may ask a vector store for. Refused before anything is embedded, which may cost money."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ...core.errors import EmbeddingMismatchError, InvalidFilterError
from ..models.values import check_text
from ..query import Filter, Predicate, to_predicate
from .embeddings.model import EmbeddingModel


def check_search(
    k: Any, filter_criteria: Filter, *, candidates: Any = 1, min_score: Any = None, relevance: Any = 0
) -> Predicate:
    """Return the filter as a predicate; InvalidFilterError for what a search cannot be asked for."""
    for name, number in (("k", k), ("candidates", candidates)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InvalidFilterError(f"{name} is a number of documents, at least 1, and not {_told(number)}")
    if min_score is not None and not _is_number(min_score):
        raise InvalidFilterError(f"min_score is a similarity, from 0 to 1, and not {_told(min_score)}")
    if not _is_number(relevance) or not 0 <= relevance <= 1:
        raise InvalidFilterError(f"relevance lies between 0 and 1, and is not {_told(relevance)}")
    return to_predicate(filter_criteria)


def check_ids(ids: Iterable[Any]) -> list[str]:
    """The ids that a row can have, in their order; InvalidFilterError for what is no list of texts."""
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise InvalidFilterError(f"ids are a list of texts, and not a {type(ids).__name__}")
    given = list(ids)
    wrong = next((each for each in given if not isinstance(each, str)), None)
    if len(given) != sum(isinstance(each, str) for each in given):
        raise InvalidFilterError(f"ids are a list of texts, and one of these is a {type(wrong).__name__}")
    return [each for each in given if can_be_id(each)]


def can_be_id(text: str) -> bool:
    """False for what no store can keep, so no row has it."""
    try:
        check_text(text)
    except ValueError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _told(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def check_embedding(embedding: EmbeddingModel, embedding_type: str | None, store: str) -> None:
    """EmbeddingMismatchError where a call names another embedding than its store has."""
    if embedding_type is not None and embedding_type not in (embedding.provider, embedding.name):
        raise EmbeddingMismatchError(
            f"the store {store!r} embeds with {embedding.provider!r}, and not with {str(embedding_type)!r}: "
            "pass None, or name a store that uses it"
        )
