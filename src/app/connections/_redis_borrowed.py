"""A caller's own Redis client as a connection, which is used and never closed."""

from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from ..config.settings import RedisSettings
from ._redis_gate import Gate
from .redis import RedisConnectionManager
from .redis_client import RedisClient


class BorrowedRedisClient(RedisClient):
    """Commands on the connections of another client, with replies as text whatever that one decodes."""

    def __init__(self, client: Redis, gate: Gate) -> None:
        super().__init__(client.connection_pool, gate)
        self.driver = client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return _text(await super().execute_command(*args, **options))

    async def _take(self) -> AbstractConnection:
        pool: Any = self.connection_pool
        connection: AbstractConnection = await pool.get_connection()
        return connection

    async def _give_back(self, connection: AbstractConnection) -> None:
        await self.connection_pool.release(connection)

    async def _doubt_idle(self) -> None:
        """The pool looks at each connection that it gives out."""

    async def end(self) -> None:
        """The connections are the caller's."""

    def abandon(self) -> None:
        """As `end`."""


class BorrowedRedisManager(RedisConnectionManager):
    """What `RedisConnectionManager.around` returns. Closing it closes nothing."""

    def __init__(self, client: Redis) -> None:
        super().__init__(RedisSettings(url=SecretStr("redis://borrowed")), name="redis")
        self._borrowed = client

    def get_connection_info(self) -> dict[str, Any]:
        options: dict[str, Any] = self._borrowed.connection_pool.connection_kwargs
        known: dict[str, Any] = {key: options[key] for key in ("path", "host", "port") if key in options}
        known["db"] = options.get("db") or 0
        return {"type": str(self.connection_type), "mode": "borrowed", **known}

    async def _open(self) -> RedisClient:
        size = min(self.settings.pool.max_size, self._borrowed.connection_pool.max_connections)
        return BorrowedRedisClient(self._borrowed, self._gate("the Redis client that was passed in", (), size))


def _text(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, list | tuple | set):
        return type(reply)(_text(each) for each in reply)
    if isinstance(reply, dict):
        return {_text(key): _text(value) for key, value in reply.items()}
    return reply
