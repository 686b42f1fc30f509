"""A point of Qdrant as a document of a migration, and back.

What our vector stores wrote has its metadata as JSON text, with terms and numbers beside it that follow from it; any
other payload is the document itself.
"""

import json
from collections.abc import Mapping
from typing import Any

from ....core.errors import InvalidChangeError
from ...vector.payload import make_row
from ...vector.qdrant_payload import TERMS, number_payload
from ..store import Replacement

_ROW = frozenset({"id", "doc", "text", "metadata", "at", "terms"})


def is_row(payload: Mapping[str, Any]) -> bool:
    return payload.keys() >= _ROW and isinstance(payload["metadata"], str)


def to_document(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    if payload is not None and is_row(payload):
        return dict(json.loads(payload["metadata"]))
    return dict(payload or {})


def row_changes(payload: Mapping[str, Any], replacement: Replacement) -> dict[str, Any]:
    """What changes in the payload of a row of ours."""
    metadata = changed(json.loads(payload["metadata"]), replacement)
    document_id = metadata.get("document_id") or payload["doc"]
    if not isinstance(document_id, str):
        raise InvalidChangeError(f"document_id is text, and not a {type(document_id).__name__}")
    row = make_row(payload["id"], document_id, payload["text"], metadata)
    return {"doc": row.document_id, "metadata": row.metadata, TERMS: row.terms, **number_payload(row.numbers)}


def changed(document: Mapping[str, Any], replacement: Replacement) -> dict[str, Any]:
    kept = {name: value for name, value in document.items() if name not in replacement.removed}
    return {**kept, **replacement.values}
