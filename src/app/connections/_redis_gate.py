"""One deadline for each command to Redis, a bound on how many run, and errors as ours."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MaxConnectionsError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from ..core.errors import (
    AppError,
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)

operation_deadline: ContextVar[float | None] = ContextVar("operation_deadline", default=None)
"""By the loop's clock, when a task has to be done with what takes several commands."""

_LOADING_PAUSE: Final = 0.02  # seconds between two questions to a server that loads its data

_DRIVER_ERRORS = (RedisError, RedisClusterException, OSError)  # a TimeoutError of asyncio is an OSError


class Call:
    """One command on its way: whether any of it may have reached the server."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


class Gate:
    """Lets so many commands run at a time, gives each its deadline, and names what went wrong.

    `timeout` holds for the whole of a command, waiting for a free connection included; `wait` limits that part.
    """

    def __init__(self, *, where: str, secrets: tuple[str, ...], size: int, wait: float, timeout: float) -> None:
        self._where = where
        self._secrets = secrets
        self._size = size
        self._wait = min(wait, timeout)
        self.timeout = timeout
        self._free = asyncio.Semaphore(size)

    async def run(self, attempt: Callable[[Call], Awaitable[Any]], *, read: bool, whole: bool = True) -> Any:
        """`whole` tells that one command is sent, which a server that still loads its data refuses as a whole."""
        deadline = asyncio.get_running_loop().time() + self.timeout
        deadline = min(deadline, operation_deadline.get() or deadline)
        if self._free.locked():
            await self._wait_for_turn(deadline)
        else:
            await self._free.acquire()
        call = Call()
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    return await attempt(call)
                except BusyLoadingError:
                    if not whole:
                        raise
                except RedisConnectionError as error:
                    if not (read and call.sent) or isinstance(error, AuthenticationError):
                        raise
                return await self._again(attempt, call, deadline, whole=whole)
        except _DRIVER_ERRORS as error:
            ours = self._translated(error, unknown=call.sent and not read)
            if ours is None:
                raise
            raise ours from error
        finally:
            self._free.release()

    async def _again(
        self, attempt: Callable[[Call], Awaitable[Any]], call: Call, deadline: float, *, whole: bool
    ) -> Any:
        """Once more, and as long as the server loads its data: what it refuses then it has not done."""
        while True:
            try:
                return await attempt(call)
            except BusyLoadingError:
                call.sent = False
                if not whole or asyncio.get_running_loop().time() + _LOADING_PAUSE >= deadline:
                    raise
                await asyncio.sleep(_LOADING_PAUSE)

    @asynccontextmanager
    async def in_turn(self, lock: asyncio.Lock) -> AsyncGenerator[None]:
        """Several commands under one deadline, the waiting for the lock included."""
        deadline = asyncio.get_running_loop().time() + self.timeout
        try:
            async with asyncio.timeout_at(deadline):
                await lock.acquire()
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"{self._where}: earlier writes to the record took {self.timeout:g} s; nothing was changed"
            ) from error
        token = operation_deadline.set(deadline)
        try:
            yield
        finally:
            operation_deadline.reset(token)
            lock.release()

    async def _wait_for_turn(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + self._wait)):
                await self._free.acquire()
        except TimeoutError:
            raise self.exhausted() from None

    def exhausted(self) -> PoolExhaustedError:
        return PoolExhaustedError(
            f"{self._where}: none of {self._size} connections became free in {self._wait:g} s; nothing was sent"
        )

    def _translated(self, error: Exception, *, unknown: bool) -> AppError | None:
        """Ours for what concerns the server as a whole; what it answers to a command is the caller's to name."""
        if isinstance(error, MaxConnectionsError):
            return self.exhausted()
        if isinstance(error, RedisTimeoutError | TimeoutError):
            if unknown:
                return OutcomeUnknownError(
                    f"{self._where}: no reply in {self.timeout:g} s; the write may have been applied"
                )
            return DeadlineExceededError(f"{self._where}: no reply in {self.timeout:g} s; nothing was changed")
        if isinstance(error, AuthenticationError) or isinstance(error.__cause__, AuthenticationError):
            return StoreUnavailableError(f"{self._where} refused the user or the password")
        if isinstance(error, ResponseError) and not isinstance(error, ClusterDownError | MasterDownError):
            return None
        reason = self._without_secrets(str(error))
        if unknown and not isinstance(error, ResponseError | BusyLoadingError):
            return OutcomeUnknownError(
                f"{self._where}: the connection was lost ({reason}); the write may have been applied"
            )
        return StoreUnavailableError(f"{self._where} cannot be reached: {reason}")

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text
