"""Rows of Chroma as documents of a migration, and what their metadata can hold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ....core.errors import InvalidChangeError
from ...models.values import check_float, check_integer, check_text
from ..store import Found, Replacement
from ._vectors import Fate, fate

BATCH: Final = 100
"""Rows in one update: inside this process it holds the interpreter's lock for 30 ms."""


class Changes:
    """One update of those that are as expected, and what others wrote meanwhile."""

    def __init__(self, found: Sequence[Found], replacements: Sequence[Replacement]) -> None:
        documents = {each.id: each for each in found}
        self.ids: list[str] = []
        self.metadatas: list[dict[str, Any]] = []
        self.overtaken: list[Found] = []
        for each in replacements:
            there = documents.get(each.id)
            match there and fate(there.document, each):
                case Fate.WRITE:
                    self.ids.append(each.id)
                    self.metadatas.append({**dict.fromkeys(each.removed), **each.values})  # None removes a field
                case Fate.OVERTAKEN if there is not None:
                    self.overtaken.append(there)


def found_in(rows: Mapping[str, Any]) -> list[Found]:
    return [
        Found(row_id, dict(metadata or {})) for row_id, metadata in zip(rows["ids"], rows["metadatas"], strict=True)
    ]


def check_value(name: str, value: Any) -> None:
    """InvalidChangeError for what Chroma would refuse or drop."""
    try:
        match value:
            case bool():
                return
            case str():
                check_text(value)
                return
            case int():
                check_integer(value)
                return
            case float():
                check_float(value)
                return
            case [first, *_] if isinstance(value, list) and not isinstance(first, list):
                if len({type(each) for each in value}) == 1:
                    for each in value:
                        check_value(name, each)
                    return
    except ValueError as error:
        raise InvalidChangeError(f"{name}: {error}") from None
    raise InvalidChangeError(
        f"{name}: Chroma keeps text, numbers, booleans and lists of one of these that are not empty, "
        f"and no {type(value).__name__} like this"
    )


def parts(replacements: Sequence[Replacement]) -> Iterator[Sequence[Replacement]]:
    return (replacements[start : start + BATCH] for start in range(0, len(replacements), BATCH))
