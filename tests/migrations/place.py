"""A store with migrations: their files, their runner, and all that the store holds."""

import contextlib
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.connections.base import ConnectionManager
from app.db import DataLayer
from app.db.migrations.ledger import LEDGER
from app.db.migrations.runner import StepMigrator
from app.db.migrations.schemas import schemas_on
from app.db.migrations.store import MigrationStore, MigrationStoreRegistry

HEAD = """
from datetime import UTC, datetime
from decimal import Decimal
from app.db.migrations import Migration
"""


@dataclass
class Place:
    store: str
    section: dict[str, Any]
    path: Path

    @property
    def config(self) -> dict[str, Any]:
        return {
            "data_dir": str(self.path),
            "connections": {self.store: self.section},
            "repositories": {"user": {"connection": self.store}, "signup_session": {"connection": self.store}},
            "migrations": {"path": str(self.path / "migrations")},
        }

    @property
    def directory(self) -> Path:
        return self.path / "migrations" / self.store

    def write(self, name: str, up: str, down: str = "", *, before: str = "") -> Path:
        """A file with the bodies of `up` and `down`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        body = "".join(
            f"    def {method}(self) -> None:\n{textwrap.indent(textwrap.dedent(text).strip(), ' ' * 8)}\n\n"
            for method, text in (("up", up), ("down", down))
            if text
        )
        file = self.directory / f"{name}.py"
        file.write_text(f"{HEAD}\n{textwrap.dedent(before)}\n\nclass It(Migration):\n{body}", "utf-8")
        return file

    def migrator(self, data: DataLayer, *, wait: float = 30, lease: float = 15) -> StepMigrator:
        return StepMigrator(self.store, self.directory, self.migration_store(data), wait=wait, lease=lease)

    def migration_store(self, data: DataLayer) -> MigrationStore:
        manager = data.connection(self.store)
        return MigrationStoreRegistry.get(self.store)(manager, schemas_on(data, manager))


async def put(manager: Any, collection: str, *documents: dict[str, Any]) -> None:
    """Store documents as they stand: those of Redis as JSON text, the id of each in `id`."""
    if manager.connection_type == "redis":
        client = await manager.connect()
        pipeline = client.pipeline()
        for each in documents:
            text = each.get("text") or _json(each)
            pipeline.set(f"{collection}:{each['id']}", text)
        await pipeline.execute()
        return
    await manager.connect()
    stored = [{("_id" if name == "id" else name): value for name, value in each.items()} for each in documents]
    await manager.get_database()[collection].insert_many(stored)


def _json(document: dict[str, Any]) -> str:
    from app.db.backends._json import encode_json  # noqa: PLC0415

    return encode_json(document)


async def rows(manager: Any, collection: str) -> dict[Any, dict[str, Any]]:
    """The documents by id, in no order, without it."""
    from app.db.backends._json import decode_json  # noqa: PLC0415

    if manager.connection_type == "redis":
        client = await manager.connect()
        names = [name async for name in client.scan_iter(match=f"{collection}:*", count=1000)]
        texts = [text for at in range(0, len(names), 1000) for text in await client.mget(names[at : at + 1000])]
        found = {name.partition(":")[2]: decode_json(text) for name, text in zip(names, texts, strict=True)}
        return {id_text: {k: v for k, v in each.items() if k != "id"} for id_text, each in found.items()}
    await manager.connect()
    documents = await manager.get_database()[collection].find().to_list()
    return {each.pop("_id"): each for each in documents}


async def everything(manager: ConnectionManager[Any]) -> dict[str, Any]:
    """All that the store holds, the times in the ledger left out."""
    known: Any = manager
    if manager.connection_type == "redis":
        return await _all_keys(known)
    await known.connect()
    database = known.get_database()
    found: dict[str, Any] = {}
    for name in sorted(await database.list_collection_names()):
        documents = await database[name].find().to_list()
        with contextlib.suppress(Exception):
            found[f"{name} indexes"] = sorted(map(str, await database[name].index_information()))
        found[name] = {str(each["_id"]): _timeless(each) if name == LEDGER else each for each in documents}
    return found


async def _all_keys(manager: Any) -> dict[str, Any]:
    from app.db.backends._json import decode_json  # noqa: PLC0415

    client = await manager.connect()
    found: dict[str, Any] = {}
    async for name in client.scan_iter(count=1000):
        match await client.type(name):
            case "string":
                found[name] = await client.get(name)
            case "set":
                found[name] = sorted(await client.smembers(name))
            case "hash":
                values = await client.hgetall(name)
                is_ledger = name == f"@{LEDGER}"
                found[name] = {k: _timeless(decode_json(v)) for k, v in values.items()} if is_ledger else values
            case "zset":
                found[name] = await client.zrange(name, 0, -1)
    return found


def _timeless(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("started_at", "finished_at", "duration")}
