"""Rows of Chroma as documents of a migration, and what their metadata can hold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ....core.errors import InvalidChangeError
from ...models.values import check_float, check_integer, check_text
from ..store import Found, Replacement
from ._vectors import as_stored, still_expected

BATCH: Final = 100
"""Rows in one update: inside this process it holds the interpreter's lock for 30 ms."""


def changes(rows: Mapping[str, Any], replacements: Sequence[Replacement]) -> tuple[list[str], list[dict[str, Any]]]:
    """Ids and metadata for one update of those that are still as expected: None removes a field."""
    documents = {each.id: each.document for each in found_in(rows)}
    chosen = [each for each in replacements if each.id in documents and still_expected(documents[each.id], each)]
    return [each.id for each in chosen], [{**dict.fromkeys(each.removed), **each.values} for each in chosen]


def found_in(rows: Mapping[str, Any]) -> Iterator[Found]:
    for row_id, metadata in zip(rows["ids"], rows["metadatas"], strict=True):
        yield Found(row_id, as_stored(metadata or {}))


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
