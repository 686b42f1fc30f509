"""Migrations of a Chroma server: ledger and lock are collections."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..ledger import LEDGER, Entry
from ..store import Found, Replacement
from ._chroma import ChromaMigrationStore
from ._chroma_rows import Changes, parts
from ._generations import GenerationLock
from ._vectors import DESCRIPTION, NoCollectionError


class ChromaServerStore(GenerationLock, ChromaMigrationStore):
    """The server compares nothing when it writes, so a row that is written in the moment of its conversion may lose
    that write.
    """

    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> Sequence[Found]:
        overtaken: list[Found] = []
        with suppress(NoCollectionError):
            for part in parts(replacements):
                changes = Changes(await self.read_some(collection, [each.id for each in part]), part)
                overtaken += changes.overtaken
                if changes.ids:
                    options = {"ids": changes.ids, "metadatas": changes.metadatas}
                    await self.call_collection(collection, "update", write=True, **options)
        return overtaken

    async def read_entries(self) -> list[Entry]:
        try:
            rows = await self.call_collection(LEDGER, "get", include=["metadatas"])
        except NoCollectionError:
            return []
        return [Entry.from_document(json.loads(each["entry"])) for each in rows["metadatas"]]

    async def write_entry(self, entry: Entry) -> None:
        text = json.dumps(entry.to_document(), ensure_ascii=False, allow_nan=False)
        row: dict[str, Any] = {"ids": [entry.name], "embeddings": [[1.0]], "metadatas": [{"entry": text}]}
        await self.call_collection(LEDGER, "upsert", write=True, **row)

    async def delete_entry(self, name: str) -> None:
        await self.call_collection(LEDGER, "delete", write=True, ids=[name])

    async def collection_names(self) -> list[str]:
        return [each.name for each in await self.call("list_collections")]

    async def read_description(self, name: str) -> str | None:
        try:
            return str((await self.call("get_collection", name, embedding_function=None)).metadata[DESCRIPTION])
        except NoCollectionError:
            return None

    async def make_described(self, name: str, description: str) -> None:
        metadata = {DESCRIPTION: description}
        await self.call("create_collection", name, write=True, embedding_function=None, metadata=metadata)

    async def remove(self, name: str) -> None:
        await self.drop(name)

    async def call(self, method: str, *arguments: Any, write: bool = False, **options: Any) -> Any:
        async def work(client: Any) -> Any:
            return await getattr(client, method)(*arguments, **options)

        return await self._named(arguments[0] if arguments else "", work, write)

    async def call_collection(self, name: str, method: str, *, write: bool = False, **options: Any) -> Any:
        there = await self.call("get_collection", name, embedding_function=None)
        return await self._named(name, lambda _: getattr(there, method)(**options), write)

    async def _named(self, name: str, work: Callable[[Any], Any], write: bool) -> Any:
        try:
            return await (self._manager.write(work) if write else self._manager.read(work))
        except Exception as error:
            ours = self.translated(error, name)
            if ours is None:
                raise
            raise ours from error
