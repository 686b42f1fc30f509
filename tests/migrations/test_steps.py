"""What each step does to the documents and indexes of a store."""

from typing import Any

import pytest

from app.connections.base import ConnectionManager
from app.core.errors import MigrationError
from app.db import DataLayer

from .place import Place, everything, put, rows

SPECIFICATION = """
class CreateUsersTable(Migration):
    def up(self):
        self.create_collection("users")
        self.create_index("users", "email", unique=True)

    def down(self):
        self.drop_collection("users")
"""


async def test_the_example_of_the_specification(place: Place, data: DataLayer, manager: ConnectionManager[Any]) -> None:
    place.directory.mkdir(parents=True)
    (place.directory / "001_create_users_table.py").write_text(
        f"from app.db.migrations import Migration\n{SPECIFICATION}", "utf-8"
    )
    migrator = place.migrator(data)
    report = await migrator.up()
    assert report.applied == ("001_create_users_table",)
    assert [each.state for each in await migrator.status()] == ["applied"]
    assert (await migrator.up()).applied == ()
    users = data.repository("user")
    user = await users.create_user("a@x.io", "anna", "Anna", "Do", "x")
    assert user is not None
    assert await users.create_user("a@x.io", "other", "Anna", "Do", "x") is None
    assert (await migrator.down()).reverted == ("001_create_users_table",)
    assert await rows(manager, "users") == {}
    assert [each.state for each in await migrator.status()] == ["pending"]
    left = await everything(manager)
    assert {name for name, value in left.items() if value} <= {"manystore_migrations", "manystore_migrations indexes"}


async def test_fields_are_renamed_and_converted(place: Place, data: DataLayer, manager: ConnectionManager[Any]) -> None:
    await put(manager, "things", *({"id": f"t{n}", "a": n, "name": f"n{n}"} for n in range(25)), {"id": "x", "b": 1})
    place.write(
        "001_change",
        """
        self.rename_field("things", "name", "title", batch_size=10)
        self.convert_field("things", "a", lambda value: value + 1, batch_size=7, reverse=lambda value: value - 1)
        self.convert_documents("things", lambda each: {"sum": f"{each['id']}-{each.get('a')}"}, batch_size=4,
                               reverse=lambda each: {"sum": None})
    """,
    )
    migrator = place.migrator(data)
    await migrator.up()
    found = await rows(manager, "things")
    assert found.pop("x") == {"b": 1, "sum": "x-None"}
    assert found == {f"t{n}": {"a": n + 1, "title": f"n{n}", "sum": f"t{n}-{n + 1}"} for n in range(25)}
    await migrator.down()
    found = await rows(manager, "things")
    assert found.pop("x") == {"b": 1, "sum": None}
    assert found == {f"t{n}": {"a": n, "name": f"n{n}", "sum": None} for n in range(25)}


async def test_an_up_that_would_say_nothing(place: Place, data: DataLayer) -> None:
    place.directory.mkdir(parents=True)
    (place.directory / "001_waits.py").write_text(
        "from app.db.migrations import Migration\n\n\nclass Waits(Migration):\n"
        "    async def up(self):\n        self.create_collection('things')\n"
    )
    migrator = place.migrator(data)
    with pytest.raises(MigrationError, match=r"Waits\.up is an `async def`: it only says the steps"):
        await migrator.up()
    assert [each.state for each in await migrator.status()] == ["pending"]
