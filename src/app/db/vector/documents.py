"""What a caller gets, made of what an engine has."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

from .base import DocumentMetadata
from .engine import Found

if TYPE_CHECKING:
    from langchain_core.documents import Document


def documents_of(rows: Iterable[Found]) -> "list[Document]":
    from langchain_core.documents import Document  # noqa: PLC0415 - 0.2 s that only results need

    return [Document(id=each.id, page_content=each.text, metadata=each.metadata) for each in rows]


def with_ids(docs: "Sequence[Document]", ids: Sequence[str]) -> "list[Document]":
    from langchain_core.documents import Document  # noqa: PLC0415

    return [
        Document(id=row_id, page_content=each.page_content, metadata=dict(each.metadata or {}))
        for each, row_id in zip(docs, ids, strict=True)
    ]


def metadata_of(document_id: str, rows: Sequence[Found]) -> DocumentMetadata:
    """By the first part of the document, of which there is one at least."""
    first = min(rows, key=_chunk_index)
    source = str(first.metadata.get("source_path") or first.metadata.get("source") or "")
    return DocumentMetadata(
        document_id=document_id,
        source_path=source,
        file_type=str(first.metadata.get("file_type") or PurePath(source).suffix.removeprefix(".")),
        embedded_at=datetime.fromisoformat(first.embedded_at),
        custom_metadata=first.metadata,
    )


def _chunk_index(found: Found) -> int:
    index = found.metadata.get("chunk_index")
    return index if isinstance(index, int) else 0
