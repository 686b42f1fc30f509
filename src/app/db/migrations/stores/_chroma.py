"""What migrations do in Chroma, whether it is in this process or not.

A document is a row's metadata, of rows of our vector stores as they were given it. Chroma indexes every field by
itself, so an index is there before it is asked for, and stays when it is dropped.
"""

import json
import re
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ....connections.chromadb import ChromaDBConnectionManager
from ....core.constants import Distance
from ....core.errors import EmbeddingMismatchError, MigrationError, UnsupportedOperationError
from ...vector.contract import CollectionContract
from ...vector.payload import check_metadata
from ..steps import CreatePayloadIndex, CreateVectorCollection, DocumentChange, DropCollection, DropPayloadIndex
from ..store import Found, MigrationStore, Replacement
from ._chroma_rows import check_value, found_in
from ._vectors import DESCRIPTION, NoCollectionError, VectorMigrationStore, contract_of

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")
_SPACES: Final = {Distance.COSINE: "cosine", Distance.L2: "l2", Distance.INNER_PRODUCT: "ip"}


class ChromaMigrationStore(VectorMigrationStore):
    index_kinds = frozenset({"text", "integer", "float", "boolean", "uuid"})

    def __init__(self, manager: ChromaDBConnectionManager) -> None:
        super().__init__(manager)
        self._manager = manager
        self._ids: dict[str, list[str]] = {}

    @abstractmethod
    async def call(self, method: str, *arguments: Any, write: bool = False, **options: Any) -> Any:
        """A method of the client; NoCollectionError where its first argument is none."""

    @abstractmethod
    async def call_collection(self, name: str, method: str, *, write: bool = False, **options: Any) -> Any: ...

    def check_name(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UnsupportedOperationError(
                f"{name!r} is no name for a collection of Chroma: 3 to 512 letters, digits, '.', '_' and '-'"
            )

    def check_values(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            check_value(name, value)

    def replacement(self, collection: str, found: Found, change: DocumentChange) -> Replacement:
        if found.stored is None:
            return super().replacement(collection, found, change)
        check_metadata(change.values)
        return MigrationStore.replacement(self, collection, found, change)

    async def create_collection(self, step: CreateVectorCollection) -> None:
        asked = contract_of(step)
        place = f"the collection {step.collection!r} of the connection {self.manager.name!r}"
        try:
            there = await self.call("get_collection", step.collection, embedding_function=None)
        except NoCollectionError:
            await self.call(
                "create_collection",
                step.collection,
                write=True,
                embedding_function=None,
                configuration={"hnsw": {"space": _SPACES[asked.distance]}},
                metadata={DESCRIPTION: json.dumps(asked.to_json())},
            )
            return
        known = (there.metadata or {}).get(DESCRIPTION)
        if known is not None:
            CollectionContract.from_json(json.loads(known)).check(asked, place)
        # Of one that another program made only the distance is known.
        space = (there.configuration_json.get("hnsw") or {}).get("space")
        if space != _SPACES[asked.distance]:
            raise EmbeddingMismatchError(f"{place} measures by {space}: give the new one another name")

    async def drop_collection(self, step: DropCollection) -> None:
        await self.drop(step.collection)

    async def create_index(self, step: CreatePayloadIndex) -> None:
        await self.call("get_collection", step.collection, embedding_function=None)

    async def drop_index(self, step: DropPayloadIndex) -> None:
        """Nothing: the index is Chroma's."""

    async def count(self, collection: str) -> int:
        try:
            return int(await self.call_collection(collection, "count"))
        except NoCollectionError:
            return 0

    async def read_batch(self, collection: str, after: Any, limit: int) -> Sequence[Found]:
        """All ids are asked for at once, since Chroma pages by numbers, which deletes move, and knows no order of ids;
        a hundred thousand take 0.2 s.
        """
        try:
            if after is None or collection not in self._ids:
                self._ids[collection] = sorted((await self.call_collection(collection, "get", include=[]))["ids"])
            ids = self._ids[collection]
            start = 0 if after is None else bisect_right(ids, after)
            while start < len(ids):
                part = ids[start : start + limit]
                if found := await self.read_some(collection, part):
                    return sorted(found, key=lambda each: str(each.id))
                start += limit  # all of these were deleted meanwhile
        except NoCollectionError:
            pass
        self._ids.pop(collection, None)
        return []

    async def read_some(self, collection: str, ids: Sequence[Any]) -> Sequence[Found]:
        try:
            return found_in(await self.call_collection(collection, "get", ids=list(ids), include=["metadatas"]))
        except NoCollectionError:
            return []

    async def drop(self, name: str) -> None:
        try:
            await self.call("delete_collection", name, write=True)
        except NoCollectionError:
            return

    def translated(self, error: Exception, name: str) -> MigrationError | None:
        """Ours for an error of Chroma's, which has been imported to raise it."""
        from chromadb.errors import ChromaError, NotFoundError  # noqa: PLC0415 - as above

        if isinstance(error, NotFoundError):
            return NoCollectionError(name)
        if isinstance(error, ChromaError):
            reason = f"{type(error).__name__}, {error.code()}"
            return MigrationError(f"Chroma, the connection {self.manager.name!r}, refused it ({reason})")
        return None
