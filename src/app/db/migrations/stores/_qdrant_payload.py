"""A point of Qdrant as a document of a migration, and back.

What our vector stores wrote has its metadata as JSON text, with terms and numbers beside it that follow from it; any
other payload is the document itself.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ....core.errors import InvalidChangeError
from ...vector.engine import Found as FoundRow
from ...vector.payload import Row, make_row
from ..store import Replacement

ReadRow: TypeAlias = Callable[[Mapping[str, Any]], FoundRow | None]
"""Reads a payload that a vector store of ours wrote, embedded or on a server; None of any other."""


def to_document(payload: Mapping[str, Any] | None, read: ReadRow) -> dict[str, Any]:
    row = read(payload or {})
    return dict(payload or {}) if row is None else row.metadata


def changed_row(row: FoundRow, replacement: Replacement) -> Row:
    metadata = changed(row.metadata, replacement)
    document_id = metadata.get("document_id") or row.document_id
    if not isinstance(document_id, str):
        raise InvalidChangeError(f"document_id is text, and not a {type(document_id).__name__}")
    return make_row(row.id, document_id, row.text, metadata)


def changed(document: Mapping[str, Any], replacement: Replacement) -> dict[str, Any]:
    kept = {name: value for name, value in document.items() if name not in replacement.removed}
    return {**kept, **replacement.values}
