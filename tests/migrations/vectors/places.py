"""The vector stores that are migrated: what is in them, in one shape for all four."""

import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from qdrant_client import models

from app.connections.base import ConnectionManager
from app.db import DataLayer
from app.db.migrations.ledger import LEDGER
from app.db.migrations.runner import StepMigrator
from app.db.migrations.store import MigrationStore, MigrationStoreRegistry
from app.db.migrations.stores._generations import LOCK
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.qdrant import QdrantVectorStore

from ...vector.planned import Planned, doc

KINDS = ("qdrant embedded", "qdrant server", "chroma directory", "chroma server")
TIMES = ("started_at", "finished_at", "duration")


@dataclass
class Place:
    kind: str
    section: dict[str, Any]
    path: Path

    @property
    def store(self) -> str:
        return "qdrant" if self.kind.startswith("qdrant") else "chromadb"

    @property
    def is_server(self) -> bool:
        return self.kind.endswith("server")

    @property
    def config(self) -> dict[str, Any]:
        return {
            "data_dir": str(self.path),
            "connections": {self.store: self.section},
            "migrations": {"path": str(self.path / "migrations")},
        }

    @property
    def directory(self) -> Path:
        return self.path / "migrations" / self.store

    def layer(self) -> DataLayer:
        return DataLayer.from_config(self.config)

    def write(self, name: str, up: str, down: str = "") -> Path:
        """A file with the bodies of `up` and `down`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        body = "".join(
            f"    def {method}(self) -> None:\n{textwrap.indent(textwrap.dedent(text).strip(), ' ' * 8)}\n\n"
            for method, text in (("up", up), ("down", down))
            if text
        )
        file = self.directory / f"{name}.py"
        file.write_text(f"from app.db.migrations import Migration\n\n\nclass It(Migration):\n{body}", "utf-8")
        return file

    def migration_store(self, data: DataLayer) -> MigrationStore:
        return MigrationStoreRegistry.get(self.store)(data.connection(self.store), {})

    def migrator(self, data: DataLayer, *, wait: float = 30, lease: float = 15) -> StepMigrator:
        return StepMigrator(self.store, self.directory, self.migration_store(data), wait=wait, lease=lease)

    async def seed(self, data: DataLayer, rows: dict[str, dict[str, Any]]) -> None:
        """A collection `documents` with these rows, as a vector store of ours makes it where there is one."""
        manager: Any = data.connection(self.store)
        vectors = [[1.0, n, 0.5, 2.0] for n in range(len(rows))]
        match self.kind:
            case "qdrant embedded":
                store = QdrantVectorStore(manager, EmbeddingModel.of(Planned()), collection="documents")
                await store.save_and_embed(None, [doc(f"text of {name}", row, name) for name, row in rows.items()])
            case "qdrant server":
                params = models.VectorParams(size=4, distance=models.Distance.COSINE)
                await manager.write(lambda client: client.create_collection("documents", vectors_config=params))
                points = [
                    models.PointStruct(id=n, vector=vector, payload={"name": name, **row})
                    for n, (vector, (name, row)) in enumerate(zip(vectors, rows.items(), strict=True))
                ]
                if points:
                    await manager.write(lambda client: client.upsert("documents", points))
            case _:
                await self._chroma(data, "create_collection", "documents", embedding_function=None)
                options = {"embeddings": vectors, "metadatas": list(rows.values()), "documents": list(rows)}
                await self._of_chroma(data, "documents", "upsert", ids=list(rows), **options)

    async def rows(self, data: DataLayer, name: str = "documents") -> dict[str, dict[str, Any]]:
        """Row id → metadata, as their readers see them."""
        manager: Any = data.connection(self.store)
        match self.kind:
            case "qdrant embedded":
                store = QdrantVectorStore(manager, EmbeddingModel.of(Planned()), collection=name)
                return {document.id or "": document.metadata async for document in store.documents()}
            case "qdrant server":
                points = [point async for point in _points(manager, name)]
                return {point.payload.pop("name", point.id): point.payload for point in points}
            case _:
                found = await self._of_chroma(data, name, "get")
                return dict(zip(found["ids"], found["metadatas"], strict=True))

    async def state(self, data: DataLayer) -> dict[str, Any]:
        """Everything but times: points with vectors and payload, indexes, contracts and the ledger."""
        entries = [entry.to_document() for entry in await self.migration_store(data).read_entries()]
        ledger = sorted(
            ({name: value for name, value in entry.items() if name not in TIMES} for entry in entries),
            key=lambda entry: str(entry["name"]),
        )
        return {"ledger": ledger, "collections": await self.collections(data)}

    async def collections(self, data: DataLayer) -> dict[str, Any]:
        manager: Any = data.connection(self.store)
        match self.kind:
            case "qdrant embedded":
                engine = await manager.engine()
                return dict(await engine.read(lambda each: {name: _embedded(each, name) for name in each.names()}))
            case "qdrant server":
                names = (await manager.read(lambda client: client.get_collections())).collections
                return {each.name: await _served(manager, each.name) for each in names if _is_users(each.name)}
            case _:
                there = await self._chroma(data, "list_collections")
                return {each.name: await self._described(data, each) for each in there if _is_users(each.name)}

    async def drop_everything(self, data: DataLayer) -> None:
        """On a server, which the next test shares."""
        manager: Any = data.connection(self.store)
        if self.kind == "qdrant server":
            for each in (await manager.read(lambda client: client.get_collections())).collections:
                await manager.write(lambda client, name=each.name: client.delete_collection(name))
        elif self.is_server:
            for each in await self._chroma(data, "list_collections"):
                await self._chroma(data, "delete_collection", each.name)

    async def names(self, data: DataLayer) -> list[str]:
        """Of all collections of a server, ledger and lock among them."""
        manager: Any = data.connection(self.store)
        if self.kind == "qdrant server":
            return [each.name for each in (await manager.read(lambda client: client.get_collections())).collections]
        return [each.name for each in await self._chroma(data, "list_collections")]

    async def _described(self, data: DataLayer, collection: Any) -> dict[str, Any]:
        found = await self._of_chroma(data, collection.name, "get", include=["metadatas", "embeddings", "documents"])
        rows = zip(found["ids"], found["embeddings"], found["metadatas"], found["documents"], strict=True)
        return {
            "made": (collection.metadata, collection.configuration_json["hnsw"]["space"]),
            "points": {row[0]: ([float(number) for number in row[1]], *row[2:]) for row in rows},
        }

    async def _chroma(self, data: DataLayer, method: str, *arguments: Any, **options: Any) -> Any:
        manager: Any = data.connection(self.store)
        if self.is_server:
            return await manager.write(lambda client: getattr(client, method)(*arguments, **options))
        return await (await manager.connect()).write(lambda client: getattr(client, method)(*arguments, **options))

    async def _of_chroma(self, data: DataLayer, name: str, method: str, **options: Any) -> Any:
        manager: Any = data.connection(self.store)
        if not self.is_server:
            engine = await manager.connect()
            return await engine.write(
                lambda client: getattr(client.get_collection(name, embedding_function=None), method)(**options)
            )
        there = await self._chroma(data, "get_collection", name, embedding_function=None)
        return await manager.write(lambda _: getattr(there, method)(**options))


class Program:
    """`program.py`, which keeps everything imported."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.program"],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, place: Place, *commands: str, statement: int = 0) -> dict[str, Any]:
        return self.run_many(place, *commands, statement=statement, processes=1)[0]

    def run_many(self, place: Place, *commands: str, processes: int, statement: int = 0) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        where = (place.kind, place.section, str(place.path))
        line = {"place": where, "commands": commands, "statement": statement, "processes": processes}
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)


def _is_users(name: str) -> bool:
    return not name.startswith((LEDGER, LOCK))


def _embedded(collections: Any, name: str) -> dict[str, Any]:
    import qdrant_edge  # noqa: PLC0415

    shard = collections.shard(name)
    records, following = shard.scroll(qdrant_edge.ScrollRequest(limit=1000, with_payload=True, with_vector=True))
    assert following is None
    points = {str(each.id): (each.vector, _in_no_order(each.payload)) for each in records}
    schema = {path: str(index.data_type) for path, index in shard.info().payload_schema.items()}
    return {"made": collections.contract(name), "points": points, "indexes": schema}


def _in_no_order(payload: dict[str, Any]) -> dict[str, Any]:
    """Without the time, and what is empty, and with what a rename moves behind the others."""
    read: dict[str, Any] = {}
    if "at" in payload:
        read = {"metadata": json.loads(payload["metadata"]), "terms": sorted(payload["terms"])}
    elif "row" in payload:
        *ids, _, metadata = payload["row"].split("\0")
        read = {"row": [*ids, json.loads(metadata)], "terms": sorted(payload["terms"])}
    return {name: value for name, value in {**payload, **read}.items() if name != "at" and value != {}}


async def _served(manager: ConnectionManager[Any], name: str) -> dict[str, Any]:
    info = await manager.read(lambda client: client.get_collection(name))  # type: ignore[attr-defined]
    points = {point.id: (point.vector, point.payload) async for point in _points(manager, name)}
    schema = {path: str(index.data_type) for path, index in info.payload_schema.items()}
    return {"made": (info.config.params.vectors, info.config.metadata), "points": points, "indexes": schema}


async def _points(manager: Any, name: str) -> Any:
    records, following = await manager.read(
        lambda client: client.scroll(name, limit=1000, with_payload=True, with_vectors=True)
    )
    assert following is None
    for each in records:
        yield each
