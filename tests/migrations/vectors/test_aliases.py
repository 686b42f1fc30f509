"""A collection that was embedded anew on a Qdrant server, where its name is an alias of another."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import DimensionMismatchError, MigrationError
from app.db.migrations.runner import StepMigrator
from app.db.migrations.stores._qdrant_server import QdrantServerStore
from app.db.vector.qdrant import QdrantVectorStore

from ...vector.planned import Planned, doc, store_on
from ...vector.qdrant_local import LocalManager
from ...vector.qdrant_server.killing import stage
from .places import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("qdrant server", {"url": "http://127.0.0.1:9"}, tmp_path)


@pytest.fixture
async def manager() -> AsyncIterator[LocalManager]:
    async with LocalManager() as manager:
        yield manager


@pytest.fixture
async def documents(manager: LocalManager) -> QdrantVectorStore:
    store = store_on(manager, Planned())
    await store.upsert([doc("old", row_id="x")])
    await store.engine.replace_by((await stage(store, "planned", {"x": "new"})).collection)
    assert [each.alias_name for each in (await manager.local_server.run("get_aliases")).aliases] == ["documents"]
    return store


def migrator(place: Place, manager: LocalManager) -> StepMigrator:
    return StepMigrator("qdrant", place.directory, QdrantServerStore(manager), wait=5)


async def left(manager: LocalManager) -> list[str]:
    names = [each.name for each in (await manager.local_server.run("get_collections")).collections]
    return [each for each in names if not each.startswith("manystore_")]


async def test_it_is_dropped_as_any_other(place: Place, manager: LocalManager, documents: QdrantVectorStore) -> None:
    place.write("001_drop", 'self.drop_collection("documents")')
    await migrator(place, manager).up()
    assert await left(manager) == []
    assert await documents.engine.contract() is None


@pytest.mark.usefixtures("documents")
async def test_one_that_was_to_take_its_place_goes_with_it(place: Place, manager: LocalManager) -> None:
    store = store_on(manager, Planned())
    staged = await stage(store, "new", {"x": "newer"})
    await staged.engine.amend(lambda contract: replace(contract, ready="a run"))
    place.write("001_drop", 'self.drop_collection("documents")')
    await migrator(place, manager).up()
    assert await left(manager) == []


async def test_it_is_there_and_indexed_as_any_other(
    place: Place, manager: LocalManager, documents: QdrantVectorStore
) -> None:
    place.write(
        "001_make",
        """
        self.create_vector_collection("documents", 4)
        self.create_payload_index("documents", "year", "integer")
        """,
    )
    await migrator(place, manager).up()
    indexed = [given[0] for name, given, _ in manager.local_server.calls if name == "create_payload_index"]
    assert indexed[-1].startswith("documents__reembed_")
    assert await documents.count() == 1
    place.write("002_other", 'self.create_vector_collection("documents", 5)')
    with pytest.raises(MigrationError) as raised:
        await migrator(place, manager).up()
    assert isinstance(raised.value.__cause__, DimensionMismatchError)
