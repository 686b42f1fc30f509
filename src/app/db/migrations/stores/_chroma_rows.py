"""Rows of Chroma as documents of a migration, and what their metadata can hold.

What our vector stores wrote has its metadata as JSON text, with keys beside it that follow from it; any other row's
metadata is the document itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ....core.errors import InvalidChangeError
from ...models.values import check_float, check_integer, check_text
from ...vector.chroma_rows import DOCUMENT, ROW, changed_keys, own_id, read_rows, row_metadata
from ...vector.payload import make_row
from ..store import Found, Replacement
from ._qdrant_payload import changed
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
                case Fate.WRITE if there is not None:
                    self.ids.append(each.id)
                    self.metadatas.append(_changes(there, each))
                case Fate.OVERTAKEN if there is not None:
                    self.overtaken.append(there)


def _changes(found: Found, replacement: Replacement) -> dict[str, Any]:
    """What to write; None removes a field."""
    if found.stored is None:
        return {**dict.fromkeys(replacement.removed), **replacement.values}
    metadata = changed(found.document, replacement)
    row_id = own_id(found.id)
    document_id = metadata.get("document_id") or found.stored.get(DOCUMENT, row_id)
    if not isinstance(document_id, str):
        raise InvalidChangeError(f"document_id is text, and not a {type(document_id).__name__}")
    row = make_row(row_id, document_id, "", metadata)  # the text stays as it is
    [(embedded_at, _)] = read_rows([found.stored])
    return changed_keys(found.stored, row_metadata(row, embedded_at))


def found_in(rows: Mapping[str, Any]) -> list[Found]:
    return [_found(row_id, metadata or {}) for row_id, metadata in zip(rows["ids"], rows["metadatas"], strict=True)]


def _found(row_id: str, metadata: Mapping[str, Any]) -> Found:
    if ROW not in metadata:
        return Found(row_id, dict(metadata))
    [(_, document)] = read_rows([metadata])
    return Found(row_id, document, stored=metadata)


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
