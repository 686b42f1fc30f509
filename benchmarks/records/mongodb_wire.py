"""Enough of MongoDB to measure its clients: the wire protocol, in front of dicts. `python mongodb_wire.py PORT`.

It answers as a replica set of one, to the commands that the sides send and to no other. How fast it is says nothing of
MongoDB. The stand-in that the tests use stores a datetime of `$set` as text, which is nothing to compare with.
"""

import asyncio
import itertools
import struct
import sys
from collections.abc import Iterator
from typing import Any

import bson
from bson.codec_options import CodecOptions

Document = dict[str, Any]
_HEADER = struct.Struct("<iiii")
_MESSAGE, _QUERY, _REPLY = 2013, 2004, 1
_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True)
_INDEXED = ("sku", "category")


class Collection:
    def __init__(self) -> None:
        self.documents: dict[Any, Document] = {}
        self._entries: dict[tuple[str, Any], dict[Any, Document]] = {}

    def put(self, document: Document) -> None:
        self.remove(document["_id"])
        self.documents[document["_id"]] = document
        for name in _INDEXED:
            self._entries.setdefault((name, document.get(name)), {})[document["_id"]] = document

    def remove(self, key: Any) -> None:
        document = self.documents.pop(key, None)
        if document is not None:
            for name in _INDEXED:
                del self._entries[name, document.get(name)][key]

    def is_taken(self, document: Document) -> bool:
        entries = self._entries.get(("sku", document["sku"]), {})
        return document["_id"] in self.documents or bool(entries.keys() - {document["_id"]})

    def find(self, query: Document) -> Iterator[Document]:
        found = self.documents
        for name, value in query.items():
            if name == "_id":
                found = {value: self.documents[value]} if value in self.documents else {}
            elif name in _INDEXED:
                found = self._entries.get((name, value), {})
        for document in list(found.values()):
            if all(_meets(document.get(name), value) for name, value in query.items()):
                yield document

    def change(self, query: Document, update: Document, *, upsert: bool) -> Document | None:
        found = next(self.find(query), None)
        if found is None and not upsert:
            return None
        inserted = {**query, **update.pop("$setOnInsert", {})} if found is None else found
        if update.keys() - {"$set", "$setOnInsert"}:
            raise NotImplementedError(f"an update with {', '.join(update)}")
        self.put({**inserted, **update.get("$set", {})})
        return self.documents[inserted["_id"]]


def _meets(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        raise NotImplementedError(f"a query with {', '.join(wanted)}")
    return bool(value == wanted)


class Server:
    def __init__(self, port: int) -> None:
        self._address = f"127.0.0.1:{port}"
        self._collections: dict[tuple[str, str], Collection] = {}
        self._numbers = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length, request, _, kind = _HEADER.unpack(await reader.readexactly(16))
                body = await reader.readexactly(length - 16)
                answer = self._answer(kind, body)
                number = next(self._numbers)
                reply = _REPLY if kind == _QUERY else _MESSAGE
                writer.write(_HEADER.pack(16 + len(answer), number, request, reply) + answer)
        except asyncio.IncompleteReadError:
            writer.close()

    def _answer(self, kind: int, body: bytes) -> bytes:
        if kind == _QUERY:  # the first greeting
            start = body.index(b"\0", 4) + 9
            return struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(self._run(bson.decode(body[start:])))
        return b"\0\0\0\0\0" + bson.encode(self._run(_read_message(body)))

    def _run(self, command: Document) -> Document:
        name = next(iter(command))
        method = getattr(self, f"_on_{name.lower()}", self._on_another)
        try:
            return {**method(command), "ok": 1.0}
        except NotImplementedError as error:
            return {"ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": f"not in this stand-in: {error}"}

    def _on_another(self, command: Document) -> Document:
        raise NotImplementedError(f"the command {next(iter(command))}")

    def _on_hello(self, _: Document) -> Document:
        limits = {"maxBsonObjectSize": 2**24, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}
        replica_set = {"setName": "bench", "hosts": [self._address], "primary": self._address, "me": self._address}
        wire = {"minWireVersion": 0, "maxWireVersion": 25, "logicalSessionTimeoutMinutes": 30}
        return {"helloOk": True, "isWritablePrimary": True, "ismaster": True, **limits, **replica_set, **wire}

    _on_ismaster = _on_hello

    def _on_ping(self, _: Document) -> Document:
        return {}

    _on_endsessions = _on_createindexes = _on_committransaction = _on_ping

    def _on_buildinfo(self, _: Document) -> Document:
        return {"version": "8.0.0", "versionArray": [8, 0, 0, 0]}

    def _on_listcollections(self, command: Document) -> Document:
        return _cursor(command, [])

    _on_listindexes = _on_listcollections

    def _on_aggregate(self, command: Document) -> Document:
        match command["pipeline"]:
            case [{"$match": query}, *limit, {"$group": {"_id": 1, "n": {"$sum": 1}}}]:
                number = sum(1 for _ in self._collection(command, "aggregate").find(query))
                number = min([number, *(each["$limit"] for each in limit)])
                return _cursor(command, [{"_id": 1, "n": number}] if number else [])
        raise NotImplementedError("a pipeline that is no count")

    def _on_find(self, command: Document) -> Document:
        found = list(self._collection(command, "find").find(command["filter"]))
        for name, direction in reversed(command.get("sort", {}).items()):
            found.sort(key=lambda each, name=name: each[name], reverse=direction < 0)
        found = found[: command.get("limit") or None]
        wanted = command.get("projection")
        if wanted:
            found = [{name: each[name] for name in wanted if name in each} for each in found]
        return _cursor(command, found)

    def _on_insert(self, command: Document) -> Document:
        collection = self._collection(command, "insert")
        for at, document in enumerate(command["documents"]):
            if collection.is_taken(document):
                error = {"index": at, "code": 11000, "errmsg": "E11000 duplicate key", "keyPattern": {"sku": 1}}
                return {"n": at, "writeErrors": [error]}
            collection.put(document)
        return {"n": len(command["documents"])}

    def _on_update(self, command: Document) -> Document:
        collection = self._collection(command, "update")
        upserted = []
        for at, each in enumerate(command["updates"]):
            before = len(collection.documents)
            changed = collection.change(each["q"], each["u"], upsert=each.get("upsert", False))
            if len(collection.documents) > before and changed is not None:
                upserted.append({"index": at, "_id": changed["_id"]})
        number = len(command["updates"])
        return {"n": number, "nModified": number - len(upserted), **({"upserted": upserted} if upserted else {})}

    def _on_findandmodify(self, command: Document) -> Document:
        collection = self._collection(command, "findAndModify")
        return {"value": collection.change(command["query"], command["update"], upsert=command.get("upsert", False))}

    def _on_delete(self, command: Document) -> Document:
        collection = self._collection(command, "delete")
        number = 0
        for each in command["deletes"]:
            for document in itertools.islice(collection.find(each["q"]), each["limit"] or None):
                collection.remove(document["_id"])
                number += 1
        return {"n": number}

    def _collection(self, command: Document, name: str) -> Collection:
        return self._collections.setdefault((command["$db"], command[name]), Collection())


def _cursor(command: Document, documents: list[Document]) -> Document:
    namespace = f"{command['$db']}.{next(iter(command.values()))}"
    return {"cursor": {"id": 0, "ns": namespace, "firstBatch": documents}}


def _read_message(body: bytes) -> Document:
    """The command of an OP_MSG, with its sequences of documents put where they belong."""
    command: Document = {}
    at = 4
    while at < len(body):
        kind = body[at]
        (size,) = struct.unpack_from("<i", body, at + 1)
        if kind == 0:
            command = {**bson.decode(body[at + 1 : at + 1 + size], _CODEC), **command}
        else:
            name_end = body.index(b"\0", at + 5)
            command[body[at + 5 : name_end].decode()] = bson.decode_all(body[name_end + 1 : at + 1 + size], _CODEC)
        at += 1 + size
    return command


async def main(port: int) -> None:
    server = await asyncio.start_server(Server(port).serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
