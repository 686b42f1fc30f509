"""Redis: one server, the master that sentinels name, or a cluster."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ..config.settings import EMBEDDED, RedisSettings
from ..core.constants import ConnectionType
from ..core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    MissingDependencyError,
    StoreUnavailableError,
)
from ._url_options import settled
from .base import ConnectionHealth, ConnectionManager
from .redis_address import RedisAddress, parse_node, parse_url

try:
    from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
    from redis.backoff import NoBackoff
    from redis.commands import AsyncCoreCommands
    from redis.credentials import UsernamePasswordCredentialProvider
    from redis.exceptions import RedisError

    from ._redis_gate import Gate
    from .redis_client import Lease, Pool, RedisClient, RedisClusterClient, SentinelPool
except ModuleNotFoundError as error:
    raise MissingDependencyError.for_extra("redis", "redis") from error

Client = RedisClient | RedisClusterClient


class RedisConnectionManager(ConnectionManager[Client]):
    """Gives out redis-py's client. Its commands are also the manager's own: `await manager.get("key")`.

    Replies are text. No command is sent twice but a read whose connection died; each ends within `timeout`, which
    includes the waiting for one of `pool.max_size` connections.
    """

    connection_type = ConnectionType.REDIS
    requires = ("redis",)

    def __init__(
        self, settings: RedisSettings | None = None, *, name: str | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(settings or RedisSettings(url=SecretStr(EMBEDDED)), name=name, data_dir=data_dir)
        self.path = self.data_dir / self.settings.path.expanduser()
        self.is_cluster = self.settings.mode == "cluster"
        if self.settings.url is not None and not self._is_embedded:
            self.settings = settled(self.name, self.settings, parse_url(self._url(), self.name).settings)
            self._parsed(self._url())

    @classmethod
    def around(cls, client: Any) -> "RedisConnectionManager":
        """A connection on a caller's own `redis.asyncio.Redis`, whatever it decodes; it is never closed by us.

        Its pool, its server and its retries at connecting are the client's, deadlines are ours. It is for the loop
        that the client belongs to.
        """
        if not isinstance(client, Redis):
            raise TypeError(
                f"expected a redis.asyncio.Redis, not {type(client).__module__}.{type(client).__name__}; a cluster is "
                "configured as a connection with `mode: cluster`"
            )
        from ._redis_borrowed import BorrowedRedisManager  # noqa: PLC0415 - it is derived from this class

        return BorrowedRedisManager(client)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A command of the client, which connects first. What is no awaitable command is had from `connect()`."""
        command = Redis.execute_command if name == "execute_command" else getattr(AsyncCoreCommands, name, None)
        if name.startswith("_") or not callable(command) or inspect.isasyncgenfunction(command):
            raise AttributeError(
                f"{type(self).__name__} has no command {name!r}; see the client that connect() returns"
            )

        @functools.wraps(command)
        async def call(*args: Any, **options: Any) -> Any:
            return await getattr(await self.connect(), name)(*args, **options)

        return call

    def get_connection_info(self) -> dict[str, Any]:
        info: dict[str, Any] = {"type": str(self.connection_type), "mode": self.settings.mode}
        if self._is_embedded:
            return {**info, "url": EMBEDDED, "path": str(self.path)}
        address = self._parsed(self._url())
        info |= {"path": address.path} if address.path else {"host": address.host, "port": address.port}
        info |= {"db": address.db, "tls": address.tls, "pool_max_size": self.settings.pool.max_size}
        if self.settings.service:
            info["service"] = self.settings.service
        return info

    def get_pool_stats(self) -> dict[str, int]:
        """Connections of the running loop's pool: `max_size`, `size`, `idle`, `in_use`; of a cluster also `nodes`."""
        client = self.live
        return {"max_size": self.settings.pool.max_size, "size": 0, "idle": 0, "in_use": 0} | (
            client.pool_state() if client is not None else {}
        )

    async def health(self) -> ConnectionHealth:
        return dataclasses.replace(await super().health(), pool=self.get_pool_stats())

    @property
    def _is_embedded(self) -> bool:
        return self._url() == EMBEDDED

    def _url(self) -> str:
        url = self.settings.url
        if url is None:
            raise ConfigurationError(f"the connection {self.name!r} is not configured: it needs a url")
        return str(url.get_secret_value())

    def _parsed(self, url: str) -> RedisAddress:
        address = parse_url(url, self.name)
        if self.is_cluster and (address.path or address.db):
            raise ConfigurationError(f"the connection {self.name!r}: a cluster has hosts, and database 0 only")
        if self.settings.mode == "sentinel" and (address.path or not self.settings.service):
            raise ConfigurationError(f"the connection {self.name!r}: mode sentinel needs a host and a `service`")
        if address.driver_options.get("socket_connect_timeout", 0) > self.settings.timeout:
            raise ConfigurationError(
                f"the connection {self.name!r}: 'socket_connect_timeout' of its url is longer than `timeout`, which "
                "ends everything: raise that"
            )
        return address

    async def _lease(self) -> Lease | None:
        """The server of `path`, started or joined, where the url is `embedded`."""
        if not self._is_embedded:
            return None
        from .embedded import redis as embedded  # noqa: PLC0415 - what it imports is not there on every platform

        return await embedded.acquire(self.path)

    async def _open(self) -> Client:
        lease = await self._lease()
        try:
            address = self._parsed(self._url() if lease is None else lease.url)
            client = self._client(address)
        except BaseException:
            if lease is not None:
                lease.let_go()
            raise
        client.lease = lease
        try:
            # Bounded by the deadline of commands, the connecting included.
            await client.execute_command("PING", read=True)
        except (AppError, RedisError, OSError) as error:
            await client.end()
            if isinstance(error, AppError) and not isinstance(error, DeadlineExceededError):
                raise
            cause = error.__cause__ if isinstance(error, AppError) else error
            raise StoreUnavailableError(f"cannot connect to {self._place(address)}: {error}") from cause
        except BaseException:
            client.abandon()
            raise
        return client

    async def _close(self, client: Client) -> None:
        await client.end()

    def _abandon(self, client: Client) -> None:
        client.abandon()

    async def _ping(self, client: Client) -> str:
        node = {"target_nodes": "random"} if self.is_cluster else {}
        try:
            reply: Any = await client.execute_command("INFO", "server", **node)
        except RedisError as error:  # a server may forbid the command
            raise StoreUnavailableError(f"{self.name}: Redis does not tell its version: {error}") from error
        if "redis_version" not in reply:  # one reply for each node that was asked
            reply = next(iter(reply.values()))
        return str(reply["redis_version"])

    def _place(self, address: RedisAddress) -> str:
        return f"Redis {self.name!r} at {address}"

    def _client(self, address: RedisAddress) -> Client:
        """The driver's client, made without I/O."""
        pool = self.settings.pool
        secret = self.settings.sentinel_password
        sentinel_password = secret.get_secret_value() if secret else None
        secrets = tuple(each for each in (address.password, sentinel_password) if each)
        gate = self._gate(self._place(address), secrets, pool.max_size)
        options = self._options(address)
        bounded: dict[str, Any] = {"max_connections": pool.max_size}
        if self.is_cluster:
            nodes = [ClusterNode(*node) for node in self._nodes(address)]
            tls = {"ssl": True, **self._tls(address)} if address.tls else {}
            return RedisClusterClient(gate, startup_nodes=nodes, **bounded, **options, **tls)
        bounded["timeout"] = pool.timeout
        if self.settings.mode == "sentinel":
            sentinel = Sentinel(  # type: ignore[no-untyped-call]
                self._nodes(address),
                sentinel_kwargs={
                    **self._limits(),
                    "password": sentinel_password,
                    **({"ssl": True, **self._tls(address)} if address.tls else {}),
                },
            )
            kind = SentinelManagedSSLConnection if address.tls else SentinelManagedConnection
            options |= self._tls(address) if address.tls else {}
            return RedisClient(
                SentinelPool(  # type: ignore[no-untyped-call]
                    self.settings.service, sentinel, connection_class=kind, db=address.db, **bounded, **options
                ),
                gate,
            )
        options["db"] = address.db
        if address.path:
            return RedisClient(
                Pool(connection_class=UnixDomainSocketConnection, path=address.path, **bounded, **options), gate
            )
        place: dict[str, Any] = {"host": address.host, "port": address.port}
        if address.tls:
            tls = self._tls(address)
            return RedisClient(Pool(connection_class=SSLConnection, **place, **bounded, **options, **tls), gate)
        return RedisClient(Pool(connection_class=Connection, **place, **bounded, **options), gate)

    def _gate(self, where: str, secrets: tuple[str, ...], size: int) -> Gate:
        pool = self.settings.pool
        return Gate(where=where, secrets=secrets, size=size, wait=pool.timeout, timeout=self.settings.timeout)

    def _nodes(self, address: RedisAddress) -> list[tuple[str, int]]:
        return [(address.host, address.port), *(parse_node(each, self.name) for each in self.settings.addresses)]

    def _limits(self) -> dict[str, Any]:
        return {
            # Not for each write and read: the gate bounds the whole, and where the driver waits with a limit to send, a
            # cancellation that arrives meanwhile is lost (`asyncio.wait_for` of Python 3.11).
            "socket_timeout": None,
            "socket_connect_timeout": self.settings.timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # what every server speaks, and replies have the shapes that redis-py documents
            "decode_responses": True,
        }

    def _options(self, address: RedisAddress) -> dict[str, Any]:
        options = {**self._limits(), "client_name": f"manystore:{os.getpid()}", **address.driver_options}
        if address.password is not None:
            # Not as `password`, which would stand in the options of pool and connections.
            credentials = (address.username, address.password) if address.username else (None, address.password)
            options["credential_provider"] = UsernamePasswordCredentialProvider(*credentials)
        return options

    def _tls(self, address: RedisAddress) -> dict[str, Any]:
        return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **address.tls_options}
