"""Migrations of the vector stores: collections, indexes and what a row has beside its vector."""

from typing import Any

from app.db import DataLayer

from .places import Place

ROWS: dict[str, dict[str, Any]] = {
    f"row{n}": {"year": 2000 + n, "city": f"Paris {n}", "price": n / 7} for n in range(50)
}


async def test_up_and_down_on_what_is_there(place: Place, data: DataLayer) -> None:
    await place.seed(data, ROWS)
    before = await place.collections(data)
    place.write(
        "001_years",
        """
        self.create_vector_collection("pictures", 3, "l2")
        self.create_payload_index("documents", "year", "integer")
        self.convert_field("documents", "year", lambda y: y + 1000, reverse=lambda y: y - 1000, batch_size=20)
        self.rename_field("documents", "city", "town", batch_size=20)
        """,
    )
    migrator = place.migrator(data)
    assert (await migrator.up()).applied == ("001_years",)
    rows = await place.rows(data)
    assert rows == {
        name: {"year": row["year"] + 1000, "town": row["city"], "price": row["price"]} for name, row in ROWS.items()
    }
    collections = await place.collections(data)
    assert collections["pictures"]["points"] == {}
    assert {name for name, (vector, *_) in collections["documents"]["points"].items()} == {
        name for name, (vector, *_) in before["documents"]["points"].items()
    }
    [status] = await migrator.status()
    assert (status.state, len(status.steps)) == ("applied", 4)
    await migrator.down()
    after = await place.collections(data)
    assert after == before
    assert await place.rows(data) == ROWS
