"""Two collections that are to have the same rows: which they differ in, page by page."""

import json
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256

from ..query import ALL
from .engine import Found, VectorEngine
from .payload import Row, make_row


def row_from(found: Found) -> Row:
    return make_row(found.id, found.document_id, found.text, found.metadata)


def content_hash(found: Found) -> bytes:
    """Of everything that a row has but its vector and the moment it was made. Keys have no order: JSON has none."""
    content = [found.id, found.document_id, found.text, found.metadata]
    return sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).digest()


async def unlike(page: Sequence[Found], other: VectorEngine) -> list[Found]:
    """Those of the rows that another collection does not have, or not with the same content."""
    there = {each.id: content_hash(each) for each in await other.retrieve([each.id for each in page])}
    return [each for each in page if there.get(each.id) != content_hash(each)]


async def surplus(collection: VectorEngine, other: VectorEngine) -> AsyncIterator[list[str]]:
    """The ids of the rows that another collection does not have. The pages are read before any of them is given."""
    found: list[list[str]] = []
    async for page in collection.pages(ALL):
        ids = [each.id for each in page]
        there = {each.id for each in await other.retrieve(ids)}
        missing = [each for each in ids if each not in there]
        if missing:
            found.append(missing)
    for each in found:
        yield each
