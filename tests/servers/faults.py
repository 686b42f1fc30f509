"""Servers to test with: real ones from wheels, and an address of ours in front of them that goes away or silent."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SECRET = "hunter2swordfish"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Process:
    """A server in a process of its own, ended by its id."""

    def __init__(self, command: list[str], port: int, directory: Path) -> None:
        self.port = port
        self._command = command
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._directory / "output").read_text()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError(self._command)

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class Gate:
    """An address on this machine that serves, is silent, hangs up, or is not there."""

    def __init__(self, serve: Serve) -> None:
        self.port = free_port()
        self.mode: Literal["open", "silent", "hang up"] = "open"
        self.connections = 0
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def open(self) -> None:
        self.mode = "open"
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Refuse new connections, and break those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.break_connections()

    async def break_connections(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        try:
            if self.mode != "hang up":
                await self._serve(_Watched(reader, self), writer)  # type: ignore[arg-type]
        except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


class _Watched:
    """A reader that waits while its gate is silent."""

    def __init__(self, reader: asyncio.StreamReader, gate: Gate) -> None:
        self._reader = reader
        self._gate = gate

    async def _pass(self, data: bytes) -> bytes:
        while self._gate.mode == "silent":  # noqa: ASYNC110 - rare, and simple
            await asyncio.sleep(0.01)
        return data

    async def read(self, size: int) -> bytes:
        return await self._pass(await self._reader.read(size))

    async def readuntil(self, separator: bytes) -> bytes:
        return await self._pass(await self._reader.readuntil(separator))

    async def readexactly(self, size: int) -> bytes:
        return await self._pass(await self._reader.readexactly(size))


def forward(to: int | Callable[[], Awaitable[Streams]], seen: bytearray | None = None) -> Serve:
    """Pass everything to a port of this machine, or whatever opens, and the answers back; `seen` gets what is sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await (asyncio.open_connection("127.0.0.1", to) if isinstance(to, int) else to())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, server_writer, seen))
                group.create_task(_pump(server_reader, writer))
        except* (ConnectionError, _EndedError):
            pass
        finally:
            server_writer.close()

    return serve


class _EndedError(Exception):
    pass


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray | None = None) -> None:
    while data := await reader.read(65536):
        if seen is not None:
            seen += data
        writer.write(data)
        await writer.drain()
    raise _EndedError
