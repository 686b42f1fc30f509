"""The connections of one HTTP client: so many and no more. Imported on use, since httpx is an optional package."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import httpx

if TYPE_CHECKING:
    import ssl

    from ..config.settings import PoolSettings
    from ._http import HttpAddress


_KEPT = 5.0  # seconds that an idle connection is kept, as httpx has it


class PooledTransport(httpx.AsyncBaseTransport):
    """Lets `pool.max_size` requests through at once. Another waits its turn, for `pool.timeout` seconds at the most.

    Each connection is a transport of one connection, which is dropped when its request does not come to its end.
    httpx's own pool keeps what a cancelled request leaves, for good where the moment is unlucky; and it looks at all
    who wait for each who comes, which costs 1,000 callers a second.
    """

    def __init__(self, address: "HttpAddress", pool: "PoolSettings", timeout: float, tls: "ssl.SSLContext") -> None:
        self._size = pool.max_size
        self._wait = min(pool.timeout, timeout)
        self._tls = tls
        self._proxy = _proxy(address)
        self._free = asyncio.Semaphore(pool.max_size)
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._in_use: set[httpx.AsyncHTTPTransport] = set()
        self._waiting = 0
        self._closing: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._enter()
        connection = self._idle.pop() if self._idle else self._new()
        self._in_use.add(connection)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            self.drop(connection)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - of an asynchronous transport
        response.stream = _Body(response.stream, self, connection)
        return response

    async def aclose(self) -> None:
        for connection in [*self._idle, *self._in_use]:
            self._close(connection)
        self._idle.clear()
        while self._closing:
            await asyncio.wait(self._closing)

    def state(self) -> dict[str, int]:
        """Open connections, and callers that wait for one."""
        idle, in_use = len(self._idle), len(self._in_use)
        return {
            "max_size": self._size,
            "size": idle + in_use,
            "idle": idle,
            "in_use": in_use,
            "waiting": self._waiting,
        }

    def keep(self, connection: httpx.AsyncHTTPTransport) -> None:
        """Give back a connection whose request has come to its end."""
        self._in_use.remove(connection)
        self._idle.append(connection)
        self._free.release()

    def drop(self, connection: httpx.AsyncHTTPTransport) -> None:
        """Give back a connection that nobody can go on with."""
        self._in_use.remove(connection)
        self._close(connection)
        self._free.release()

    def _new(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=self._tls, limits=httpx.Limits(max_connections=1, keepalive_expiry=_KEPT), proxy=self._proxy
        )

    def _close(self, connection: httpx.AsyncHTTPTransport) -> None:
        # On a task of its own: the caller's may be cancelled again.
        closing = asyncio.get_running_loop().create_task(connection.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        closing.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may be broken already

    async def _enter(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait):
                await self._free.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"none of {self._size} connections became free in {self._wait:g} s") from None
        finally:
            self._waiting -= 1


class _Body(httpx.AsyncByteStream):
    """The body of an answer, whose end frees the connection."""

    def __init__(
        self, body: httpx.AsyncByteStream, transport: PooledTransport, connection: httpx.AsyncHTTPTransport
    ) -> None:
        self._body = body
        self._transport: PooledTransport | None = transport
        self._connection = connection
        self._whole = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part
        self._whole = True

    async def aclose(self) -> None:
        transport, self._transport = self._transport, None
        if transport is None:
            return
        try:
            await self._body.aclose()
        except BaseException:
            transport.drop(self._connection)
            raise
        (transport.keep if self._whole else transport.drop)(self._connection)


def _proxy(address: "HttpAddress") -> httpx.Proxy | None:
    """The environment's (HTTPS_PROXY, NO_PROXY), which httpx leaves alone once it is given a transport."""
    if proxy_bypass(address.host):
        return None
    found = getproxies()
    url = found.get("https" if address.secure else "http") or found.get("all")
    if not url:
        return None
    return httpx.Proxy(url if "://" in url else f"http://{url}")
