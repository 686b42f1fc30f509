"""What stores behind an address share: one deadline for a call, one retry of reads, errors that are ours."""

import asyncio
import importlib
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from ..core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    MissingDependencyError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from .base import ClientT, ConnectionHealth, ConnectionManager

R = TypeVar("R")

# The driver's own limit is the settings' timeout. What it has missed ends a little later, by cancellation.
_FENCE = 1.08


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
        return await self._run(client, self._ask_version)

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

    async def read(self, work: Callable[[ClientT], Awaitable[R]]) -> R:
        """Run one reading call, and once more when its connection had died while it lay idle."""
        return await self._call(work, write=False)

    async def write(self, work: Callable[[ClientT], Awaitable[R]]) -> R:
        """Run one writing call, once. OutcomeUnknownError when it was sent and no answer came."""
        return await self._call(work, write=True)

    async def health(self) -> ConnectionHealth:
        health = await super().health()
        client = self.live
        return health if client is None else replace(health, pool=self._pool(client))

    async def _call(self, work: Callable[[ClientT], Awaitable[R]], *, write: bool) -> R:
        return await self._run(self.live or await self.connect(), work, write=write)

    async def _run(self, client: ClientT, work: Callable[[ClientT], Awaitable[R]], *, write: bool = False) -> R:
        sent = False
        met: Exception | None = None
        try:
            async with asyncio.timeout(self.settings.timeout * _FENCE) as fence:
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
            if isinstance(error, TimeoutError) and fence.expired():
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


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """The parts of a server's `http://…` or `https://…`."""

    secure: bool
    host: str
    port: int | None
    path: str
    user: str | None
    password: SecretStr | None

    @classmethod
    def of(cls, url: SecretStr, connection: str) -> "HttpAddress":
        """ConfigurationError, without any part of the text, when it is none."""
        try:
            parts = urlsplit(url.get_secret_value())
            port = parts.port
            complete = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
        except ValueError:
            complete, port = None, None
        if not complete:
            raise ConfigurationError(
                f"the connection {connection!r}: its url is not the address of a server, http://host:port or "
                "https://host:port; in a password, percent-encode what is not a letter or digit"
            )
        password = None if parts.password is None else SecretStr(unquote(parts.password))
        user = None if parts.username is None else unquote(parts.username)
        return cls(parts.scheme == "https", parts.hostname or "", port, parts.path.rstrip("/"), user, password)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}{self.path}"


async def load_package(module: str, package: str, extra: str) -> ModuleType:
    """Import an optional package off the loop, since some take more than a second."""
    try:
        return await asyncio.to_thread(importlib.import_module, module)
    except ImportError as error:
        raise MissingDependencyError.for_extra(package, extra) from error
