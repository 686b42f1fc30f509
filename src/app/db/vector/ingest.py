"""Files into a vector store, so that doing it again changes only what changed.

A chunk's id follows from the path and its number, and each chunk carries the hash of the whole text and how many
chunks there are. A document is complete when it has that many chunks, all with that hash: one that a killed process
left half-written is not, and is written again. There is no marker that could say otherwise.
"""

import asyncio
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...core.errors import EmbeddingMismatchError
from ..query import to_predicate
from .base import DocumentMetadata, VectorDB
from .sources import MARKDOWN, Skipped, SourceNotFoundError, find_sources, read_source
from .split import RULES, Chunk, split_text
from .store import CollectionVectorStore

if TYPE_CHECKING:
    from langchain_core.documents import Document

__all__ = ["IngestReport", "Progress", "Skipped", "SourceNotFoundError", "ingest"]

_INGESTED: Final = to_predicate({name: {"$exists": True} for name in ("content_hash", "chunk_count")})

Progress = Callable[[int, int, Path], None]
"""Called after each file with how many are done, how many there are, and which it was."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of the files; `chunks` is how many chunks were written.

    `left` are the paths of what is in the collection and still cut by the rules of another version, since it was none
    of this run's files. While there is any the collection remembers those rules, and asks for `rechunk`: ingest all of
    its sources in one run, and delete by `delete_by_document_id` what has none any more.
    """

    added: int
    updated: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    chunks: int
    left: tuple[str, ...] = ()


async def ingest(
    store: VectorDB,
    paths: Iterable[str | os.PathLike[str]],
    *,
    progress: Progress | None = None,
    rechunk: bool = False,
) -> IngestReport:
    """Split, embed and store the text and Markdown files under the paths.

    An unchanged file is left alone; of a changed one the new chunks are written before the old ones go. A file that has
    no text any more (empty, binary, too large) loses its chunks; one that is gone or cannot be read keeps them, until
    `delete_by_document_id`. Raises SourceNotFoundError, before anything is read, when a path does not exist; and
    EmbeddingMismatchError where the collection remembers that its texts were cut by other rules than this version has,
    unless `rechunk` has the files cut and embedded anew. It remembers the new rules when one run has done so with all.
    """
    files, skipped = await asyncio.to_thread(find_sources, list(paths))
    if isinstance(store, CollectionVectorStore):
        await _check_chunker(store, rechunk=rechunk)
    counts = {"added": 0, "updated": 0, "unchanged": 0}
    chunks = 0
    cut: set[str] = set()
    for number, path in enumerate(files, start=1):
        text = await asyncio.to_thread(read_source, path)
        if isinstance(text, Skipped):
            skipped.append(text)
            if text.has_no_text:
                await store.delete_by_document_id(DocumentMetadata.generate_document_id(path))
        else:
            outcome, written = await _ingest_one(store, path, text)
            counts[outcome] += 1
            chunks += written
            cut.add(DocumentMetadata.generate_document_id(path))
        if progress is not None:
            progress(number, len(files), path)
    left = await _remember_chunker(store, cut) if isinstance(store, CollectionVectorStore) else []
    return IngestReport(**counts, skipped=tuple(skipped), chunks=chunks, left=tuple(left))


async def _check_chunker(store: CollectionVectorStore, *, rechunk: bool) -> None:
    known = await store.engine.contract()
    if known is not None and known.chunker not in (None, RULES) and not rechunk:
        raise EmbeddingMismatchError(
            f"the texts of the collection {store.collection!r} were cut by the rules {known.chunker}, and this version "
            f"cuts by {RULES}: ingest all of its sources in one run to have them cut alike, which embeds them anew "
            f"(`manystore ingest PATHS --store {shlex.quote(store.name)} --rechunk`)"
        )
    store.chunker = RULES


async def _remember_chunker(store: CollectionVectorStore, cut: set[str]) -> list[str]:
    """Where the collection was there before, or had other rules: those hold until all of its files are cut by the new
    ones. The paths of those that are not among the documents that were `cut` in this run.
    """
    known = await store.engine.contract()
    if known is None or known.chunker == RULES:
        return []
    left: dict[str, str] = {}
    if known.chunker is not None:
        async for page in store.engine.pages(_INGESTED):
            others = (each for each in page if each.document_id not in cut)
            left |= {each.document_id: str(each.metadata.get("source_path")) for each in others}
    if not left:
        await store.engine.amend(lambda each: replace(each, chunker=RULES))
    return sorted(left.values())


async def _ingest_one(store: VectorDB, path: Path, text: str) -> tuple[str, int]:
    document_id = DocumentMetadata.generate_document_id(path)
    content_hash = DocumentMetadata.create_hash(f"{RULES}\n{text}")
    present = await store.count({"document_id": document_id})
    if present:
        complete = {"document_id": document_id, "content_hash": content_hash, "chunk_count": present}
        if await store.count(complete) == present:
            return "unchanged", 0
    markdown = path.suffix.lower() in MARKDOWN
    chunks = await asyncio.to_thread(split_text, text, markdown=markdown)
    documents = [_document(path, content_hash, number, chunk, len(chunks)) for number, chunk in enumerate(chunks)]
    await store.re_embed_document(document_id, documents)
    return ("updated" if present else "added"), len(documents)


def _document(path: Path, content_hash: str, number: int, chunk: Chunk, count: int) -> "Document":
    from langchain_core.documents import Document  # noqa: PLC0415 - 0.2 s that only ingestion needs

    metadata: dict[str, Any] = {
        "document_id": DocumentMetadata.generate_document_id(path),
        "source_path": str(path),
        "file_type": path.suffix.removeprefix(".").lower() or "txt",
        "chunk_index": number,
        "chunk_count": count,
        "content_hash": content_hash,
        "heading": chunk.headings[-1] if chunk.headings else None,
        "headings": list(chunk.headings),
    }
    return Document(id=DocumentMetadata.generate_chunk_id(path, number), page_content=chunk.text, metadata=metadata)
