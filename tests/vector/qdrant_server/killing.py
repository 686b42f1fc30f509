"""What is there, and what dies before it is."""

from dataclasses import replace
from typing import Any

from app.db.vector.contract import staged_name
from app.db.vector.qdrant import QdrantVectorStore

from ..planned import Planned, doc, store_on
from ..qdrant_local import LocalServer


async def rows(store: QdrantVectorStore) -> dict[str, str]:
    return {str(each.id): each.page_content async for each in store.documents()}


async def stage(store: QdrantVectorStore, model: str, texts: dict[str, str]) -> QdrantVectorStore:
    """What a re-embedding has made, complete."""
    embeddings = Planned()
    embeddings.model = model
    name = staged_name("documents")
    staged = store_on(store.connection, embeddings)  # type: ignore[arg-type]  # it is one
    staged.collection = name
    await staged.upsert([doc(text, row_id=row_id) for row_id, text in texts.items()])
    await staged.engine.amend(lambda contract: replace(contract, replaces="documents"))
    return staged


class Killed(BaseException):
    """The process ends here."""


async def kill_at(server: LocalServer, number: int, work: Any) -> bool:
    """Have the process die before a call, or after it: the even numbers are the times after. 0 is never."""
    left = number or 10**9

    async def count(_: str) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise Killed

    server.before = server.after = count
    try:
        await work
    except Killed:
        return True
    finally:
        server.before = server.after = quiet
    return False


async def quiet(_: str) -> None: ...
