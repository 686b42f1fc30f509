"""Conversions of many documents: in batches, amid writers, interrupted and resumed."""

import asyncio
import random
import re
import resource
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from app.core.errors import MigrationError
from app.db import DataLayer
from app.db.migrations import Events
from app.db.migrations.conversion import Progress

from ..records.stand_in import stands_in
from .place import Place, put, rows

ADD = 'self.convert_field("things", "n", lambda value: value + 1000000, batch_size={size})'


FILL = """
for n = 0, ARGV[1] - 1 do
  redis.call('SET', 'things:t' .. n, '{"id":"t' .. n .. '","n":' .. n .. ',"s":"' .. string.rep('x', 100) .. '"}')
end
"""
WRONG = """
local wrong = 0
for n = 0, ARGV[1] - 1 do
  if cjson.decode(redis.call('GET', 'things:t' .. n)).n ~= n + 1000000 then wrong = wrong + 1 end
end
return wrong
"""


async def filled(manager: Any, number: int) -> None:
    if manager.connection_type == "redis":
        await manager.eval(FILL, 0, number)
        return
    for start in range(0, number, 200):
        await put(manager, "things", *({"id": f"t{n}", "n": n, "s": "x" * 100} for n in range(start, start + 200)))


def resident() -> int:
    """Bytes of memory that this process has at present."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


async def wrong(manager: Any, number: int) -> int:
    """How many of the documents were not converted exactly once."""
    if manager.connection_type == "redis":
        return int(await manager.eval(WRONG, 0, number))
    found = await rows(manager, "things")
    assert len(found) == number
    return sum(each["n"] != int(key[1:]) + 1_000_000 for key, each in found.items())


async def test_many_documents_with_progress_and_interrupted(place: Place, data: DataLayer, manager: Any) -> None:
    number = 200 if stands_in(place.store) else 100_000  # for each write the stand-in looks at all documents
    await filled(manager, number)
    place.write("001_add", ADD.format(size=min(500, number // 20)))
    migrator = place.migrator(data)
    seen: list[Progress] = []
    memory: list[int] = []
    halfway = asyncio.Event()

    def report(progress: Progress) -> None:
        seen.append(progress)
        memory.append(resident())
        if progress.done >= number / 2:
            halfway.set()

    at_first = resident()
    running = asyncio.create_task(migrator.up(events=Events(progress=report)))
    await halfway.wait()
    await asyncio.sleep(0.01)  # amid a batch
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [status] = await migrator.status()
    assert status.state == "failed"
    assert re.fullmatch(r"0 of 1 steps are done, and \d+ documents of the next: it was cancelled", status.detail)
    assert number / 2 <= seen[-1].done < number
    await migrator.repair(events=Events(progress=report))
    assert max(memory) - at_first < 25_000_000  # all take 60 MB
    assert await wrong(manager, number) == 0
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert seen[-1] == Progress("001_add", "convert things.n", number, number, 0)
    assert seen[1].total == number
    assert seen[1].eta is not None
    assert seen[1].eta > 0
    assert [each.state for each in await migrator.status()] == ["applied"]


async def test_what_others_write_meanwhile_is_not_lost(place: Place, data: DataLayer, manager: Any) -> None:
    """Writers of another field, and of the field itself, by what convert leaves as it is."""
    number = 300
    await put(manager, "things", *({"id": f"t{n}", "n": n, "other": 0} for n in range(number)))
    place.write(
        "001_text",
        'self.convert_field("things", "n", text, batch_size=20)',
        before='def text(value):\n    return value if isinstance(value, str) else f"v{value}"',
    )
    done = asyncio.Event()
    written: dict[str, int] = {}
    texts: dict[str, str] = {}

    async def write() -> None:
        order = random.Random(7)
        while not done.is_set():
            key = f"t{order.randrange(number)}"
            written[key] = written.get(key, 0) + 1
            if order.random() < 0.3:
                texts[key] = f"w{order.random()}"
            await change(manager, key, {"other": written[key], **({"n": texts[key]} if key in texts else {})})

    writer = asyncio.create_task(write())
    await asyncio.sleep(0.05)
    await place.migrator(data).up()
    done.set()
    await writer
    assert len(written) > 10
    found = await rows(manager, "things")
    assert found == {
        f"t{n}": {"n": texts.get(f"t{n}", f"v{n}"), "other": written.get(f"t{n}", 0)} for n in range(number)
    }


async def change(manager: Any, key: str, values: dict[str, Any]) -> None:
    if manager.connection_type == "mongodb":
        await manager.get_database()["things"].update_one({"_id": key}, {"$set": values})
        return
    from app.db.backends._redis_documents import splice_arguments  # noqa: PLC0415
    from app.db.backends._redis_scripts import run  # noqa: PLC0415
    from app.db.backends._redis_splice import SPLICE  # noqa: PLC0415

    arguments = ["", 0, 0, len(values), 0, 0, *splice_arguments(values)]
    assert await run(await manager.connect(), SPLICE, [f"things:{key}"], arguments) == 1


async def test_a_document_that_comes_or_goes_meanwhile(place: Place, data: DataLayer, manager: Any) -> None:
    await put(manager, "things", *({"id": f"t{n:02}", "n": n} for n in range(40)))
    place.write("001_add", ADD.format(size=5))

    async def delete(name: str) -> None:
        if place.store == "redis":
            await manager.delete(f"things:{name}")
        else:
            await manager.get_database()["things"].delete_one({"_id": name})

    tasks: list[asyncio.Task[None]] = []

    def report(progress: Progress) -> None:
        if progress.done == 5:
            tasks.extend(asyncio.ensure_future(delete(f"t{n:02}")) for n in range(15, 25))

    await place.migrator(data).up(events=Events(progress=report))
    await asyncio.gather(*tasks)
    found = await rows(manager, "things")
    assert len(found) == 30
    assert all(each["n"] == int(key[1:]) + 1_000_000 for key, each in found.items())


async def test_ids_of_any_type(place: Place, data: DataLayer, manager: Any) -> None:
    if place.store == "redis":
        pytest.skip("its ids are text")
    ids: list[Any] = [*range(1, 8), *"abcdefg"]
    if not stands_in(place.store):  # which knows no bound of another type
        ids += [*(ObjectId(f"{n:024x}") for n in range(7)), ObjectId(), 1.5]
    await put(manager, "things", *({"id": each, "n": n} for n, each in enumerate(ids)))
    for number, size in ((1, 1), (2, 3), (3, 7), (4, 100)):
        place.write(f"00{number}_add", ADD.format(size=size))
    await place.migrator(data).up()
    found = await rows(manager, "things")
    assert {repr(each): found[each]["n"] for each in found} == {repr(each): n + 4_000_000 for n, each in enumerate(ids)}


async def test_writers_faster_than_the_conversion(place: Place, data: DataLayer, manager: Any) -> None:
    """A document that has another value whenever it is written."""
    await put(manager, "things", {"id": "t1", "n": 1})
    place.write("001_add", ADD.format(size=5))
    store = place.migration_store(data)
    replace, calls = store.replace, 0

    async def overtaken(collection: str, replacements: Any) -> Any:
        nonlocal calls
        calls += 1
        await change(manager, "t1", {"n": calls + 1})
        return await replace(collection, replacements)

    store.replace = overtaken  # type: ignore[method-assign]
    migrator = place.migrator(data)
    migrator._store = store
    with pytest.raises(MigrationError, match="documents of things change faster than they are converted"):
        await migrator.up()
    assert await rows(manager, "things") == {"t1": {"n": calls + 1}}
    store.replace = replace  # type: ignore[method-assign]
    await migrator.repair()
    assert await rows(manager, "things") == {"t1": {"n": calls + 1_000_001}}
