"""A Qdrant server for tests: the client's own engine in memory, behind what a server adds to it.

No server comes in a wheel. This one answers what a server answers where that engine raises something else, keeps the
payload indexes in the description of a collection, outlives the connections of its managers, and does one call at a
time from whatever thread.
"""

import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
from pydantic import SecretStr
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common import client_warnings
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_client.local import local_collection

from app.config.settings import QdrantSettings
from app.connections._http import HttpAddress
from app.connections.qdrant import QdrantConnectionManager

# What this engine has no use for, and says so once.
_UNUSED = ("create-local-payload-indexes", "local_query_points_search_params_ignored", "large-local-collection")
client_warnings.SEEN_MESSAGES.update(_UNUSED)

_mask: Any = vars(local_collection)["calculate_payload_mask"]


def _mask_of_ids(
    payloads: list[Any],
    payload_filter: models.Filter | None,
    ids_inv: list[Any],
    deleted_per_vector: dict[str, Any],
) -> Any:
    """The engine's own, which looks at every point for each point that a request names: at those only."""
    must = payload_filter.must if payload_filter is not None else None
    if not isinstance(must, list) or not must or not isinstance(must[0], models.HasIdCondition):
        return _mask(payloads, payload_filter, ids_inv, deleted_per_vector)
    mask, named = np.zeros(len(payloads), dtype=bool), {str(each) for each in must[0].has_id}
    for place, point in enumerate(ids_inv):
        if str(point) in named:
            one = {name: each[place : place + 1] for name, each in deleted_per_vector.items()}
            mask[place] = _mask([payloads[place]], payload_filter, [point], one)[0]
    return mask


vars(local_collection)["calculate_payload_mask"] = _mask_of_ids


class LocalServer:
    """`calls` is what was asked. `before` and `after` are run around each call, with its name."""

    def __init__(self, version: str = "1.20.0") -> None:
        self.version = version
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.before: Callable[[str], Awaitable[None]] = _nothing
        self.after: Callable[[str], Awaitable[None]] = _nothing
        self._engine = AsyncQdrantClient(":memory:")
        self._indexes: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self._turn = threading.Lock()

    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def meanwhile(self, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Have something else done just before the next call of that name."""

        async def once(called: str) -> None:
            if called == name:
                self.before = _nothing
                await work()

        self.before = once

    async def run(self, name: str, *given: Any, **options: Any) -> Any:
        await self.before(name)
        with self._turn:
            self.calls.append((name, given, options))
            try:
                result = await getattr(self, f"_{name}", getattr(self._engine, name))(*given, **options)
            except (KeyError, ValueError) as error:  # the first for a point that is not there
                missing = isinstance(error, KeyError) or "not found" in str(error)
                status = 404 if missing else 409 if "already exists" in str(error) else 400
                raise UnexpectedResponse(status, "", str(error).encode(), httpx.Headers()) from error
        await self.after(name)
        return result

    async def _info(self) -> models.VersionInfo:
        return models.VersionInfo(title="qdrant", version=self.version)

    async def _create_payload_index(self, name: str, field: str, kind: Any) -> Any:
        if isinstance(kind, models.PayloadSchemaType):
            kind = getattr(models, f"{kind.value.capitalize()}IndexParams")(type=kind.value)
        self._indexes[await self._behind(name)][field] = kind
        if isinstance(kind, models.TextIndexParams):  # the engine knows one way only to cut a text into words
            kind = kind.model_copy(update={"ascii_folding": None})
        return await self._engine.create_payload_index(name, field, kind)

    async def _get_collection(self, name: str) -> models.CollectionInfo:
        info = await self._engine.get_collection(name)
        schema = {
            field: models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind.type.value), points=0, params=kind)
            for field, kind in self._indexes[await self._behind(name)].items()
        }
        return info.model_copy(update={"payload_schema": schema})

    async def _delete_collection(self, name: str) -> bool:
        self._indexes.pop(name, None)
        return await self._engine.delete_collection(name)

    async def _behind(self, name: str) -> str:
        aliases = (await self._engine.get_aliases()).aliases
        return next((each.collection_name for each in aliases if each.alias_name == name), name)


async def _nothing(_: str) -> None: ...


class LocalClient:
    def __init__(self, server: LocalServer) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given, **options: self._server.run(name, *given, **options)

    async def close(self) -> None:
        """The server goes on."""


class LocalManager(QdrantConnectionManager):
    def __init__(self, server: LocalServer | None = None) -> None:
        super().__init__(QdrantSettings(url=SecretStr("http://127.0.0.1:9"), timeout=2))
        self.local_server = server or LocalServer()

    async def _client(self, address: HttpAddress) -> Any:
        del address
        return LocalClient(self.local_server)
