"""Which migrations are applied, refused, repaired and taken back."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import ConfigurationError, MigrationError, UnsupportedOperationError
from app.db import DataLayer
from app.db.migrations import Events
from app.db.migrations.files import find, load

from .place import Place, everything, put, rows

# The stand-in of MongoDB does not say why it makes no index; see `test_mongodb.py`.
SAME = "(things: stored .* have the same n|things: MongoDB refused)"
ADD = 'self.convert_field("things", "n", lambda value: value + {by}, reverse=lambda value: value - {by})'


@pytest.fixture
async def things(manager: Any) -> Any:
    await put(manager, "things", *({"id": f"t{n}", "n": n} for n in range(5)))
    return manager


async def numbers(manager: Any) -> list[int]:
    return sorted(each["n"] for each in (await rows(manager, "things")).values())


async def states(place: Place, data: DataLayer) -> dict[str, str]:
    return {each.name.partition("_")[0]: each.state for each in await place.migrator(data).status()}


async def test_as_far_as_one_and_back(place: Place, data: DataLayer, things: Any) -> None:
    for number in range(1, 4):
        place.write(f"00{number}_add", ADD.format(by=10**number))
    migrator = place.migrator(data)
    assert (await migrator.up("002")).applied == ("001_add", "002_add")
    assert await numbers(things) == [110, 111, 112, 113, 114]
    assert await states(place, data) == {"001": "applied", "002": "applied", "003": "pending"}
    assert await migrator.check() == [f"{place.store}: 003_add is pending"]
    await migrator.up()
    assert await migrator.check() == []
    assert (await migrator.down()).reverted == ("003_add",)
    assert (await migrator.down("001")).reverted == ("002_add",)
    assert await numbers(things) == [10, 11, 12, 13, 14]
    await migrator.up()
    assert (await migrator.down("base")).reverted == ("003_add", "002_add", "001_add")
    assert await numbers(things) == [0, 1, 2, 3, 4]
    with pytest.raises(MigrationError, match="no migrations begin with '009'; there is: 001_add"):
        await migrator.up("009")
    with pytest.raises(MigrationError, match="3 migrations begin with '00'"):
        await migrator.up("00")


@pytest.mark.parametrize("dry_run", [True, False])
async def test_how_far_back_is_said_once(place: Place, data: DataLayer, things: Any, *, dry_run: bool) -> None:
    place.write("001_add", ADD.format(by=10))
    migrator = place.migrator(data)
    await migrator.up()
    with pytest.raises(ConfigurationError, match="leave one of them out"):
        await migrator.down("base", steps=1, dry_run=dry_run)
    for steps in (0, -1):
        with pytest.raises(ConfigurationError, match=f"1 or more, and not {steps}"):
            await migrator.down(steps=steps, dry_run=dry_run)
    assert await states(place, data) == {"001": "applied"}
    assert await numbers(things) == [10, 11, 12, 13, 14]


async def test_status_tells_when_and_how_long(place: Place, data: DataLayer, things: Any) -> None:
    del things
    place.write("001_add", ADD.format(by=1))
    migrator = place.migrator(data)
    [before] = await migrator.status()
    assert (before.applied_at, before.duration) == (None, None)
    await migrator.up()
    [after] = await migrator.status()
    assert after.applied_at is not None
    assert after.applied_at.endswith("+00:00")
    assert after.duration is not None
    assert 0 < after.duration < 20
    assert after.steps == ("convert things.n",)


async def test_a_dry_run_writes_nothing(place: Place, data: DataLayer, things: Any) -> None:
    place.write("001_add", ADD.format(by=1) + '\nself.create_index("things", "n", unique=True)')
    before = await everything(things)
    migrator = place.migrator(data)
    report = await migrator.up(dry_run=True)
    assert report.plan == (("001_add", ("convert things.n", "create the unique index n_unique on things (n)")),)
    assert await everything(things) == before
    await migrator.up()
    before = await everything(things)
    report = await migrator.down(dry_run=True)
    assert report.plan == (("001_add", ("drop the index n_unique of things", "convert things.n")),)
    assert await everything(things) == before


async def test_an_edited_migration_is_refused(place: Place, data: DataLayer, things: Any) -> None:
    file = place.write("001_add", ADD.format(by=1))
    migrator = place.migrator(data)
    await migrator.up()
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))  # another checkout
    assert await states(place, data) == {"001": "applied"}
    place.write("001_add", ADD.format(by=2))
    place.write("002_more", ADD.format(by=100))
    assert await states(place, data) == {"001": "edited", "002": "pending"}
    for refused in (migrator.up(), migrator.down(), migrator.up(dry_run=True)):
        with pytest.raises(MigrationError, match="001_add was edited after it was applied: restore the file"):
            await refused
    assert await numbers(things) == [1, 2, 3, 4, 5]
    assert (await migrator.repair(accept_edits=True)).accepted == ("001_add",)
    assert (await migrator.up()).applied == ("002_more",)


async def test_a_file_that_is_gone(place: Place, data: DataLayer, things: Any) -> None:
    place.write("001_add", ADD.format(by=1)).rename(place.path / "kept")
    (place.path / "kept").rename(place.directory / "001_add.py")
    place.write("002_more", ADD.format(by=10))
    migrator = place.migrator(data)
    await migrator.up()
    (place.directory / "002_more.py").unlink()
    assert await states(place, data) == {"001": "applied", "002": "missing"}
    assert await migrator.check() == [f"{place.store}: 002_more is missing"]
    with pytest.raises(MigrationError, match="the file of 002_more is gone: restore it"):
        await migrator.down()
    assert (await migrator.up()).applied == ()  # an older version that starts beside the newer one
    place.write("003_more", ADD.format(by=10))  # the same by another name
    for refused in (migrator.up(), migrator.up(dry_run=True)):
        with pytest.raises(MigrationError, match="the file of 002_more is gone: restore it"):
            await refused
    assert await numbers(things) == [11, 12, 13, 14, 15]


async def test_one_that_came_later_with_a_lower_number_is_applied(place: Place, data: DataLayer, things: Any) -> None:
    place.write("002_add", ADD.format(by=1))
    migrator = place.migrator(data)
    await migrator.up()
    place.write("001_before", ADD.format(by=10))
    assert (await migrator.up()).applied == ("001_before",)
    assert await numbers(things) == [11, 12, 13, 14, 15]


async def test_two_files_with_one_number_are_refused(place: Place, data: DataLayer) -> None:
    place.write("001_one", "pass")
    place.write("01_two", "pass")
    with pytest.raises(MigrationError, match=r"001_one\.py and 01_two\.py have the same number"):
        await place.migrator(data).up()


async def test_what_the_store_cannot_do_is_refused_before_anything(place: Place, data: DataLayer, things: Any) -> None:
    place.write("001_add", ADD.format(by=1))
    place.write("002_vectors", 'self.create_vector_collection("embeddings", 3)')
    before = await everything(things)
    for dry_run in (False, True):
        with pytest.raises(UnsupportedOperationError, match=f"002_vectors: {place.store} cannot create the vector"):
            await place.migrator(data).up(dry_run=dry_run)
    place.write("002_vectors", 'self.drop_collection("manystore_migrations")')
    with pytest.raises(MigrationError, match="is the ledger"):
        await place.migrator(data).up()
    after = await everything(things)
    assert {name: value for name, value in after.items() if "manystore" not in name} == before
    place.write("002_vectors", 'self.drop_index("things", "n_index")')
    migrator = place.migrator(data)
    await migrator.up()
    with pytest.raises(MigrationError, match="nothing takes back 'drop the index n_index of things': give it a down"):
        await migrator.down()


async def test_a_failing_step_is_corrected_and_repair_goes_on(place: Place, data: DataLayer, things: Any) -> None:
    await put(things, "things", {"id": "same", "n": 0})
    up = ADD.format(by=1) + '\nself.create_index("things", "n", unique=True)'
    place.write("001_unique", up)
    migrator = place.migrator(data)
    with pytest.raises(MigrationError, match=rf"001_unique: cannot create the unique index .*: {SAME}"):
        await migrator.up()
    [status] = await migrator.status()
    assert status.state == "failed"
    assert status.detail.startswith("1 of 2 steps are done: ")
    with pytest.raises(MigrationError, match=r"001_unique is half done .*`manystore migrate repair` finishes it"):
        await migrator.up()
    with pytest.raises(MigrationError, match=SAME):
        await migrator.repair()
    place.write("001_unique", ADD.format(by=1).replace("things", "others"))
    with pytest.raises(MigrationError, match="steps of 001_unique that were done already are others in its file now"):
        await migrator.repair()
    one = '\nself.convert_documents("things", lambda each: {"n": 9} if each["id"] == "same" else {})'
    place.write("001_unique", ADD.format(by=1) + one + up.removeprefix(ADD.format(by=1)))
    assert (await migrator.repair()).applied == ("001_unique",)
    assert await numbers(things) == [1, 2, 3, 4, 5, 9]
    assert await states(place, data) == {"001": "applied"}
    assert (await migrator.up()).applied == ()


async def test_a_failed_migration_is_taken_back(place: Place, data: DataLayer, things: Any) -> None:
    await put(things, "things", {"id": "same", "n": 0})
    up = ADD.format(by=1) + '\nself.create_index("things", "n", unique=True)'
    place.write("001_unique", up)
    migrator = place.migrator(data)
    with pytest.raises(MigrationError, match=SAME):
        await migrator.up()
    assert (await migrator.repair(revert=True)).reverted == ("001_unique",)
    assert await numbers(things) == [0, 0, 1, 2, 3, 4]
    assert await states(place, data) == {"001": "pending"}


async def test_what_cannot_be_taken_back_is_left_as_it_is(place: Place, data: DataLayer, things: Any) -> None:
    one_way = 'self.convert_field("things", "n", lambda value: value + 1)\n'
    place.write("001_fails", ADD.format(by=10) + "\n" + one_way + 'self.run("fail", fail)', before=FAILS)
    migrator = place.migrator(data)
    with pytest.raises(MigrationError, match=r"cannot fail \(LookupError\): correct the migration"):
        await migrator.up()
    with pytest.raises(MigrationError, match=r"nothing takes back 'convert things\.n': finish it instead"):
        await migrator.repair(revert=True)
    assert await numbers(things) == [11, 12, 13, 14, 15]
    [status] = await migrator.status()
    assert status.detail == "2 of 3 steps are done: LookupError"


WAITS = """
import asyncio

async def wait(_):
    await asyncio.sleep(60)
"""
FAILS = """
async def fail(manager):
    raise LookupError("a secret value")
"""


async def test_a_collection_with_documents_is_not_dropped_by_a_repair(
    place: Place, data: DataLayer, things: Any
) -> None:
    place.write("001_fails", 'self.create_collection("things")\nself.run("fail", fail)', before=FAILS)
    migrator = place.migrator(data)
    with pytest.raises(MigrationError, match="cannot fail"):
        await migrator.up()
    await migrator.repair(revert=True)
    assert await numbers(things) == [0, 1, 2, 3, 4]
    assert await states(place, data) == {"001": "pending"}


async def test_a_run_that_is_cancelled_says_so(place: Place, data: DataLayer, things: Any) -> None:
    del things
    place.write(
        "001_waits", 'self.run("wait", wait)', before="import asyncio\nasync def wait(_):\n    await asyncio.sleep(60)"
    )
    migrator = place.migrator(data)
    started = asyncio.Event()
    running = asyncio.create_task(migrator.up(events=Events(started=lambda _: started.set())))
    await started.wait()
    assert await states(place, data) == {"001": "running"}
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [status] = await migrator.status()
    assert (status.state, status.detail) == ("failed", "0 of 1 steps are done: it was cancelled")
    place.write("001_waits", "pass")
    await migrator.repair()
    assert await states(place, data) == {"001": "applied"}


async def test_a_migration_for_another_loop(place: Place, data: DataLayer, things: Any) -> None:
    """The manager has a client for each loop."""
    place.write("001_add", ADD.format(by=1))
    migrator = place.migrator(data)
    assert [each.state for each in await migrator.status()] == ["pending"]

    def elsewhere() -> None:
        async def up() -> None:
            await migrator.up()
            await data.connection(place.store).disconnect()

        asyncio.run(up())

    await asyncio.to_thread(elsewhere)
    assert await numbers(things) == [1, 2, 3, 4, 5]
    assert await states(place, data) == {"001": "applied"}


def test_a_file_corrected_within_a_second_to_the_same_size_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "001_first.py"
    text = "from app.db.migrations import Migration\n\nclass First(Migration):\n    def up(self):\n"
    for name in ("aa", "bb"):
        path.write_text(f"{text}        self.create_collection({name!r})\n")
        os.utime(path, (1_000_000, 1_000_000))
        assert [str(step) for step in load(find(tmp_path)[0]).steps_up()] == [f"create the collection {name}"]
