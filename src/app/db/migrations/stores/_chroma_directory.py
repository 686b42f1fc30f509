"""Migrations of a Chroma directory. Each change is one job of the engine's thread."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ....connections._chroma_embedded import ChromaEngine
from ....connections.chromadb import ChromaDBConnectionManager
from ..store import Found, Replacement
from ._chroma import ChromaMigrationStore
from ._chroma_rows import Changes, found_in, parts
from ._embedded import EmbeddedMigrationStore
from ._vectors import NoCollectionError

R = TypeVar("R")


class ChromaDirectoryStore(ChromaMigrationStore, EmbeddedMigrationStore):
    def __init__(self, manager: ChromaDBConnectionManager) -> None:
        super().__init__(manager)
        self.path = manager.path

    async def work(self, job: Callable[[Any], R], *, write: bool = False) -> R:
        engine = await self._manager.connect()
        assert isinstance(engine, ChromaEngine)  # noqa: S101 - by its address
        return await (engine.write(job) if write else engine.read(job))

    async def call(self, method: str, *arguments: Any, write: bool = False, **options: Any) -> Any:
        return await self._named(arguments[0], lambda client: getattr(client, method)(*arguments, **options), write)

    async def call_collection(self, name: str, method: str, *, write: bool = False, **options: Any) -> Any:
        def job(client: Any) -> Any:
            return getattr(client.get_collection(name, embedding_function=None), method)(**options)

        return await self._named(name, job, write)

    async def replace(self, collection: str, replacements: Sequence[Replacement]) -> Sequence[Found]:
        overtaken: list[Found] = []

        def job(client: Any, part: Sequence[Replacement]) -> None:
            there = client.get_collection(collection, embedding_function=None)
            rows = there.get(ids=[each.id for each in part], include=["metadatas"])
            changes = Changes(found_in(rows), part)
            overtaken.extend(changes.overtaken)
            if changes.ids:
                there.update(ids=changes.ids, metadatas=changes.metadatas)

        with suppress(NoCollectionError):
            for part in parts(replacements):
                await self._named(collection, partial(job, part=part), write=True)
        return overtaken

    async def _named(self, name: str, job: Callable[[Any], R], write: bool) -> R:
        try:
            return await self.work(job, write=write)
        except Exception as error:
            ours = self.translated(error, name)
            if ours is None:
                raise
            raise ours from error
