"""A small HTTP server of ours, which answers what a Qdrant server answers to the questions that connecting asks."""

import asyncio
import json
from typing import Any

from .faults import Serve


class FakeQdrant:
    """Not Qdrant: there is no server of it in a wheel. The client is the real one, and so are the faults."""

    def __init__(self, api_key: str | None = None) -> None:
        self.api_key = api_key
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[tuple[str, str, bytes]] = []
        """The method, the target and the body of each request."""

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        self.requests.append((path, headers))
        if self.api_key is not None and headers.get("api-key") != self.api_key and path != "/":
            return 401, {"status": {"error": "Must provide an API key"}}
        if path == "/":
            return 200, {"title": "qdrant - vector search engine", "version": "1.16.0"}
        if path == "/collections":
            return 200, {"result": {"collections": []}, "status": "ok", "time": 0.0}
        return 404, {"status": {"error": "Not found"}}


def serving(application: FakeQdrant) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = first.split()
            application.bodies.append((method, target, body))
            status, answer = application.answer(target, headers)
            content = json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n".encode())
            writer.write(f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
            await writer.drain()

    return serve
