"""What only Redis has: a cluster, indexes that nobody knows, and a server that goes away."""

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import AppError, MigrationError, StoreUnavailableError, UnsupportedOperationError
from app.db import DataLayer
from app.db.backends import Index
from app.db.migrations.schemas import described

from ..connections.test_redis_modes import cluster as cluster  # noqa: PLC0414 - a fixture
from ..redis_server import RedisServer
from .place import Place, everything, put, rows
from .test_documents import Card, Cards


@pytest.fixture
def there(redis_server: RedisServer, tmp_path: Path) -> Place:
    redis_server.command("FLUSHALL")
    return Place("redis", {"url": redis_server.url}, tmp_path)


@pytest.fixture
async def data(there: Place) -> AsyncIterator[DataLayer]:
    async with DataLayer.from_config(there.config) as layer:
        yield layer


async def test_indexes_that_nobody_knows_are_made_anew_by_their_repository(there: Place, data: DataLayer) -> None:
    cards = data.repository(Cards)
    await cards.create_many([Card(id=f"c{n}", code=f"code{n}") for n in range(3)])
    there.write("001_codes", 'self.convert_field("migrated_cards", "code", lambda value: f"new-{value}")')
    migrator = there.migrator(data)
    migrator._store.schemas = {}
    await migrator.up()
    async with DataLayer.from_config(there.config) as later:
        found = await later.repository(Cards).find_one({"code": "new-code1"})
        assert found is not None
        assert found.id == "c1"
        assert await later.repository(Cards).find_one({"code": "code1"}) is None


async def test_an_index_without_a_repository_is_checked_and_made_anew(there: Place, data: DataLayer) -> None:
    manager: Any = data.connection("redis")
    await put(manager, "migrated_cards", *({"id": f"c{n}", "code": f"code{n}"} for n in range(3)))
    there.write("001_codes", 'self.create_index("migrated_cards", "code", unique=True, name="code_of_card")')
    migrator = there.migrator(data)
    migrator._store.schemas = {}
    await migrator.up()
    [signature] = (await manager.hgetall("@migrated_cards")).values()
    assert signature.startswith("~")
    assert len([name for name in await everything(manager) if name.startswith("@migrated_cards:")]) == 3
    assert await data.repository(Cards).find_one({"code": "code1"}) is not None
    assert "~" not in str(await manager.hgetall("@migrated_cards"))


def test_what_an_index_says_of_its_fields() -> None:
    schema = described(None, "things", Index("a", unique=True, name="x"))
    assert schema.open
    assert set(schema.fields) == {"id", "a"}


async def test_a_cluster(cluster: RedisServer, tmp_path: Path) -> None:
    place = Place("redis", {"url": f"redis://127.0.0.1:{cluster.port}", "mode": "cluster"}, tmp_path)
    async with DataLayer.from_config(place.config) as data:
        cards = data.repository(Cards)
        await cards.create_many([Card(id=f"c{n}", code=f"code{n}", owner="o") for n in range(5)])
        manager: Any = data.connection("redis")
        for n in range(5):
            await manager.set(f"spread:s{n}", f'{{"id":"s{n}","n":{n}}}')
        place.write(
            "001_both",
            """
            self.create_index("migrated_cards", "owner")
            self.convert_field("migrated_cards", "code", lambda value: f"new-{value}", batch_size=2)
            self.convert_field("spread", "n", lambda value: value + 1, batch_size=2, reverse=lambda value: value - 1)
            """,
        )
        migrator = place.migrator(data)
        await migrator.up()
        found = await cards.find_one({"code": "new-code3"})
        assert found is not None
        assert found.id == "c3"
        assert await cards.count({"owner": "o"}) == 5
        assert {key: each["n"] for key, each in (await rows_of_cluster(manager)).items()} == {
            f"s{n}": n + 1 for n in range(5)
        }
        unknown = place.migrator(data)
        unknown._store.schemas = {}
        place.write("002_index", 'self.rename_field("migrated_cards", "code", "c")')
        with pytest.raises(MigrationError, match="is migrated with its repository registered") as caught:
            await unknown.up()
        assert isinstance(caught.value.__cause__, UnsupportedOperationError)
        place.write("002_index", 'self.create_index("spread", "n")')
        with pytest.raises(MigrationError, match="in a cluster an index decides where documents are"):
            await migrator.repair()
        place.write("002_index", 'self.drop_collection("spread")\nself.drop_collection("migrated_cards")')
        await migrator.repair()
        assert await rows_of_cluster(manager) == {}
        assert await cards.count() == 0


async def rows_of_cluster(manager: Any) -> dict[str, dict[str, Any]]:
    import json  # noqa: PLC0415

    client = await manager.connect()
    names = [name async for name in client.scan_iter(match="spread:*")]
    return {name.partition(":")[2]: json.loads(await client.get(name)) for name in names}


async def test_a_server_that_goes_away(tmp_path: Path) -> None:
    server = RedisServer().start()
    try:
        place = Place("redis", {"url": server.url, "timeout": 2}, tmp_path)
        async with DataLayer.from_config(place.config) as data:
            manager: Any = data.connection("redis")
            await put(manager, "things", *({"id": f"t{n}", "n": n} for n in range(5)))
            place.write(
                "001_kill",
                'self.run("kill", kill)',
                before=KILL.format(pid=server.process.pid if server.process else 0),
            )
            migrator = place.migrator(data)
            with pytest.raises(AppError):
                await migrator.up()
            server.kill()
            for refused in (migrator.status(), migrator.check(), migrator.up(), migrator.repair()):
                with pytest.raises(StoreUnavailableError):
                    await refused
    finally:
        server.end()


KILL = """
import os, signal

async def kill(manager):
    os.kill({pid}, signal.SIGKILL)
    await manager.incr("n")
"""


@pytest.mark.filterwarnings(
    r"ignore:[\s\S]*(socket\.socket|_SelectorTransport):pytest.PytestUnraisableExceptionWarning"
)
async def test_a_mongodb_that_is_not_there(tmp_path: Path) -> None:
    place = Place("mongodb", {"url": "mongodb://127.0.0.1:9/", "database": "x", "timeout": 0.5}, tmp_path)
    place.write("001_a", "pass")
    async with DataLayer.from_config(place.config) as data:
        migrator = place.migrator(data)
        for refused in (migrator.status(), migrator.up(), migrator.repair()):
            with pytest.raises(StoreUnavailableError):
                await refused
    gc.collect()  # what pymongo leaves open is found here, where it is ignored


async def test_rows_are_of_one_collection(there: Place, data: DataLayer) -> None:
    manager: Any = data.connection("redis")
    await put(manager, "things", {"id": "t"})
    await put(manager, "things_too", {"id": "t"})
    there.write("001_drop", 'self.drop_collection("things")')
    await there.migrator(data).up()
    assert await rows(manager, "things") == {}
    assert await rows(manager, "things_too") == {"t": {}}
