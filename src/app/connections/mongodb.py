"""MongoDB through pymongo's asynchronous client, with every limit set and nothing retried behind our back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from ..config.settings import MongoDBSettings
from ..core.constants import ConnectionType
from ..core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)
from ._mongodb_url import NOT_UNDERSTOOD, check_options, parse
from ._server import ServerConnectionManager, load_package
from ._slots import Slots
from ._url_options import settled

if TYPE_CHECKING:
    from pydantic import SecretStr
    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.database import AsyncDatabase
    from pymongo.topology_description import TopologyDescription

    Document = dict[str, Any]
    Client = AsyncMongoClient[Document]

R = TypeVar("R")

_APPLICATION = "manystore"
_NOT_AUTHENTICATED = 18
_NOT_PRIMARY = frozenset({10058, 10107, 13435})  # refused before anything was done


class MongoDBConnectionManager(ServerConnectionManager["Client"]):
    """One client with its pool per event loop.

    `timeout` is the one deadline of an operation, its wait for a free connection included. Options of the URL hold;
    what they say of the deadline and the pool stands for the settings, and what cannot hold is refused by its name.
    """

    connection_type = ConnectionType.MONGODB
    requires = ("pymongo",)

    def __init__(
        self, settings: MongoDBSettings | None = None, *, name: str | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(settings or MongoDBSettings(), name=name, data_dir=data_dir)
        url: SecretStr | None = self.settings.url
        self._address = None if url is None else parse(self.name, url.get_secret_value())
        if self._address is not None:
            self.settings = settled(self.name, self.settings, self._address.settings)
            if self._address.database is not None and "database" not in self.settings.model_fields_set:
                self.settings = self.settings.model_copy(update={"database": self._address.database})
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, Slots] = WeakKeyDictionary()
        self._known: TopologyDescription | None = None
        """The last one that had a server to talk to."""

    async def _call(self, work: "Callable[[Client], Awaitable[R]]", *, write: bool) -> R:
        """Wait here for one of the pool's connections: the driver's own wait makes a task of every turn."""
        client = self.live or await self.connect()
        loop = asyncio.get_running_loop()
        slots = self._slots.get(loop)
        if slots is None:
            slots = self._slots[loop] = Slots(self.settings.pool.max_size)
        waited = 0.0
        if not slots.take():
            start = loop.time()
            try:
                async with asyncio.timeout(min(self.settings.pool.timeout, self.settings.timeout)):
                    await slots.wait()
            except TimeoutError as error:
                raise self._exhausted() from error
            waited = loop.time() - start
        try:
            return await self._run(client, work, write=write, waited=waited)
        finally:
            slots.give_back()

    def get_connection_info(self) -> dict[str, Any]:
        return {
            "type": str(self.connection_type),
            "url": self._address.hosts if self._address else "a server",
            "database": self.settings.database,
            "max_pool_size": self.settings.pool.max_size,
        }

    def get_database(self) -> "AsyncDatabase[Document]":
        """Return the configured database on the running loop's client; `await connect()` comes first."""
        client = self.live
        if client is None:
            raise ConfigurationError(f"the connection {self.name!r} is not open on this loop: await connect() first")
        return client[self.settings.database]

    def topology(self, client: "Client") -> "TopologyDescription":
        """As it was when there last was a server to talk to: one that was lost is of no known kind until it is back."""
        self._is_known(client)
        return self._known or client.topology_description

    async def _open(self) -> "Client":
        client = await self._client()
        try:
            await self._greet(client, lambda client: client.admin.command("ping"))
        except BaseException:
            await client.close()
            raise
        return client

    async def _client(self) -> "Client":
        pymongo = await load_package("pymongo", "pymongo", "mongodb")
        _keep_commands_out_of_logs()
        address = self._address
        if address is None:
            raise ConfigurationError(f"the connection {self.name!r} is not configured: it needs a url")
        check_options(self.name, address, self.settings.timeout)
        milliseconds = round(self.settings.timeout * 1000)
        ours = {
            "appname": _APPLICATION,
            "connecttimeoutms": milliseconds,
            "serverselectiontimeoutms": milliseconds,
        }
        client: Client | None = None
        # What the driver says may quote the URL, so it is not even in the chain of ours.
        with suppress(pymongo.errors.PyMongoError, OSError, ValueError, TypeError):
            client = pymongo.AsyncMongoClient(
                address.url,
                **{key: value for key, value in ours.items() if key not in address.options},
                # These would wrap every exchange in a timer of its own; `_call` has one for the whole operation.
                waitQueueTimeoutMS=None,
                socketTimeoutMS=None,
                timeoutMS=None,
                maxPoolSize=self.settings.pool.max_size,
                retryReads=False,
                retryWrites=False,
                tz_aware=True,
                uuidRepresentation="standard",
                event_listeners=self._listeners(),
            )
        if client is None:
            raise ConfigurationError(f"the connection {self.name!r}: its url {NOT_UNDERSTOOD}")
        return client

    def _exhausted(self) -> PoolExhaustedError:
        return PoolExhaustedError(
            f"{self.server}: no connection of {self.settings.pool.max_size} became free in time; nothing was sent"
        )

    def _listeners(self) -> list[Any]:
        """Pymongo's event listeners for a client; a subclass may trace with some."""
        return []

    def _pool(self, client: "Client") -> Mapping[str, int] | None:
        # The driver tells of its pool through listeners only, and those cost every operation.
        pools = [server.pool for server in client._topology._servers.values()]  # noqa: SLF001
        return {
            "in_use": sum(pool.active_sockets for pool in pools),
            "idle": sum(len(pool.conns) for pool in pools),
            "max_size": self.settings.pool.max_size,
        }

    async def _close(self, client: "Client") -> None:
        await client.close()

    async def _ask_version(self, client: "Client") -> str:
        answer = await client.admin.command("buildInfo")
        return str(answer.get("version") or "")

    def _is_known(self, client: "Client") -> bool:
        description = client.topology_description
        if description is self._known:  # there is another one after every change, and it takes its time to answer
            return True
        known = description.has_readable_server()
        if known:
            self._known = description
        return known

    def _is_dead_connection(self, error: Exception) -> bool:
        from pymongo import errors  # noqa: PLC0415 - an optional package

        waited = (errors.NetworkTimeout, errors.ServerSelectionTimeoutError)
        return isinstance(error, errors.AutoReconnect) and not isinstance(error, waited)

    def _translated(self, error: Exception, *, write: bool) -> AppError | None:
        from pymongo import errors  # noqa: PLC0415 - an optional package

        match error:
            case errors.WaitQueueTimeoutError():
                return self._exhausted()
            case errors.ServerSelectionTimeoutError():
                return StoreUnavailableError(f"{self.server} cannot be reached: {_reason(error)}")
            case errors.NetworkTimeout() | errors.ExecutionTimeout():
                return self._late(write=write)
            case errors.WTimeoutError():
                return OutcomeUnknownError(f"{self.server} applied a write that its replicas did not confirm in time")
            case errors.NotPrimaryError() if _code(error) in _NOT_PRIMARY:
                return StoreUnavailableError(f"{self.server} is not the primary at present; nothing was written")
            case errors.ConnectionFailure() if write:
                return OutcomeUnknownError(
                    f"{self.server} broke the connection: the write may or may not have been applied"
                )
            case errors.ConnectionFailure():
                return StoreUnavailableError(f"{self.server} broke the connection")
            case errors.OperationFailure(code=code) if code == _NOT_AUTHENTICATED:
                return StoreUnavailableError(f"{self.server} refused the credentials")
            case errors.ConfigurationError():
                return StoreUnavailableError(f"{self.server} cannot be found: {_reason(error)}")
            case TimeoutError():
                return DeadlineExceededError(f"{self.server} did not answer in time")
            case _:
                return None


def _keep_commands_out_of_logs() -> None:
    """At DEBUG the driver logs every command with its values. An application that wants that sets the level itself."""
    commands = logging.getLogger("pymongo.command")
    if commands.level == logging.NOTSET:
        commands.setLevel(logging.INFO)


def _reason(error: Exception) -> str:
    """The driver's reason without its description of the whole topology."""
    return str(error).partition(", Timeout:")[0].partition(" (configured timeouts")[0]


def _code(error: Any) -> int | None:
    details = getattr(error, "details", None)
    return details.get("code") if isinstance(details, Mapping) else None
