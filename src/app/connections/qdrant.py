"""Qdrant: inside this process (`url: embedded`), or a server through qdrant-client."""

import asyncio
import math
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pydantic import SecretStr

from ..config.settings import EMBEDDED, QdrantSettings
from ..core.constants import ConnectionType
from ..core.errors import AppError, UnsupportedOperationError
from ._http import HttpAddress, is_dead, limits, translated, trusted
from ._qdrant_embedded import Collections, QdrantEngine
from ._server import ServerConnectionManager, load_package
from .owner_thread import engines

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

    from ._http_pool import PooledTransport

    Client = QdrantEngine | AsyncQdrantClient

_PORT = 6333


class QdrantConnectionManager(ServerConnectionManager["Client"]):
    """Gives out the embedded engine, or a client of a server.

    Embedded, it is one directory of collections, shared by all loops of the process and closed to any other process.
    """

    connection_type = ConnectionType.QDRANT

    def __init__(
        self, settings: QdrantSettings | None = None, *, name: str | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(settings or QdrantSettings(url=SecretStr(EMBEDDED)), name=name, data_dir=data_dir)
        url: SecretStr | None = self.settings.url
        embedded = url is None or url.get_secret_value() == EMBEDDED
        self.address = None if embedded or url is None else HttpAddress.of(url, self.name)
        """The server's, or None when the engine is embedded."""
        self.path = os.path.realpath(self.data_dir / self.settings.path.expanduser())
        self.requires = ("qdrant_edge",) if self.address is None else ("qdrant_client",)
        self.closes_with_loop = self.address is not None
        self._transports: WeakKeyDictionary[AsyncQdrantClient, PooledTransport] = WeakKeyDictionary()

    def get_connection_info(self) -> dict[str, Any]:
        if self.address is None:
            return {"type": str(self.connection_type), "url": EMBEDDED, "path": self.path}
        return {"type": str(self.connection_type), "url": str(self.address)}

    async def engine(self) -> QdrantEngine:
        """Return the embedded engine, opening it on first use; UnsupportedOperationError where this is a server."""
        if self.address is not None:
            raise UnsupportedOperationError(
                f"the connection {self.name!r} is a Qdrant server, which has no engine in this process"
            )
        client = self.live or await self.connect()
        assert isinstance(client, QdrantEngine)  # noqa: S101 - by its address
        return client

    async def _open(self) -> "Client":
        if self.address is None:
            make = lambda: QdrantEngine(self.path, self.settings.timeout)  # noqa: E731
            return await engines.acquire(QdrantEngine, self.path, make)
        client = await self._client(self.address)
        try:
            # Its version would be told to a client without the right key as well; its collections are not.
            await self._greet(client, lambda _: client.get_collections())
        except BaseException:
            await self._close(client)
            raise
        return client

    async def _client(self, address: HttpAddress) -> "AsyncQdrantClient":
        qdrant_client = await load_package("qdrant_client", "qdrant-client", "qdrant")
        import httpx  # noqa: PLC0415 - the client has brought it

        from ._http_pool import PooledTransport  # noqa: PLC0415 - as above

        settings = self.settings
        tls = await asyncio.to_thread(trusted, settings.ca_file, self.name)
        transport = PooledTransport(address, settings.pool, settings.timeout, tls)
        key = settings.api_key
        rounded_up = math.ceil(settings.timeout)
        exact = limits(settings.timeout)

        async def amend(request: httpx.Request) -> None:
            # The client overwrites a name that it is given.
            request.headers["User-Agent"] = f"manystore {request.headers['User-Agent']}"
            # It takes whole seconds only. A timeout given with the call holds.
            if request.extensions["timeout"]["read"] == rounded_up:
                request.extensions = {**request.extensions, "timeout": exact}

        client: AsyncQdrantClient = qdrant_client.AsyncQdrantClient(
            url=f"{address}{address.path}",
            port=address.port or _PORT,
            timeout=rounded_up,
            # As a header, since the client warns about its own parameter where the server has no TLS.
            headers={**address.authorization(), **({} if key is None else {"api-key": key.get_secret_value()})},
            check_compatibility=False,  # asks on a thread of its own, and warns from there
            transport=transport,
            event_hooks={"request": [amend]},
        )
        self._transports[client] = transport
        return client

    def _pool(self, client: "Client") -> Mapping[str, int] | None:
        transport = None if isinstance(client, QdrantEngine) else self._transports.get(client)
        return None if transport is None else transport.state()

    async def _close(self, client: "Client") -> None:
        await (engines.release(client) if isinstance(client, QdrantEngine) else client.close())

    def _abandon(self, client: "Client") -> None:
        if isinstance(client, QdrantEngine):
            engines.let_go(client)

    async def _ask_version(self, client: "Client") -> str:
        if isinstance(client, QdrantEngine):
            await client.read(Collections.names)
            return version("qdrant-edge-py")
        return str((await client.info()).version)

    def _is_dead_connection(self, error: Exception) -> bool:
        return self.address is not None and is_dead(_source(error))

    def _translated(self, error: Exception, *, write: bool) -> AppError | None:
        if self.address is None:
            return None
        return translated(self.server, _source(error), status=getattr(error, "status_code", None), write=write)


def _source(error: Exception) -> BaseException:
    """The client wraps the error of httpx, and keeps it under this name."""
    source = getattr(error, "source", None)
    return source if isinstance(source, BaseException) else error
