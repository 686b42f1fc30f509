"""Chroma: a directory in this process, or a server over HTTP."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.settings import EMBEDDED, ChromaDBSettings
from ..core.constants import ConnectionType
from ..core.errors import AppError
from ._chroma_embedded import ChromaEngine
from ._http import HttpAddress, is_dead, translated, trusted
from ._server import ServerConnectionManager, load_package
from .owner_thread import engines

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ._chroma_http import ChromaHttpClient

    Client = ChromaEngine | ChromaHttpClient

_PORT = 8000


class ChromaDBConnectionManager(ServerConnectionManager["Client"]):
    """Gives out the engine of a directory, shared by all loops of the process, or a client of a server."""

    connection_type = ConnectionType.CHROMADB
    requires = ("chromadb",)

    def __init__(
        self, settings: ChromaDBSettings | None = None, *, name: str | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(settings or ChromaDBSettings(), name=name, data_dir=data_dir)
        url: SecretStr | None = self.settings.url
        embedded = url is None or url.get_secret_value() == EMBEDDED
        self.address = None if embedded or url is None else HttpAddress.of(url, self.name)
        """The server's, or None when the store is a directory."""
        self.path = os.path.realpath(self.data_dir / self.settings.path.expanduser())
        self.closes_with_loop = self.address is not None

    def get_connection_info(self) -> dict[str, Any]:
        if self.address is None:
            return {"type": str(self.connection_type), "url": EMBEDDED, "path": self.path}
        return {"type": str(self.connection_type), "url": str(self.address)}

    async def _open(self) -> "Client":
        if self.address is None:
            make = lambda: ChromaEngine(self.path, self.settings.timeout)  # noqa: E731
            return await engines.acquire(ChromaEngine, self.path, make)
        module = await load_package(f"{__package__}._chroma_http", "chromadb", "chromadb")
        tls = await asyncio.to_thread(trusted, self.settings.ca_file, self.name)
        client: ChromaHttpClient = module.ChromaHttpClient(
            self.address, self.address.port or _PORT, self.settings.pool, self.settings.timeout, tls
        )
        try:
            await self._greet(client, lambda _: client.count_collections())
        except BaseException:
            await client.aclose()
            raise
        return client

    def _pool(self, client: "Client") -> Mapping[str, int] | None:
        return None if isinstance(client, ChromaEngine) else client.transport.state()

    async def _close(self, client: "Client") -> None:
        await (engines.release(client) if isinstance(client, ChromaEngine) else client.aclose())

    def _abandon(self, client: "Client") -> None:
        if isinstance(client, ChromaEngine):
            engines.let_go(client)

    async def _ask_version(self, client: "Client") -> str:
        if isinstance(client, ChromaEngine):
            return await client.read(lambda client: client.get_version())
        return await client.get_version()

    def _is_dead_connection(self, error: Exception) -> bool:
        return self.address is not None and is_dead(error)

    def _translated(self, error: Exception, *, write: bool) -> AppError | None:
        if self.address is None:
            return None
        code = getattr(error, "code", None)
        status = code() if callable(code) else None
        return translated(self.server, error, status=status, write=write)
