"""A server of Chroma's package, and databases on it that are a test's own."""

from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from app.config.settings import ChromaDBSettings
from app.connections.chromadb import ChromaDBConnectionManager


def in_own_database(port: int) -> ChromaDBConnectionManager:
    url = SecretStr(f"http://127.0.0.1:{port}")
    return _InOneDatabase(ChromaDBSettings(url=url, timeout=30), database=f"test_{uuid4().hex}")


class _InOneDatabase(ChromaDBConnectionManager):
    """Its clients see one database, which the first of them makes."""

    def __init__(self, settings: ChromaDBSettings, *, database: str) -> None:
        super().__init__(settings)
        self._database = database
        self._made = False

    async def _open(self) -> Any:
        client: Any = await super()._open()
        if not self._made:
            await client._server.create_database(self._database)
            self._made = True
        client.database = self._database
        return client
