"""A local server that speaks the embedding APIs of OpenAI, Cohere and Ollama, and fails as it is told to."""

import base64
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

KEY = "sk-hunter2swordfish"

Trouble = Literal["drop", "short", "nan", "ragged", "garbage", "silent"]


@dataclass
class Status:
    """An answer that is no success. Like real ones it repeats the key it was sent."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = "some_error"


def vector_of(text: str, model: str, kind: str = "", dimension: int | None = None) -> list[float]:
    digest = sha256(f"{model}/{kind}/{text}".encode()).digest()
    return [struct.unpack("<f", struct.pack("<f", byte / 255 + 0.01))[0] for byte in digest[: dimension or 8]]


class EmbeddingApi:
    """`plan` is what happens to the next requests, one each; after it all is well."""

    def __init__(self) -> None:
        self.plan: deque[Status | Trouble] = deque()
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: set[str] = set()
        self.busy = self.most_busy = 0
        self.latency = 0.0
        self.lock = threading.Lock()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with api.lock:
                    api.requests.append(body)
                    api.times.append(time.monotonic())
                    api.keys.add(self.headers.get("authorization", ""))
                    api.busy += 1
                    api.most_busy = max(api.most_busy, api.busy)
                    trouble = api.plan.popleft() if api.plan else None
                try:
                    time.sleep(api.latency)
                    self.answer(body, trouble)
                finally:
                    with api.lock:
                        api.busy -= 1

            def answer(self, body: dict[str, Any], trouble: Status | Trouble | None) -> None:
                if trouble == "drop":
                    self.close_connection = True
                    return
                if trouble == "silent":
                    time.sleep(1)
                    self.close_connection = True
                    return
                if isinstance(trouble, Status):
                    message = f"no: {self.headers.get('authorization')}"
                    self.send(trouble.code, {"error": {"message": message, "code": trouble.error}}, trouble.headers)
                elif trouble == "garbage":
                    self.send(200, ["?"])
                else:
                    self.send(200, answer_to(self.path, body, trouble))

            def send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing is to be printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer_to(path: str, body: dict[str, Any], trouble: Trouble | None) -> dict[str, Any]:
    model = body["model"]
    if path == "/v1/embeddings":
        texts, kind, dimension = body["input"], "", body.get("dimensions")
        assert len(texts) <= 2_048
        assert sum(len(text.encode()) for text in texts) <= 300_000
    elif path == "/v2/embed":
        texts, kind, dimension = body["texts"], body["input_type"], body.get("output_dimension")
        assert len(texts) <= 96
    else:
        assert path == "/api/embed"
        texts, kind, dimension = body["input"], "", None
    vectors = troubled([vector_of(text, model, kind, dimension) for text in texts], trouble)
    tokens = sum(len(text.split()) for text in texts)
    if path == "/api/embed":
        return {"model": model, "embeddings": vectors}
    if path == "/v2/embed":
        return {
            "id": "1",
            "texts": texts,
            "embeddings": {"float": vectors},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}},
        }
    assert body["encoding_format"] == "base64"
    data = [
        {"object": "embedding", "index": n, "embedding": base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode()}
        for n, v in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "usage": usage, "data": data[::-1]}


def troubled(vectors: list[list[float]], trouble: Trouble | None) -> list[list[float]]:
    if trouble == "short":
        return vectors[:-1]
    if trouble == "nan":
        vectors[-1][0] = float("nan")
    if trouble == "ragged":
        vectors[-1].append(1.0)
    return vectors
