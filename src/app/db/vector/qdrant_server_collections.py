"""The collections of a Qdrant server: what each remembers, how it is made, and how one takes another's place.

The contract is in the collection's metadata, which a server keeps from version 1.16 on: as JSON text under `manystore`
what cannot change but once, and under a key of its own each of what changes later. A server merges metadata by key, so
two who change different things lose nothing.

A server cannot rename a collection. One that takes another's place keeps its name and gets the other's as an alias;
what is staged next is then called otherwise, since its name is in use.
"""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException

from ...connections.qdrant import QdrantConnectionManager
from ...core.constants import Distance
from ...core.errors import (
    EmbeddingMismatchError,
    InvalidChangeError,
    StoreUnavailableError,
    TransactionError,
    UnsupportedOperationError,
)
from .contract import ALONE, STAGED, CollectionContract, decided, staged_name
from .qdrant_server_rows import TERMS

R = TypeVar("R")

_CONTRACT: Final = "manystore"
_CLAIM: Final = f"{_CONTRACT}_claim_"
_FIXED: Final = ("provider", "model", "dimension", "distance")
_OTHER: Final = "_2"
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 413
_DISTANCES: Final = {
    Distance.COSINE: models.Distance.COSINE,
    Distance.L2: models.Distance.EUCLID,
    Distance.INNER_PRODUCT: models.Distance.DOT,
}
_FILTERING: Final = models.StrictModeConfig(unindexed_filtering_retrieve=True, unindexed_filtering_update=True)
"""Where that is off, as in Qdrant's cloud, a write cannot be made to depend on what it overwrites."""
_FROM: Final = (1, 16)
_PREFIXES_FROM: Final = (1, 19)
_WORDS_FROM: Final = (1, 20)


class NoCollectionError(Exception):
    """There is no collection of that name, or no longer. It does not leave this layer."""


class _RefusedError(UnsupportedOperationError):
    """The server says that the request is wrong."""


@dataclass(frozen=True, slots=True)
class ServerCollection:
    name: str
    """What the server is to be asked for: the collection's name, or an alias."""
    contract: CollectionContract
    indexed: frozenset[str] = frozenset()


class ServerCollections:
    def __init__(self, manager: QdrantConnectionManager) -> None:
        self.server = manager.server
        self._manager = manager
        self._version: tuple[int, int] | None = None

    async def find(self, name: str) -> ServerCollection | None:
        """The collection with its contract. A switch to a staged one that was broken off is finished before."""
        if name.endswith(STAGED):
            there = await self._staged(name)
            return await self._described(there[0]) if there else None
        return await self._described(name) or await self._finish(name) or await self._described(name)

    async def make(self, name: str, contract: CollectionContract) -> None:
        """Make it with its contract in one step, unless somebody else has meanwhile."""
        if contract.dimension is None:
            raise EmbeddingMismatchError("a collection is made with a dimension")
        await self._needs(_FROM, "to keep vectors there")
        if name.endswith(STAGED):
            name = await self._own_name(name, contract)
        vectors = models.VectorParams(size=contract.dimension, distance=_DISTANCES[contract.distance])
        try:
            await self.write(
                lambda client: client.create_collection(
                    name, vectors_config=vectors, metadata=_metadata(contract), strict_mode_config=_FILTERING
                )
            )
        except _RefusedError:
            if await self.find(name) is None:
                raise

    async def index_terms(self, collection: ServerCollection) -> None:
        """Index what every filter asks for, where that is not done: a killed process may not have come to it."""
        prefix = True if await self.finds_prefixes() else None
        for field, option in (("doc", None), (TERMS, prefix)):
            if field not in collection.indexed:
                kind = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=option)
                await self.index(collection, field, kind)

    async def index(self, collection: ServerCollection, field: str, kind: models.PayloadSchemaParams) -> None:
        name = await self.behind(collection.name)
        await self.write(lambda client: client.create_payload_index(name, field, kind))

    async def amend(self, collection: ServerCollection, contract: CollectionContract) -> None:
        """Write what differs from the contract that was read."""
        before, after = _metadata(collection.contract), _metadata(contract)
        changes = {key: after.get(key) for key in before | after if before.get(key) != after.get(key)}
        if changes:
            name = await self.behind(collection.name)
            await self.write(lambda client: client.update_collection(name, metadata=changes))

    async def claim(self, collection: ServerCollection, asked: CollectionContract) -> None:
        """Say what a collection is embedded with that a migration made. Each embedding has a key of its own for that,
        so of two who do it at the same time one at least sees the other's, and withdraws.
        """
        key = f"{_CLAIM}{hashlib.sha256(asked.embedding.encode()).hexdigest()[:8]}"
        name = await self.behind(collection.name)
        claim = {key: [asked.provider, asked.model]}
        await self.write(lambda client: client.update_collection(name, metadata=claim, strict_mode_config=_FILTERING))
        now = await self._described(name)
        if now is not None and now.contract.provider is None:
            await self.write(lambda client: client.update_collection(name, metadata={key: None}))
            raise EmbeddingMismatchError(
                f"the collection {collection.name!r} of {self.server} is written to for the first time, by two stores "
                f"with different embeddings, of which this one has {asked.embedding}: configure the same for both"
            )

    async def drop(self, name: str) -> bool:
        """Delete what is of this name, whoever made it, and what would take its place; whether there was any of it."""
        if name.endswith(STAGED):
            return any([await self._delete(each) for each in await self._staged(name)])
        ready = [await self._delete(each.name) for each in await self._ready(name)]
        return await self._delete(await self.behind(name)) or any(ready)

    async def replace(self, name: str, staged: str, run: str | None) -> None:
        """Give the name to the staged collection: it is marked, the old one goes, and the name becomes its alias.

        What goes is named before the mark is made. It has another name than what is staged, so where somebody else
        has finished the switch meanwhile, nothing of that name is there.
        """
        new, behind = await self.find(staged), await self.behind(name)
        old = await self._described(behind)
        if new is not None:
            if not decided(new.contract, old.contract if old else None, run):
                _check_run(old, run, name)
                try:
                    await self.amend(new, replace(new.contract, replaces=name, ready=run or ALONE))
                except NoCollectionError:
                    raise TransactionError(f"{name}: what was to replace it is gone: re-embed again") from None
                old = await self._described(behind)
                _check_run(old, run, name)
            if old is not None:
                await self._delete(behind)
        await self._finish(name)

    async def version(self) -> tuple[int, int]:
        if self._version is None:
            major, minor, *_ = (await self.read(lambda client: client.info())).version.split(".")
            self._version = (int(major), int(minor))
        return self._version

    async def finds_prefixes(self) -> bool:
        return await self.version() >= _PREFIXES_FROM

    async def needs_words(self) -> None:
        """UnsupportedOperationError where the server cannot rank by full text."""
        await self._needs(_WORDS_FROM, "to search by words")

    async def _needs(self, least: tuple[int, int], purpose: str) -> None:
        version = await self.version()
        if version < least:
            raise UnsupportedOperationError(
                f"{self.server} is Qdrant {version[0]}.{version[1]}: {purpose} needs {least[0]}.{least[1]} or newer"
            )

    async def read(self, work: Callable[[AsyncQdrantClient], Awaitable[R]]) -> R:
        return await self._call(self._manager.read, work)

    async def write(self, work: Callable[[AsyncQdrantClient], Awaitable[R]]) -> R:
        return await self._call(self._manager.write, work)

    async def _call(self, call: Any, work: Callable[[AsyncQdrantClient], Awaitable[R]]) -> R:
        """NoCollectionError where the server knows no such collection; all that is wrong with it is ours."""
        try:
            result: R = await call(work)
        except ResourceExhaustedResponse as error:
            raise StoreUnavailableError(
                f"{self.server} takes no more for {error.retry_after_s} s: ask less at once, or try again then"
            ) from error
        except ApiException as error:
            status = getattr(error, "status_code", None)
            if status == _NOT_FOUND:
                raise NoCollectionError from error
            if status == _TOO_LARGE:
                raise InvalidChangeError(
                    f"{self.server} takes no request of that size: cut the text into chunks, or raise its "
                    "`max_request_size_mb`"
                ) from error
            if status is None or status >= 500:  # noqa: PLR2004
                raise StoreUnavailableError(f"{self.server} failed ({status or 'no answer'})") from error
            raise _RefusedError(f"{self.server} refuses the request ({status})") from error
        return result

    async def _described(self, name: str) -> ServerCollection | None:
        """What is of this name, under it or as its alias."""
        try:
            info = await self.read(lambda client: client.get_collection(name))
        except NoCollectionError:
            return None
        place = f"the collection {name!r} of {self.server}"
        try:
            contract = _contract(info.config.metadata or {})
        except (TypeError, KeyError, ValueError) as error:
            raise StoreUnavailableError(
                f"{place} does not say how it was made: give the vector store another `collection`"
            ) from error
        if contract.replaces == name:  # who gave it the name has not come to its end
            contract = replace(contract, replaces=None, ready=None)
        return ServerCollection(name, contract, frozenset(info.payload_schema))

    async def _staged(self, staged: str) -> list[str]:
        """What the collections are called that are staged under this name: not those that have taken their place."""
        there = (await self.read(lambda client: client.get_collections())).collections
        of_it = re.compile(rf"{re.escape(staged)}_[0-9a-f]{{8}}({_OTHER})?")
        names = sorted(each.name for each in there if of_it.fullmatch(each.name))
        if names:
            taken = {each.collection_name for each in (await self.read(lambda client: client.get_aliases())).aliases}
            names = [each for each in names if each not in taken]
        return names

    async def _own_name(self, staged: str, contract: CollectionContract) -> str:
        """What one is called by itself, so that what is written to it never gets into one of another embedding, which
        was made in its place since it was looked for.
        """
        own = f"{staged}_{hashlib.sha256(contract.summary.encode()).hexdigest()[:8]}"
        aliases = (await self.read(lambda client: client.get_aliases())).aliases
        return own + _OTHER if any(each.collection_name == own for each in aliases) else own

    async def behind(self, name: str) -> str:
        """The name of the collection itself."""
        aliases = (await self.read(lambda client: client.get_aliases())).aliases
        return next((each.collection_name for each in aliases if each.alias_name == name), name)

    async def _ready(self, name: str) -> list[ServerCollection]:
        there = [await self._described(each) for each in await self._staged(staged_name(name))]
        return [each for each in there if each and each.contract.ready and each.contract.replaces == name]

    async def _finish(self, name: str) -> ServerCollection | None:
        """Give the name, which nobody has, to the staged collection that is ready for it."""
        for staged in await self._ready(name):
            alias = models.CreateAlias(collection_name=staged.name, alias_name=name)
            operation = models.CreateAliasOperation(create_alias=alias)
            try:
                await self.write(lambda client, o=operation: client.update_collection_aliases([o]))  # type: ignore[misc]
                await self.amend(staged, replace(staged.contract, replaces=None, ready=None))
            except (NoCollectionError, _RefusedError):
                continue  # another has done it meanwhile
        return await self._described(name)

    async def _delete(self, name: str) -> bool:
        """Whether it was there."""
        try:
            return await self.write(lambda client: client.delete_collection(name))
        except NoCollectionError:
            return False


def _check_run(old: ServerCollection | None, run: str | None, name: str) -> None:
    if old is not None:
        old.contract.check_run(run, name)


def _metadata(contract: CollectionContract) -> dict[str, Any]:
    known = contract.to_json()
    fixed = json.dumps({key: known.pop(key) for key in _FIXED})
    return {_CONTRACT: fixed, **{f"{_CONTRACT}_{key}": value for key, value in known.items()}}


def _contract(metadata: Mapping[str, Any]) -> CollectionContract:
    prefix = f"{_CONTRACT}_"
    later = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    contract = CollectionContract.from_json({**json.loads(metadata[_CONTRACT]), **later})
    claims = [value for key, value in metadata.items() if key.startswith(_CLAIM)]
    if contract.provider is None and len(claims) == 1:
        contract = replace(contract, provider=claims[0][0], model=claims[0][1])
    return contract
