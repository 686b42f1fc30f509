"""What stores behind an address share: one deadline for a call, one retry of reads, errors that are ours."""

import asyncio
import importlib
import threading
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ..core.errors import (
    AppError,
    DeadlineExceededError,
    MissingDependencyError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)
from ._fence import Fence
from .base import ClientT, ConnectionHealth, ConnectionManager

R = TypeVar("R")

# The driver's own limit is the settings' timeout. What it has missed ends a little later, by cancellation.
_MARGIN = 1.08


class ServerConnectionManager(ConnectionManager[ClientT]):
    """A store that may be away, slow or silent.

    `read` and `write` are the way to call it: they bound the time, translate the driver's errors once, and try a read
    again that met a connection which had died since its last use. A write is never sent twice.
    """

    def __init__(self, settings: Any = None, *, name: str | None = None, data_dir: Path | None = None) -> None:
        super().__init__(settings, name=name, data_dir=data_dir)
        # A pool is of no use to anybody once its loop has ended, and cannot be closed any more.
        self.closes_with_loop = True

    @abstractmethod
    def _translated(self, error: Exception, *, write: bool) -> AppError | None:
        """Ours for what concerns the store as a whole; None for a refused value or statement, the backend's to name."""

    @abstractmethod
    def _is_dead_connection(self, error: Exception) -> bool:
        """Whether a pooled connection turned out to be closed, so that another one may do."""

    @abstractmethod
    async def _ask_version(self, client: ClientT) -> str:
        """Ask the server for a sign of life; the errors may be the driver's."""

    async def _ping(self, client: ClientT) -> str:
        return await self._greet(client, self._ask_version)

    def _is_known(self, client: ClientT) -> bool:
        """Whether the server was there lately. Where it was not, it is asked for a sign of life before a write.

        So a write that never left is not one whose outcome is unknown.
        """
        del client
        return True

    def _pool(self, client: ClientT) -> Mapping[str, int] | None:
        """Connections in use, idle and at the most, where the driver tells."""
        del client
        return None

    @property
    def server(self) -> str:
        """The store and its host as messages name them, without credentials."""
        return f"{self.connection_type} at {self.get_connection_info()['url']}"

    def read(self, work: Callable[[ClientT], Awaitable[R]]) -> Coroutine[Any, Any, R]:
        """Run one reading call, and once more when its connection had died while it lay idle."""
        return self._call(work, write=False)

    def write(self, work: Callable[[ClientT], Awaitable[R]]) -> Coroutine[Any, Any, R]:
        """Run one writing call, once. OutcomeUnknownError when it was sent and no answer came."""
        return self._call(work, write=True)

    async def health(self) -> ConnectionHealth:
        health = await super().health()
        client = self.live
        return health if client is None else replace(health, pool=self._pool(client))

    async def _greet(self, client: ClientT, work: Callable[[ClientT], Awaitable[R]]) -> R:
        """Ask whether there is a server that lets us in. Any answer but yes is StoreUnavailableError.

        PoolExhaustedError where the client is open and others have all of its connections.
        """
        try:
            return await self._run(client, work)
        except (StoreUnavailableError, PoolExhaustedError):
            raise
        except DeadlineExceededError as error:
            raise StoreUnavailableError(str(error)) from error
        except Exception as error:
            reason = type(error).__name__
            raise StoreUnavailableError(f"{self.server} did not answer as one should: {reason}") from error

    async def _call(self, work: Callable[[ClientT], Awaitable[R]], *, write: bool) -> R:
        return await self._run(self.live or await self.connect(), work, write=write)

    async def _run(
        self,
        client: ClientT,
        work: Callable[[ClientT], Awaitable[R]],
        *,
        write: bool = False,
        waited: float = 0,
    ) -> R:
        """`waited` is how much of the time the caller has spent already."""
        sent = False
        met: Exception | None = None
        try:
            with Fence(self.settings.timeout * _MARGIN - waited) as fence:
                if write and not self._is_known(client):
                    await self._ask_version(client)
                sent = write
                try:
                    return await work(client)
                except Exception as error:
                    if write or not self._is_dead_connection(error):
                        raise
                    met = error
                return await work(client)
        except Exception as error:
            if isinstance(error, AppError):
                raise
            ours: AppError | None
            if isinstance(error, TimeoutError) and fence.expired:
                if sent or self._is_known(client):
                    ours = self._late(write=sent)
                else:
                    ours = StoreUnavailableError(f"{self.server} cannot be reached")
                error = met or error
            else:
                ours = self._translated(error, write=sent)
            if ours is None:
                raise
            raise ours from error

    def _late(self, *, write: bool) -> AppError:
        if write:
            return OutcomeUnknownError(
                f"{self.server} did not answer within {self.settings.timeout:g} s: "
                "the write may or may not have been applied"
            )
        return DeadlineExceededError(f"{self.server} did not answer within {self.settings.timeout:g} s")


# Two threads that import packages which import each other can each see one half made.
_importing = threading.Lock()


def import_package(module: str, package: str, extra: str) -> ModuleType:
    """Import an optional package; MissingDependencyError names the extra that brings it."""
    try:
        with _importing:
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependencyError.for_extra(package, extra) from error
    except ImportError as error:
        raise MissingDependencyError(f"the package {package!r} cannot be imported: {error}") from error


async def load_package(module: str, package: str, extra: str) -> ModuleType:
    """Import an optional package off the loop, since some take more than a second."""
    return await asyncio.to_thread(import_package, module, package, extra)
