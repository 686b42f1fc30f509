"""A repository on PostgreSQL, with or without a model, for applications that write SQL too."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel

from ...connections import ConnectionFactory, ConnectionManager
from ...core.constants import ConnectionType
from ...core.errors import ConfigurationError
from .base import Repository

if TYPE_CHECKING:
    from psycopg.abc import QueryNoTemplate

    from ...connections.postgres import PostgresConnectionManager

EntityT = TypeVar("EntityT", bound=BaseModel)


class PostgresRepository(Repository[EntityT]):
    """`PostgresRepository[Model]` has a repository's operations; both with and without a model there is SQL.

    Made without a manager it acts on the PostgreSQL connection of the current DataLayer, looked up at each call.
    """

    connections = (ConnectionType.POSTGRES,)

    def __init__(self, connection_manager: ConnectionManager[Any] | None = None) -> None:
        self._connection_manager = connection_manager
        if connection_manager is not None:
            _refuse_others(connection_manager)
        if hasattr(type(self), "schema"):
            super().__init__(connection_manager)

    @property
    def connection_manager(self) -> "PostgresConnectionManager":
        manager = self._connection_manager
        if manager is None and hasattr(type(self), "schema"):
            manager = self.manager
            _refuse_others(manager)
        return cast(
            "PostgresConnectionManager", manager or ConnectionFactory.get_connection_manager(ConnectionType.POSTGRES)
        )

    async def execute_query(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one reading statement with bound parameters (`%s`, `%(name)s`), outside of any transaction."""
        return await self.connection_manager.execute_query(sql, parameters)

    async def execute_command(
        self, sql: "QueryNoTemplate", parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one writing statement, outside of any transaction; the rows of its RETURNING."""
        return await self.connection_manager.execute_command(sql, parameters)


def _refuse_others(manager: ConnectionManager[Any]) -> None:
    if manager.connection_type != ConnectionType.POSTGRES:
        raise ConfigurationError(
            f"a PostgresRepository needs a PostgreSQL connection, and {manager.name!r} is of type "
            f"{manager.connection_type}"
        )
