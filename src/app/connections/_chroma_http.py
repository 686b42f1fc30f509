"""A client of a Chroma server. Imported on use, since the package takes a second and more.

The package's own `AsyncHttpClient` keeps its HTTP clients in one table for all servers of the process, by the hash of
an event loop: a second server would get the first one's credentials and trust, a new loop the connections of a dead
one, and closing one closes all. It has no time limit either, and does not verify TLS. So each of ours has its own.
"""

import asyncio
import uuid
from typing import TYPE_CHECKING, cast

import httpx
from chromadb.api import AsyncServerAPI
from chromadb.api.async_client import AsyncAdminClient, AsyncClient
from chromadb.config import Settings, System
from overrides import override

from ._http_pool import PooledTransport

if TYPE_CHECKING:
    import ssl

    from chromadb.api.async_fastapi import AsyncFastAPI

    from ..config.settings import PoolSettings
    from ._http import HttpAddress


class ChromaHttpClient(AsyncClient):
    """Chroma's asynchronous client, on an HTTP client of its own and for the running loop."""

    def __init__(
        self, address: "HttpAddress", port: int, pool: "PoolSettings", timeout: float, tls: "ssl.SSLContext"
    ) -> None:
        # Not the base's: it registers the client for the whole process, under its settings.
        self._identifier = f"manystore {uuid.uuid4()}"
        self.transport = PooledTransport(address, pool, timeout, tls)
        self.http = httpx.AsyncClient(
            timeout=timeout,
            transport=self.transport,
            headers={"Content-Type": "application/json", "User-Agent": "manystore", **address.authorization()},
        )
        system = System(
            Settings(
                chroma_api_impl="chromadb.api.async_fastapi.AsyncFastAPI",
                chroma_server_host=f"{address}{'' if address.port else f':{port}'}{address.path}",
                chroma_server_ssl_enabled=address.secure,
                chroma_server_http_port=port,
                anonymized_telemetry=False,
            )
        )
        self._own_system = system
        self._server = system.instance(AsyncServerAPI)  # type: ignore[type-abstract]
        cast("AsyncFastAPI", self._server)._clients = {asyncio.get_running_loop().__hash__(): self.http}  # noqa: SLF001
        self._admin_client = _AdminClient(self._server)

    @property
    @override
    def _system(self) -> System:
        return self._own_system

    async def aclose(self) -> None:
        await self.http.aclose()


class _AdminClient(AsyncAdminClient):
    def __init__(self, server: AsyncServerAPI) -> None:
        self._server = server
