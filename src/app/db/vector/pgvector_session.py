"""How a collection's statements run on PostgreSQL: on a connection of the pool, with what a session has to be told."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import psycopg

from ...connections._postgres_connection import Connection as OurConnection
from ...connections._postgres_exchange import Exchanges, fetch
from ...connections.postgres import PostgresConnectionManager
from ...core.constants import Distance
from ...core.errors import AppError, StoreUnavailableError
from ..backends._postgres_errors import quiet, translated
from ..query import Predicate
from .engine import Asked, VectorEngine
from .pgvector_rows import Binary, BinaryDumper
from .pgvector_where import Wheres

Connection = psycopg.AsyncConnection[Any]
R = TypeVar("R")

_BUILD_TIMEOUT: Final = 3_600.0


class PgVectorSession(VectorEngine):
    def __init__(self, manager: PostgresConnectionManager, collection: str, distance: Distance, asked: Asked) -> None:
        super().__init__(manager, collection, distance, asked)
        self._manager = manager
        self._wheres = Wheres()

    @abstractmethod
    def _forget(self) -> None:
        """Know nothing of the collection: it may be gone, or another than it was."""

    async def _fetch(
        self, template: str, predicate: Predicate, *given: Any, settings: Mapping[str, str] | None = None
    ) -> list[tuple[Any, ...]]:
        statement, parameters = self._wheres.statement(template, predicate, *given)

        async def work(connection: Connection) -> list[tuple[Any, ...]]:
            connection.adapters.register_dumper(Binary, BinaryDumper)
            if not settings:
                return await fetch(connection, statement, parameters)
            if isinstance(connection, OurConnection) and not getattr(self._manager, "pooled", False):
                if connection.told != settings:
                    for name, value in settings.items():
                        await fetch(connection, "SELECT set_config($1, $2, false)", (name, value))
                    connection.told = settings
                return await fetch(connection, statement, parameters)
            async with connection.transaction():
                for name, value in settings.items():
                    await fetch(connection, "SELECT set_config($1, $2, true)", (name, value))
                return await fetch(connection, statement, parameters)

        return await self._on(work, write=False)

    async def _write(self, work: Callable[[Connection], Awaitable[R]]) -> R:
        async def with_arrays(connection: Connection) -> R:
            connection.adapters.register_dumper(Binary, BinaryDumper)
            return await work(connection)

        return await self._on(with_arrays, write=True)

    async def _long(self, work: Callable[[Connection], Awaitable[R]]) -> R:
        async def patient(connection: Connection) -> R:
            if isinstance(connection, OurConnection):
                connection.timeout = _BUILD_TIMEOUT
            return await work(connection)

        return await self._write(patient)

    async def _on(self, work: Callable[[Connection], Awaitable[R]], *, write: bool) -> R:
        pool: Exchanges[Any] = self._manager.live or await self._manager.connect()
        connection = await pool.take()
        try:
            return await work(connection)
        except psycopg.Error as error:
            ours = pool.translated(error, connection, write=write)
            raise ours or self._translated(error) from quiet(error)
        finally:
            await pool.give(connection)

    def _translated(self, error: psycopg.Error) -> AppError:
        self._forget()
        if isinstance(error, psycopg.errors.UndefinedFile | psycopg.errors.FeatureNotSupported):
            return StoreUnavailableError(
                f"{self.collection}: this PostgreSQL server has no pgvector ({type(error).__name__}): install the "
                "extension `vector` there, version 0.8 or later"
            )
        return translated(self.collection, {f"{self.collection}_pkey": ("id",)}, error)
