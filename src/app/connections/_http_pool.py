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


class PooledTransport(httpx.AsyncBaseTransport):
    """Lets `pool.max_size` requests through at once. Another waits its turn, for `pool.timeout` seconds at the most.

    The waiting is ours, since httpx's own looks at all who wait for each who comes: 1,000 callers cost it a second.
    """

    def __init__(self, address: "HttpAddress", pool: "PoolSettings", timeout: float, tls: "ssl.SSLContext") -> None:
        self._size = pool.max_size
        self._wait = min(pool.timeout, timeout)
        self._free = asyncio.Semaphore(pool.max_size)
        self._in_use = 0
        self._waiting = 0
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls, limits=httpx.Limits(max_connections=pool.max_size), proxy=_proxy(address)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._enter()
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException:
            self._leave()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - of an asynchronous transport
        response.stream = _Body(response.stream, self)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()

    def state(self) -> dict[str, int]:
        """Open connections, and callers that wait for one."""
        connections = self._transport._pool.connections  # noqa: SLF001 - nothing public tells
        idle = sum(each.is_idle() for each in connections)
        return {
            "max_size": self._size,
            "size": len(connections),
            "idle": idle,
            "in_use": self._in_use,
            "waiting": self._waiting,
        }

    async def _enter(self) -> None:
        if self._free.locked():
            self._waiting += 1
            try:
                async with asyncio.timeout(self._wait):
                    await self._free.acquire()
            except TimeoutError:
                raise httpx.PoolTimeout(f"none of {self._size} connections became free in {self._wait:g} s") from None
            finally:
                self._waiting -= 1
        else:
            await self._free.acquire()
        self._in_use += 1

    def _leave(self) -> None:
        self._in_use -= 1
        self._free.release()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, whose end frees the connection."""

    def __init__(self, body: httpx.AsyncByteStream, transport: PooledTransport) -> None:
        self._body = body
        self._transport: PooledTransport | None = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        transport, self._transport = self._transport, None
        try:
            await self._body.aclose()
        finally:
            if transport is not None:
                transport._leave()  # noqa: SLF001 - the same module


def _proxy(address: "HttpAddress") -> httpx.Proxy | None:
    """The environment's (HTTPS_PROXY, NO_PROXY), which httpx leaves alone once it is given a transport."""
    if proxy_bypass(address.host):
        return None
    found = getproxies()
    url = found.get("https" if address.secure else "http") or found.get("all")
    if not url:
        return None
    return httpx.Proxy(url if "://" in url else f"http://{url}")
