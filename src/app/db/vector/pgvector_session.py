"""How a collection's statements run on PostgreSQL: on a connection of the pool, with what a session has to be told."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg

from ...connections._postgres_binary import Binary, BinaryDumper
from ...connections._postgres_connection import Connection as OurConnection
from ...connections._postgres_exchange import Exchanges, fetch
from ...connections.postgres import PostgresConnectionManager
from ...core.constants import Distance
from ...core.errors import AppError, StoreUnavailableError, UnsupportedOperationError
from ..backends._postgres_errors import quiet, translated
from ..query import Predicate
from .engine import Asked, VectorEngine
from .pgvector_table import TableReplacedError
from .pgvector_where import Wheres

Connection = psycopg.AsyncConnection[Any]
R = TypeVar("R")
P = ParamSpec("P")
SessionT = TypeVar("SessionT", bound="PgVectorSession")

_BUILD_TIMEOUT: Final = 3_600.0


def again(
    method: Callable[Concatenate[SessionT, P], Awaitable[R]],
) -> Callable[Concatenate[SessionT, P], Coroutine[Any, Any, R]]:
    """Have it done a second time where the collection was dropped or made anew since it was looked at."""

    @wraps(method)
    async def twice(self: SessionT, /, *given: P.args, **options: P.kwargs) -> R:
        try:
            return await method(self, *given, **options)
        except TableReplacedError:
            self._forget()
            return await method(self, *given, **options)

    return twice


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
        return await self._on(work, write=True)

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
            if not isinstance(connection, OurConnection):
                connection.adapters.register_dumper(Binary, BinaryDumper)
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
        if isinstance(error, psycopg.errors.DependentObjectsStillExist):
            return UnsupportedOperationError(
                f"{self.collection}: something else in the database depends on the table, such as a view or a foreign "
                "key: drop that before, and make it anew afterwards"
            )
        if isinstance(error, psycopg.errors.UndefinedTable):
            return TableReplacedError(f"{self.collection}: the table was dropped while it was in use")
        return translated(self.collection, {f"{self.collection}_pkey": ("id",)}, error)
