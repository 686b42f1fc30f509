"""A listener that speaks MongoDB's protocol as the primary of a replica set, keeps the commands, and stores nothing.

For what no stand-in can show: the exact commands that are sent, and answers that a test writes.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import bson
from bson.codec_options import CodecOptions

Command: TypeAlias = dict[str, Any]

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_OPTIONS: CodecOptions[Command] = CodecOptions(tz_aware=True, uuid_representation=4)
_HANDSHAKE = frozenset({"hello", "ismaster", "isMaster", "ping", "endSessions", "buildInfo"})


class Wire:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        """What was sent, in order, without greetings."""
        self.answer: Callable[[Command], Any] = lambda _: None
        """The test's own answer; None leaves it to `_usual`."""
        self.single = False
        """Whether it is a server of its own instead, without transactions."""
        self.limits = {"maxBsonObjectSize": 2**24, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}
        self.port = 0

    def take(self) -> list[Command]:
        """What was sent since the last time, as far as the application decides it."""
        taken, self.commands = self.commands, []
        for each in taken:
            for name in ("$db", "lsid", "$clusterTime", "maxTimeMS", "$readPreference"):
                each.pop(name, None)
        return taken

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length, request, _, operation = struct.unpack("<4i", await reader.readexactly(16))
                body = await reader.readexactly(length - 16)
                command = _read(operation, body)
                answer = bson.encode(self._reply(command))
                if operation == _OP_QUERY:
                    payload, kind = struct.pack("<iqii", 8, 0, 0, 1) + answer, _OP_REPLY
                else:
                    payload, kind = struct.pack("<IB", 0, 0) + answer, _OP_MSG
                writer.write(struct.pack("<4i", 16 + len(payload), 0, request, kind) + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _reply(self, command: Command) -> Command:
        name = next(iter(command))
        if name in _HANDSHAKE:
            return self._greeting()
        self.commands.append(command)
        own = self.answer(command)
        return {"ok": 1, **(_usual(name, command) if own is None else own)}

    def _greeting(self) -> Command:
        member = {} if self.single else {"setName": "rs0", "hosts": [f"127.0.0.1:{self.port}"]}
        known = {"helloOk": True, "isWritablePrimary": True, "ismaster": True, "logicalSessionTimeoutMinutes": 30}
        return {
            "ok": 1,
            "minWireVersion": 0,
            "maxWireVersion": 25,
            "version": "8.0.0",
            **known,
            **self.limits,
            **member,
        }


def _usual(name: str, command: Command) -> Command:
    match name:
        case "insert":
            return {"n": len(command["documents"])}
        case "update":
            return {"n": len(command["updates"]), "nModified": len(command["updates"])}
        case "delete":
            return {"n": 1}
        case "find" | "aggregate":
            return {"cursor": {"id": 0, "ns": f"app.{command[name]}", "firstBatch": []}}
        case "findAndModify":
            return {"value": None}
    return {}


def found(*documents: Command, cursor: int = 0) -> Command:
    return {"cursor": {"id": cursor, "ns": "app.any", "firstBatch": list(documents)}}


def _read(operation: int, body: bytes) -> Command:
    if operation == _OP_QUERY:
        return bson.decode(body[body.index(b"\0", 4) + 9 :], _OPTIONS)
    command: Command = {}
    position = 4
    while position < len(body):
        kind = body[position]
        [size] = struct.unpack_from("<i", body, position + 1)
        section = body[position + 1 : position + 1 + size]
        position += 1 + size
        if kind == 0:
            command = {**bson.decode(section, _OPTIONS), **command}
        else:
            end = section.index(b"\0", 4)
            command[section[4:end].decode()] = bson.decode_all(section[end + 1 :], _OPTIONS)
    # The section with the name of the command comes first, whatever follows it.
    return command


@asynccontextmanager
async def listening() -> AsyncIterator[Wire]:
    wire = Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await server.wait_closed()
