"""What the vector stores refuse, and what they leave as it is."""

from pathlib import Path
from typing import Any

import pytest

from app.core.errors import (
    ConfigurationError,
    DimensionMismatchError,
    EmbeddingMismatchError,
    MigrationError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from app.db import DataLayer
from app.db.migrations.ledger import LEDGER

from .conftest import SERVERS
from .places import Place
from .test_vector_stores import ROWS

PICTURES = 'self.create_vector_collection("pictures", 3)\n'


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ('self.create_index("documents", "year", unique=True)', "it is for another connection"),
        ('self.create_collection("others")', "use create_vector_collection"),
        ('self.create_payload_index("documents", "year", "blob")', "it indexes boolean, "),
        ('self.create_vector_collection("a/b", 3)', "a/b"),
        ('self.drop_collection("manystore_lock_7")', "give it another name"),
        ('self.rename_field("manystore_migrations", "a", "b")', "is the ledger of migrations"),
    ],
)
async def test_a_step_that_cannot_be_done_stops_all_before_anything_is(
    place: Place, data: DataLayer, step: str, says: str
) -> None:
    place.write("001_pictures", PICTURES)
    place.write("002_others", step)
    with pytest.raises((UnsupportedOperationError, ConfigurationError, MigrationError), match=says):
        await place.migrator(data).up()
    assert await place.state(data) == {"ledger": [], "collections": {}}


async def test_a_dry_run_writes_nothing(place: Place, data: DataLayer) -> None:
    place.write("001_pictures", PICTURES)
    report = await place.migrator(data).up(dry_run=True)
    words = "create the vector collection pictures (3 dimensions, cosine)"
    assert (report.applied, report.plan) == ((), (("001_pictures", (words,)),))
    assert await place.state(data) == {"ledger": [], "collections": {}}
    assert not list(place.path.rglob(f"{LEDGER}*"))
    if place.is_server:
        assert await place.names(data) == []


async def test_a_collection_that_is_there_has_to_be_as_it_is_asked_for(place: Place, data: DataLayer) -> None:
    migrator = place.migrator(data)
    place.write("001_pictures", PICTURES)
    place.write("002_the_same", PICTURES)
    assert (await migrator.up()).applied == ("001_pictures", "002_the_same")
    place.write("003_longer", 'self.create_vector_collection("pictures", 4)')
    with pytest.raises(MigrationError, match="vectors of 3 dimensions") as raised:
        await migrator.up()
    assert isinstance(raised.value.__cause__, DimensionMismatchError)
    place.write("003_longer", 'self.create_vector_collection("pictures", 3, "l2")')
    with pytest.raises(MigrationError, match="measures by cosine") as raised:
        await migrator.repair()
    assert isinstance(raised.value.__cause__, EmbeddingMismatchError)
    assert [each.state for each in await migrator.status()] == ["applied", "applied", "failed"]


@pytest.mark.parametrize("value", ["float('nan')", "object()", "2**70", "b'x'"])
async def test_a_value_that_cannot_be_kept_is_refused_before_the_batch(
    place: Place, data: DataLayer, value: str
) -> None:
    await place.seed(data, ROWS)
    before = await place.collections(data)
    place.write("001_years", f'self.convert_field("documents", "year", lambda year: {value})')
    migrator = place.migrator(data)
    with pytest.raises(MigrationError):
        await migrator.up()
    assert await place.collections(data) == before
    place.write("001_years", 'self.convert_field("documents", "year", lambda year: year + 1)')
    await migrator.repair()
    assert {row["year"] for row in (await place.rows(data)).values()} == {row["year"] + 1 for row in ROWS.values()}


async def test_collections_that_are_not_there(place: Place, data: DataLayer) -> None:
    migrator = place.migrator(data)
    place.write(
        "001_gone",
        """
        self.rename_field("nothing", "a", "b")
        self.drop_payload_index("nothing", "a")
        self.drop_collection("nothing")
        """,
        "pass",
    )
    assert (await migrator.up()).applied == ("001_gone",)
    place.write("002_index", 'self.create_payload_index("nothing", "a")')
    with pytest.raises(MigrationError, match="there is no collection 'nothing'"):
        await migrator.up()


@pytest.mark.parametrize("store", ["qdrant", "chromadb"])
async def test_a_server_that_is_down_is_our_error(tmp_path: Path, store: str) -> None:
    place = Place(f"{store} server", {"url": "http://127.0.0.1:9", "timeout": 1}, tmp_path)
    place.write("001_pictures", PICTURES)
    async with place.layer() as data:
        migrator = place.migrator(data)
        for ask in (migrator.status, migrator.check, migrator.up, migrator.down, migrator.repair):
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                await ask()


@pytest.mark.parametrize("place", SERVERS, indirect=True)
async def test_a_refused_request_tells_no_value(place: Place, data: DataLayer) -> None:
    store: Any = place.migration_store(data)
    await store.prepare()
    with pytest.raises(MigrationError, match="refused it") as raised:
        await store.make_described(LEDGER, "secret")
    assert "secret" not in str(raised.value)
