"""A run that is killed after any command to the store, and what `repair` makes of it."""

import signal
from pathlib import Path
from typing import Any

from app.db import DataLayer

from .place import Place, everything, put, rows
from .processes import Forks

USERS: list[dict[str, Any]] = [
    {"id": f"{n:024x}", "email": f"u{n}@x.io", "count": n, "nick": f"n{n}"} for n in range(3)
]
BEFORE = {each["id"]: {name: value for name, value in each.items() if name != "id"} for each in USERS}
UP = """
    self.create_collection("users")
    self.create_index("users", "email", unique=True)
    self.convert_field("users", "count", lambda value: value + 1, reverse=lambda value: value - 1, batch_size=2)
    self.convert_field("users", "email", lambda value: f"new-{value}", reverse=lambda value: value[4:], batch_size=2)
    self.rename_field("users", "nick", "alias", batch_size=3)
"""
DONE = {
    each["id"]: {"email": f"new-{each['email']}", "count": each["count"] + 1, "alias": each["nick"]} for each in USERS
}


async def fresh(manager: Any) -> None:
    """Leave nothing in the store but the users."""
    await manager.connect()
    if manager.connection_type == "redis":
        await manager.flushdb()
    else:
        for name in await manager.get_database().list_collection_names():
            await manager.get_database().drop_collection(name)
    await put(manager, "users", *USERS)


async def content(manager: Any) -> dict[str, Any]:
    users = {str(key): each for key, each in (await rows(manager, "users")).items()}
    return {**await everything(manager), "users by id": users}


async def commands(place: Place, manager: Any, children: Forks, file: Path) -> int:
    """How many a clean run sends; the second one, which finds its scripts in the server."""
    for _ in range(2):
        await fresh(manager)
        assert children.run(place, "up", counted=str(file)) == [0]
    return int(file.read_text("utf-8"))


async def test_repair_and_up_come_to_the_end_of_a_clean_run(
    place: Place, data: DataLayer, manager: Any, children: Forks, tmp_path: Path
) -> None:
    place.write("001_users", UP)
    number = await commands(place, manager, children, tmp_path / "counted")
    assert number > 20
    clean = await content(manager)
    assert clean["users by id"] == DONE
    migrator = place.migrator(data, wait=2)
    for kill_at in range(1, number + 1):
        await fresh(manager)
        sent = place.store == "redis" and kill_at % 2 == 0
        assert children.run(place, "up", kill_at=kill_at, sent=sent) == [-signal.SIGKILL]
        await migrator.repair()
        await migrator.up()
        assert await content(manager) == clean, kill_at


async def test_repair_takes_back_what_was_killed(
    place: Place, data: DataLayer, manager: Any, children: Forks, tmp_path: Path
) -> None:
    place.write("001_users", UP)
    number = await commands(place, manager, children, tmp_path / "counted")
    await fresh(manager)
    empty = await content(manager)
    migrator = place.migrator(data, wait=2)
    for kill_at in range(1, number, 4):
        await fresh(manager)
        assert children.run(place, "up", kill_at=kill_at) == [-signal.SIGKILL]
        [before] = await migrator.status()
        report = await migrator.repair(revert=True)
        [after] = await migrator.status()
        assert (before.state, bool(report.reverted), after.state) in (
            ("pending", False, "pending"),
            ("interrupted", True, "pending"),
            ("applied", False, "applied"),
        )
        if after.state == "pending":
            found = await content(manager)
            assert found["users by id"] == BEFORE
            if place.store == "redis":  # the stand-in of MongoDB drops no index
                assert found == empty


async def test_a_repair_that_is_killed_is_repaired(place: Place, manager: Any, children: Forks) -> None:
    place.write("001_users", UP)
    for first, second, third in ((12, 6, 0), (17, 9, 0), (17, 9, 11), (20, 12, 8)):
        await fresh(manager)
        assert children.run(place, "up", kill_at=first) == [-signal.SIGKILL]
        assert children.run(place, "repair", kill_at=second) == [-signal.SIGKILL]
        if third:
            options = {"revert": True}
            assert children.run(place, "repair", options=options, kill_at=third) == [-signal.SIGKILL]
            assert children.run(place, "repair", options=options) == [0]
        else:
            assert children.run(place, "repair") == [0]
        assert (await content(manager))["users by id"] == (BEFORE if third else DONE)
