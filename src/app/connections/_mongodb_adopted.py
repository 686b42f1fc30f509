"""A client of pymongo that the application made itself."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError as NoDatabaseError

from ..config.settings import MongoDBSettings, PoolSettings
from ..core.errors import ConfigurationError
from .mongodb import MongoDBConnectionManager

if TYPE_CHECKING:
    from .mongodb import Client, Document


class AdoptedMongoDB(MongoDBConnectionManager):
    """Uses a client as it is, with its own options, on the loop that it belongs to, and never closes it.

    The deadline of an operation is the client's `timeoutMS`; one without any has the default of the settings.
    """

    def __init__(self, database: "AsyncDatabase[Document]") -> None:
        self._database = database
        options = database.client.options
        defaults = MongoDBSettings()
        super().__init__(
            MongoDBSettings(
                database=database.name,
                timeout=options.timeout or defaults.timeout,
                pool=PoolSettings(max_size=options.pool_options.max_pool_size or defaults.pool.max_size),
            )
        )

    @classmethod
    def around(cls, given: Any) -> Self:
        """Take an AsyncDatabase, or an AsyncMongoClient whose URL names one. TypeError for anything else of pymongo."""
        if isinstance(given, AsyncDatabase):
            return cls(given)
        if not isinstance(given, AsyncMongoClient):
            raise TypeError(
                f"pass a database of pymongo's AsyncMongoClient (client['app']), not {type(given).__module__}."
                f"{type(given).__name__}: a synchronous client would hold up the loop"
            )
        database: AsyncDatabase[Document] | None = None
        with suppress(NoDatabaseError):
            database = given.get_default_database()
        if database is None:
            raise ConfigurationError("the URL of this client names no database: pass client['name'] instead")
        return cls(database)

    @property
    def live(self) -> "Client":
        return self._database.client

    async def connect(self) -> "Client":
        return self._database.client

    async def disconnect(self) -> None:
        """Nothing: who made the client closes it."""

    async def close(self) -> None:
        """Nothing: who made the client closes it."""

    @property
    def connected(self) -> bool:
        return True

    def get_database(self) -> "AsyncDatabase[Document]":
        return self._database

    def get_connection_info(self) -> dict[str, Any]:
        addresses = self._database.client.topology_description.server_descriptions()
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in addresses)
        return {**super().get_connection_info(), "url": hosts}
