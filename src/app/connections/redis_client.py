"""redis-py's clients with one deadline for each command, a bound on how many run, and errors as ours.

The driver would retry a command whose reply was lost, and count an INCR four times; so it retries nothing, and a read
on a connection that died is asked once more here.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    MaxConnectionsError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from ._redis_gate import Call, Gate

READS: Final = frozenset(
    """
    BITCOUNT BITPOS DBSIZE DUMP ECHO EXISTS GEODIST GEOHASH GEOPOS GEOSEARCH GET GETBIT GETRANGE HEXISTS HGET HGETALL
    HKEYS HLEN HMGET HRANDFIELD HSCAN HSTRLEN HVALS INFO KEYS LINDEX LLEN LPOS LRANGE MGET PFCOUNT PING
    PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SISMEMBER SMEMBERS SMISMEMBER SRANDMEMBER SSCAN STRLEN SUNION TIME TTL TYPE
    XLEN XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZLEXCOUNT ZMSCORE ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK
    ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION
    """.split()  # noqa: SIM905 - a list of a hundred strings has a hundred lines
)
"""Commands that change nothing, and so may be sent a second time."""


class Lease(Protocol):
    """A server that runs for us as long as we hold this; see `embedded`."""

    url: str

    async def revive(self) -> None:
        """Return when the server answers, started anew if need be."""

    async def release(self) -> None: ...

    def let_go(self) -> None:
        """As `release`, without waiting."""


class Pool(BlockingConnectionPool):
    """Waits for a free connection. Commands wait at the gate; pipelines and subscriptions take theirs from here."""

    async def get_connection(self, *args: Any, **options: Any) -> AbstractConnection:
        try:
            return cast("AbstractConnection", await super().get_connection(*args, **options))  # type: ignore[no-untyped-call]
        except RedisConnectionError as error:
            if isinstance(error.__cause__, TimeoutError):  # of the waiting, not of the connecting
                raise MaxConnectionsError(str(error)) from error
            raise

    def take(self) -> AbstractConnection | None:
        """A connection that is idle, open and has nothing to say; None where there is none, for `get_connection`."""
        if not self._available_connections:
            return None
        connection: Any = self._available_connections[-1]
        reader = connection._reader  # noqa: SLF001 - the driver's own way to ask is a dozen calls
        if reader is None or reader._buffer or reader.at_eof() or connection.should_reconnect():  # noqa: SLF001
            return None
        self._available_connections.pop()
        self._in_use_connections.add(connection)
        return cast("AbstractConnection", connection)

    async def give_back(self, connection: AbstractConnection) -> None:
        known: Any = connection
        waiting = self._condition._waiters  # noqa: SLF001 - pipelines and subscriptions
        if waiting or known.should_reconnect():
            await self.release(connection)
            return
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)


class SentinelPool(SentinelConnectionPool, Pool):
    """Asks the sentinels where the master is, and waits for a free connection as `Pool` does."""


class RedisClient(Redis):
    """All commands of redis-py, each through the gate. A command that blocks on purpose ends with the deadline."""

    lease: Lease | None = None

    def __init__(self, pool: ConnectionPool, gate: Gate) -> None:
        super().__init__(connection_pool=pool)
        self.gate = gate
        self.driver: Redis = self
        """What an application is given as the driver's client."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        read = options.pop("read", None)
        if read is None:
            read = args[0] in READS

        async def attempt(call: Call) -> Any:
            if call.sent:
                await self._doubt_idle()
            connection: Any = await self._take()
            try:
                call.sent = True
                await connection.send_packed_command(pack(connection, args))
                return await self.parse_response(connection, args[0], **options)
            except (RedisConnectionError, RedisTimeoutError):
                await connection.disconnect(nowait=True)
                raise
            finally:
                await self._give_back(connection)

        return await self.gate.run(attempt, read=read)

    async def _take(self) -> AbstractConnection:
        pool: Any = self.connection_pool
        return pool.take() or await self._connected()

    async def _give_back(self, connection: AbstractConnection) -> None:
        pool: Any = self.connection_pool
        await pool.give_back(connection)

    async def _doubt_idle(self) -> None:
        """One connection was dead, and so will be those that idled beside it."""
        await self.connection_pool.disconnect(inuse_connections=False)

    async def _connected(self) -> AbstractConnection:
        """A connection that is open; nothing was sent, so a server of our own is started again where it died."""
        pool: Any = self.connection_pool
        try:
            return cast("AbstractConnection", await pool.get_connection())
        except RedisConnectionError as error:
            if self.lease is None or isinstance(error, MaxConnectionsError):
                raise
        await self.lease.revive()
        return cast("AbstractConnection", await pool.get_connection())

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "RedisPipeline":
        return RedisPipeline(self.gate, self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def __repr__(self) -> str:
        return f"RedisClient({self.gate._where})"  # noqa: SLF001 - its own

    def connections(self) -> list[AbstractConnection]:
        """All that are open, those to the sentinels included."""
        pools = [self.connection_pool, *(each.connection_pool for each in self._sentinels())]
        return [each for pool in pools for each in (*pool._available_connections, *pool._in_use_connections)]  # noqa: SLF001

    def pool_state(self) -> dict[str, int]:
        pool = self.connection_pool
        idle, used = len(pool._available_connections), len(pool._in_use_connections)  # noqa: SLF001
        return {"size": idle + used, "idle": idle, "in_use": used, "max_size": pool.max_connections}

    async def end(self) -> None:
        """Close all connections, then give back the server, if it runs for us."""
        for pool in (self.connection_pool, *(each.connection_pool for each in self._sentinels())):
            await pool.disconnect()
        if self.lease is not None:
            await self.lease.release()

    def abandon(self) -> None:
        for connection in self.connections():
            let_go(connection)
        if self.lease is not None:
            self.lease.let_go()

    def _sentinels(self) -> list[Redis]:
        pool = self.connection_pool
        return pool.sentinel_manager.sentinels if isinstance(pool, SentinelPool) else []


def pack(connection: Any, words: Sequence[Any]) -> Any:
    """A command as it is sent. The driver's own way takes five times as long, and is for what only it knows."""
    if " " in words[0]:
        return connection.pack_command(*words)
    parts: list[bytes] = [b"*%d\r\n" % len(words)]
    for word in words:
        if type(word) is str or isinstance(word, str):
            data = str.encode(word)
        elif type(word) is int or type(word) is float:
            data = repr(word).encode()
        elif type(word) is bytes:
            data = word
        else:
            return connection.pack_command(*words)
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


class RedisPipeline(Pipeline):
    """Several commands in one round trip, under one deadline. Never sent twice."""

    def __init__(self, gate: Gate, *args: Any) -> None:
        super().__init__(*args)
        self.gate = gate

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        async def attempt(call: Call) -> list[Any]:
            call.sent = bool(self.command_stack)
            return await super(RedisPipeline, self).execute(raise_on_error)

        result: list[Any] = await self.gate.run(attempt, read=False, whole=False)
        return result


class RedisClusterClient(RedisCluster):
    """The commands of redis-py's cluster client through the gate. It finds the nodes itself, and follows redirects."""

    lease: Lease | None = None  # no cluster is embedded

    def __init__(self, gate: Gate, **options: Any) -> None:
        super().__init__(**options)
        self.gate = gate
        self.driver: RedisCluster = self

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        read = options.pop("read", None)
        if read is None:
            read = args[0] in READS

        async def attempt(call: Call) -> Any:
            await self.initialize()
            call.sent = True
            return await super(RedisClusterClient, self).execute_command(*args, **options)

        return await self.gate.run(attempt, read=read)

    def __repr__(self) -> str:
        return f"RedisClusterClient({self.gate._where})"  # noqa: SLF001 - its own

    def connections(self) -> list[AbstractConnection]:
        return [each for node in self.nodes_manager.nodes_cache.values() for each in node._connections]  # noqa: SLF001

    def pool_state(self) -> dict[str, int]:
        nodes = self.nodes_manager.nodes_cache.values()
        idle = sum(len(node._free) for node in nodes)  # noqa: SLF001 - no public view of them
        size = len(self.connections())
        return {"size": size, "idle": idle, "in_use": size - idle, "nodes": len(nodes)}

    async def end(self) -> None:
        await self.aclose()

    def abandon(self) -> None:
        for connection in self.connections():
            let_go(connection)


def let_go(connection: AbstractConnection) -> None:
    """Close a connection whose loop has ended: its transport can tell that loop nothing, so the socket goes at once."""
    writer = connection._writer  # noqa: SLF001 - nothing public closes without a loop
    connection._reader = connection._writer = None  # noqa: SLF001
    if writer is None:
        return
    transport: Any = writer.transport
    protocol = getattr(transport, "_ssl_protocol", None)
    for each in (transport, getattr(protocol, "_transport", None)):
        if each is None:
            continue
        with suppress(RuntimeError):  # the loop is closed
            each.abort()
        sock = getattr(each, "_sock", None)
        if sock is not None:
            sock.close()
            each._sock = None  # noqa: SLF001 - or the transport warns that nobody closed it
