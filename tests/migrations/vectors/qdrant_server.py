"""A small HTTP server in front of the client's own engine in memory, since no Qdrant server comes in a wheel.

It speaks what migrations need of Qdrant's REST interface, to any number of processes: one statement after the other.
Beside it are payload indexes, which that engine does not keep. `python qdrant_server.py PORT`.
"""

import asyncio
import json
import re
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from qdrant_client import AsyncQdrantClient, models

Answer = Awaitable[Any]


class Server:
    def __init__(self) -> None:
        self._engine = AsyncQdrantClient(":memory:")
        self._indexes: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self._turn = asyncio.Lock()
        self._routes: list[tuple[str, str, Callable[[str, Any], Answer]]] = [
            ("GET", "/collections", lambda *_: self._engine.get_collections()),
            ("GET", "/aliases", lambda *_: self._engine.get_aliases()),
            ("PUT", "/collections/N", self._create),
            ("GET", "/collections/N", self._describe),
            ("DELETE", "/collections/N", self._drop),
            ("PUT", "/collections/N/index", self._index),
            ("DELETE", "/collections/N/index/N", self._drop_index),
            ("PUT", "/collections/N/points", self._upsert),
            ("POST", "/collections/N/points", self._retrieve),
            ("POST", "/collections/N/points/scroll", self._scroll),
            ("POST", "/collections/N/points/count", lambda name, _: self._engine.count(name)),
            ("POST", "/collections/N/points/batch", self._batch),
            ("POST", "/collections/N/points/delete", self._delete),
        ]

    async def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        path = target.partition("?")[0]
        for known, pattern, act in self._routes:
            found = re.fullmatch(pattern.replace("N", "([^/]+)"), path)
            if method == known and found:
                names = found.groups()
                if names and (method, pattern) != ("PUT", "/collections/N"):
                    if not await self._engine.collection_exists(names[0]):
                        return 404, {"status": {"error": f"Not found: Collection `{names[0]}` doesn't exist!"}}
                elif names and await self._engine.collection_exists(names[0]):
                    return 409, {"status": {"error": f"Wrong input: Collection `{names[0]}` already exists!"}}
                async with self._turn:
                    try:
                        result = await act(names[0] if names else "", body if len(names) < 2 else names[1])
                    except ValueError as error:
                        return 400, {"status": {"error": str(error)}}
                return 200, {"result": _plain(result), "status": "ok", "time": 0.0}
        return 404, {"status": {"error": f"{method} {path}"}}

    async def _create(self, name: str, body: Any) -> bool:
        asked = models.CreateCollection.model_validate(body)
        return await self._engine.create_collection(name, vectors_config=asked.vectors, metadata=asked.metadata)

    async def _describe(self, name: str, _: Any) -> Any:
        info = _plain(await self._engine.get_collection(name))
        schema = {path: {"data_type": kind, "points": 0} for path, kind in self._indexes[name].items()}
        return {**info, "payload_schema": schema}

    async def _drop(self, name: str, _: Any) -> bool:
        self._indexes.pop(name, None)
        return await self._engine.delete_collection(name)

    async def _index(self, name: str, body: Any) -> Any:
        self._indexes[name][body["field_name"]] = body["field_schema"]
        return _DONE

    async def _drop_index(self, name: str, path: Any) -> Any:
        del self._indexes[name][path]
        return _DONE

    async def _upsert(self, name: str, body: Any) -> Any:
        return await self._engine.upsert(name, models.PointsList.model_validate(body).points)

    async def _retrieve(self, name: str, body: Any) -> Any:
        return await self._engine.retrieve(name, body["ids"], with_vectors=bool(body.get("with_vector")))

    async def _scroll(self, name: str, body: Any) -> Any:
        points, following = await self._engine.scroll(
            name, limit=body["limit"], offset=body.get("offset"), with_vectors=bool(body.get("with_vector"))
        )
        return {"points": _plain(points), "next_page_offset": following}

    async def _batch(self, name: str, body: Any) -> Any:
        operations = models.UpdateOperations.model_validate(body).operations
        return await self._engine.batch_update_points(name, operations)

    async def _delete(self, name: str, body: Any) -> Any:
        return await self._engine.delete(name, body["points"])


_DONE = {"operation_id": 0, "status": "completed"}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return json.loads(value.model_dump_json()) if hasattr(value, "model_dump_json") else value


async def main(port: int) -> None:
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, target, _ = first.split()
                status, answer = await server.answer(method, target, json.loads(body) if body else {})
                content = json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n".encode())
                writer.write(f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
