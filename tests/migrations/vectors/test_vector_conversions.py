"""Rows that others write while they are converted, rows of every shape, and more than one event loop."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from qdrant_client import models

from app.db import DataLayer
from app.db.migrations.store import Found, Replacement
from app.db.vector.payload import make_row
from app.db.vector.qdrant_server_rows import stored_row, term_payload

from .places import Place
from .test_vector_stores import ROWS

SHAPES: dict[str, dict[str, Any]] = {
    f"row{n}": {"value": value, "other field": "x"}
    for n, value in enumerate(["text", "", True, False, 0, 1, -(2**60), 0.1 + 0.2, 1e-7, 1.0, 123456.789])
}
DEEP: dict[str, dict[str, Any]] = {
    f"deep{n}": {"value": value, "other field": "x"}
    for n, value in enumerate([None, [], [1, "a", None], {"a": {"b": 0.3}}, {}])
}


async def test_values_of_every_kind_are_renamed_and_come_back(place: Place, data: DataLayer) -> None:
    rows = SHAPES if place.store == "chromadb" else {**SHAPES, **DEEP}
    await place.seed(data, rows)
    stored = await place.rows(data)
    place.write("001_rename", 'self.rename_field("documents", "value", "a.b", batch_size=4)')
    migrator = place.migrator(data)
    await migrator.up()
    renamed = await place.rows(data)
    assert {name: row["a.b"] for name, row in renamed.items()} == {name: row["value"] for name, row in stored.items()}
    assert all("value" not in row for row in renamed.values())
    await migrator.down()
    assert await place.rows(data) == stored


async def test_floats_are_converted_once(place: Place, data: DataLayer) -> None:
    """Servers give one in ten back with another last digit."""
    await place.seed(data, {f"row{n}": {"price": n / 7 + 0.1} for n in range(60)})
    place.write("001_prices", 'self.convert_field("documents", "price", lambda price: price * 1.1 + 1, batch_size=7)')
    await place.migrator(data).up()
    rows = await place.rows(data)
    assert [rows[f"row{n}"]["price"] for n in range(60)] == pytest.approx(
        [(n / 7 + 0.1) * 1.1 + 1 for n in range(60)], rel=1e-12
    )


async def test_what_others_wrote_meanwhile_is_converted_from_what_they_wrote(place: Place, data: DataLayer) -> None:
    await place.seed(data, ROWS)
    store = place.migration_store(data)
    found = await store.read_batch("documents", None, 100)
    assert len(found) == len(ROWS)
    [row] = [each for each in found if each.document["year"] == 2007]
    wanted = Replacement(row.id, {"year": 2007}, {"year": 3007})
    assert await store.replace("documents", [Replacement(row.id, {"year": 2007}, {"year": 1})]) == []
    [overtaken] = await store.replace("documents", [wanted])
    assert (overtaken.id, overtaken.document["year"]) == (row.id, 1)
    assert await store.replace("documents", [Replacement(row.id, {"year": 1}, {"year": 3007})]) == []
    assert await store.replace("documents", [wanted]) == [], "it is done already"
    assert await store.replace("nothing", [wanted]) == []
    assert [each["year"] for each in (await place.rows(data)).values()].count(3007) == 1


@pytest.mark.parametrize("place", ["qdrant server"], indirect=True)
@pytest.mark.parametrize("value", ["text", True, 7, 0.1 + 0.2, None])
async def test_qdrant_writes_only_what_is_still_as_it_was_read(place: Place, data: DataLayer, value: Any) -> None:
    await place.seed(data, {"row": {"value": value}, "other": {"value": value}})
    store: Any = place.migration_store(data)

    class Between(type(store)):  # type: ignore[misc]
        async def _payloads(self, collection: str, ids: Sequence[Any]) -> Any:
            payloads = await super()._payloads(collection, ids)
            if payloads[0]["value"] is not False:
                change = models.SetPayload(payload={"value": False}, points=[0])
                await self.manager.write(
                    lambda client: client.batch_update_points(
                        collection, [models.SetPayloadOperation(set_payload=change)]
                    )
                )
            return payloads

    found: Sequence[Found] = await Between(data.connection("qdrant")).replace(
        "documents", [Replacement(number, {"value": value}, {"value": "new"}) for number in (0, 1)]
    )
    assert [(each.id, each.document["value"]) for each in found] == [(0, False)]
    assert await place.rows(data) == {"row": {"value": False}, "other": {"value": "new"}}


@pytest.mark.parametrize("place", ["qdrant server"], indirect=True)
async def test_a_row_of_ours_on_a_server_keeps_its_terms_and_numbers(place: Place, data: DataLayer) -> None:
    def payload(metadata: dict[str, Any]) -> dict[str, Any]:
        row = make_row("a", "document", "tea", metadata)
        terms = term_payload(row)
        return {"id": "a", "doc": "document", "text": "tea", "metadata": row.metadata, "at": "now", **terms}

    manager: Any = data.connection("qdrant")
    await place.seed(data, {})
    before = payload({"year": 2000, "city": "Paris"})
    assert stored_row(before)
    point = models.PointStruct(id=1, vector=[1.0] * 4, payload=before)
    await manager.write(lambda client: client.upsert("documents", [point]))
    place.write("001_years", 'self.convert_field("documents", "year", lambda year: str(year))')
    await place.migrator(data).up()
    [(_, after)] = (await place.collections(data))["documents"]["points"].values()
    assert after == payload({"year": "2000", "city": "Paris"})


@pytest.mark.parametrize("place", ["chroma directory", "chroma server"], indirect=True)
async def test_rows_that_go_meanwhile_hide_no_others(place: Place, data: DataLayer) -> None:
    """Chroma pages by numbers, which a delete moves."""
    await place.seed(data, {f"row{n:02}": {"n": n} for n in range(30)})
    store: Any = place.migration_store(data)
    met = await store.read_batch("documents", None, 10)
    await store.call_collection("documents", "delete", write=True, ids=[f"row{n:02}" for n in range(5, 22)])
    while batch := await store.read_batch("documents", met[-1].id, 4):
        met += batch
    assert [each.id for each in met] == [f"row{n:02}" for n in (*range(10), *range(22, 30))]


def test_each_event_loop_is_served(place: Place) -> None:
    place.write("001_pictures", 'self.create_vector_collection("pictures", 3)')
    data = DataLayer.from_config(place.config)
    assert asyncio.run(place.migrator(data).up()).applied == ("001_pictures",)
    assert [each.state for each in asyncio.run(place.migrator(data).status())] == ["applied"]
    assert asyncio.run(place.migrator(data).down()).reverted == ("001_pictures",)

    async def end() -> None:
        await place.drop_everything(data)
        await data.close()

    asyncio.run(end())
