"""The settings' side of SQLite: which file, and who shares the engine that has it open."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..config.settings import SQLiteSettings
from ..core.constants import ConnectionType
from ..core.errors import ConfigurationError
from ._sqlite_engine import Row, SQLiteEngine
from ._sqlite_guard import run_alone
from ._sqlite_open import MEMORY
from .base import ConnectionManager
from .owner_thread import engines

__all__ = ["SQLiteConnectionManager", "SQLiteEngine"]


class SQLiteConnectionManager(ConnectionManager[SQLiteEngine]):
    """Opens one SQLite file, shared by all loops of the process. `:memory:` is private to this manager."""

    connection_type = ConnectionType.SQLITE

    def __init__(
        self, settings: SQLiteSettings | None = None, *, name: str | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(settings or SQLiteSettings(), name=name, data_dir=data_dir)
        in_memory = str(self.settings.path) == MEMORY
        self._token = uuid4().hex
        self.path = MEMORY if in_memory else os.path.realpath(self.data_dir / self.settings.path.expanduser())
        self._key = f"{MEMORY}{id(self)}" if in_memory else self.path

    async def execute_query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one SELECT with bound parameters. The driver's own error for SQL that it cannot read."""
        return await (await self.connect()).submit(partial(run_alone, sql, parameters, write=False))

    async def execute_command(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one writing statement with bound parameters; return the rows of its RETURNING."""
        return await (await self.connect()).submit(partial(run_alone, sql, parameters, write=True), write=True)

    def get_connection_info(self) -> dict[str, Any]:
        return {"type": str(self.connection_type), "path": self.path}

    @property
    def identity(self) -> str:
        return self.path if self.path != MEMORY else f"{MEMORY}{self._token}"

    async def _open(self) -> SQLiteEngine:
        engine = await engines.acquire(
            SQLiteEngine, self._key, lambda: SQLiteEngine(self.path, self.settings, self.name)
        )
        if engine.settings.model_copy(update={"path": self.settings.path}) != self.settings:
            await engines.release(engine)
            raise ConfigurationError(f"{self.path} is already open here with other settings: give both the same")
        return engine

    async def _close(self, client: SQLiteEngine) -> None:
        await engines.release(client)

    def _abandon(self, client: SQLiteEngine) -> None:
        engines.let_go(client)

    async def _ping(self, client: SQLiteEngine) -> str:
        [[version]] = await client.read("SELECT sqlite_version()")
        return str(version)
