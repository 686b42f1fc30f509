"""A pooler in front of PostgreSQL as pgbouncer is in transaction mode: each transaction goes to another session.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

SSL, GSS, CANCEL, VERSION = 80877103, 80877104, 80877102, 196608
REFUSED = b"SFATAL\0C08P01\0Munsupported startup parameter: %s\0\0"


@dataclass(eq=False)
class Session:
    """One of the server's."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parameters: bytes = b""
    """What it told of itself, as it stood in its messages."""
    key: bytes = b""


@dataclass(eq=False)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    session: Session | None = None
    awaited: int = 0
    """How often the server has to say that it is ready, until everything that was sent is answered."""
    relay: "asyncio.Task[None] | None" = None


@dataclass
class Pooler:
    socket: Path
    options: str
    """Of the sessions; what a client asks for is refused."""
    size: int = 3
    port: int = 0
    transactions: int = 0
    idle: "deque[Session]" = field(default_factory=deque)
    _free: asyncio.Condition = field(default_factory=asyncio.Condition)
    _clients: dict[bytes, Client] = field(default_factory=dict)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pooler"]:
        for _ in range(self.size):
            self.idle.append(await self._session())
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for session in self.idle:
                session.writer.close()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable"

    async def _session(self) -> Session:
        session = Session(*await asyncio.open_unix_connection(str(self.socket)))
        given = {"user": "postgres", "database": "postgres", "options": self.options}
        body = b"".join(f"{key}\0{value}\0".encode() for key, value in given.items()) + b"\0"
        session.writer.write(struct.pack("!ii", len(body) + 8, VERSION) + body)
        while True:
            kind, raw = await message(session.reader)
            assert kind != b"E", raw
            if kind == b"S":
                session.parameters += raw
            elif kind == b"K":
                session.key = raw[5:]
            elif kind == b"Z":
                return session

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Client(reader, writer)
        try:
            if await self._greet(client):
                await self._serve(client)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            if client.relay is not None:
                client.relay.cancel()
            session, client.session = client.session, None
            writer.close()
            if session is not None:  # in the middle of something
                session.writer.close()
                await self._take_back(await self._session())

    async def _greet(self, client: Client) -> bool:
        while True:
            length, code = struct.unpack("!ii", await client.reader.readexactly(8))
            body = await client.reader.readexactly(length - 8)
            if code not in (SSL, GSS):
                break
            client.writer.write(b"N")
        if code == CANCEL:
            await self._cancel(body)
            return False
        names = body.split(b"\0")[0:-2:2]
        for name in names:
            if name not in (b"user", b"database", b"application_name", b"client_encoding"):
                text = REFUSED % name
                client.writer.write(b"E" + struct.pack("!i", len(text) + 4) + text)
                return False
        key = struct.pack("!ii", len(self._clients) + 1, 7)
        self._clients[key] = client
        hello = b"R\0\0\0\x08\0\0\0\0" + self._any().parameters + b"K\0\0\0\x0c" + key + b"Z\0\0\0\x05I"
        client.writer.write(hello)
        return True

    def _any(self) -> Session:
        return next(iter(self.idle), None) or next(each.session for each in self._clients.values() if each.session)

    async def _serve(self, client: Client) -> None:
        while True:
            kind, raw = await message(client.reader)
            if kind == b"X":
                return
            if client.session is None:
                client.session = await self._take()
                client.relay = asyncio.create_task(self._relay(client, client.session))
            client.awaited += kind in (b"Q", b"S")
            client.session.writer.write(raw)
            await client.session.writer.drain()

    async def _relay(self, client: Client, session: Session) -> None:
        while True:
            kind, raw = await message(session.reader)
            client.writer.write(raw)
            if kind == b"Z":
                client.awaited -= 1
                if raw[5:] == b"I" and client.awaited == 0:
                    client.session = None
                    self.transactions += 1
                    await self._take_back(session)
                    return

    async def _take(self) -> Session:
        """The one that was idle for the longest, so it is another than the last time."""
        async with self._free:
            await self._free.wait_for(lambda: self.idle)
            return self.idle.popleft()

    async def _take_back(self, session: Session) -> None:
        async with self._free:
            self.idle.append(session)
            self._free.notify()

    async def _cancel(self, key: bytes) -> None:
        client = self._clients[key]
        if client.session is not None:
            _, writer = await asyncio.open_unix_connection(str(self.socket))
            writer.write(struct.pack("!ii", 16, CANCEL) + client.session.key)
            await writer.drain()
            writer.close()


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Its kind, and all of it."""
    head = await reader.readexactly(5)
    [length] = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)
