"""All sides of one store, interleaved: CPU time of this process for one operation, round after round."""

import asyncio
import gc
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .product import CHANGE, new_data
from .side import METHODS, PAGE_SIZE, SINGLE, Data, Side, operation

TASKS = (1, 32)
BATCH = 1000
_FILLED = 1000  # records that are there all the time


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int = 7
    operations: int = 128
    """In one measurement, of operations on one record."""
    bulk_rounds: int = 3
    bulk_tasks: tuple[int, ...] = TASKS
    """With 32, the other layers take part in the first round only: it is of 32 batches, and they take their time."""


@dataclass
class Results:
    """CPU microseconds by side, in the order of the rounds, for each operation and number of tasks."""

    store: str
    sides: list[str]
    times: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=dict)

    def add(self, name: str, tasks: int, side: str, microseconds: float) -> None:
        self.times.setdefault((name, tasks), {}).setdefault(side, []).append(microseconds)


async def measure(run: Callable[[Any], Awaitable[object]], items: Sequence[Any], tasks: int) -> float:
    """CPU microseconds for one item; the server's are not among them, but on SQLite, which is in this process."""

    async def work(share: Sequence[Any]) -> None:
        for item in share:
            await run(item)

    gc.collect()
    start = time.process_time()
    await asyncio.gather(*(work(items[i::tasks]) for i in range(tasks)))
    return (time.process_time() - start) / len(items) * 1e6


async def run_all(store: str, sides: Sequence[Side], plan: Plan) -> Results:
    """Open the sides, see that each does what it should, and measure."""
    results = Results(store, [side.name for side in sides])
    opened: list[Side] = []
    try:
        for side in sides:
            await side.open()
            opened.append(side)
            await check(side)
            await side.clear()
        gc.collect()
        gc.freeze()  # what was imported is not looked through again in a measurement
        unmeasured = Results(store, [])
        filled = new_data(_FILLED)
        for side in sides:
            await side.bulk_insert(filled)
        for tasks in TASKS:
            await _singles(unmeasured, sides, filled, tasks, 64, 0)
        for number in range(plan.rounds):
            for tasks in TASKS:
                await _singles(results, sides, filled, tasks, plan.operations, number)
        for number in range(plan.bulk_rounds):
            for tasks in plan.bulk_tasks:
                taking_part = sides if number == 0 or tasks == 1 else sides[:2]
                await _bulks(results, taking_part, tasks, number)
    finally:
        for side in opened:
            await side.close()
        gc.unfreeze()
    return results


async def _singles(
    results: Results, sides: Sequence[Side], filled: list[Data], tasks: int, count: int, at: int
) -> None:
    """Create, read, change and delete `count` records, and read pages of those that stay."""
    data = new_data(count)
    pages = [filled[number * 7 % len(filled)] for number in range(max(tasks, count // 6))]
    for name in (*SINGLE[:-1], "page of 50", SINGLE[-1]):
        for side in _rotated(sides, at):
            if name not in side.lacks:
                items = pages if name in METHODS else data
                results.add(name, tasks, side.name, await measure(operation(side, name), items, tasks))


async def _bulks(results: Results, sides: Sequence[Side], tasks: int, at: int) -> None:
    """Insert batches, then upsert as many, of which every second record is there."""
    count = max(tasks, 2)
    batches = [new_data(BATCH) for _ in range(count)]
    mixed = [[*batch[::2], *new_data(BATCH // 2)] for batch in batches]
    for name, items in (("bulk insert of 1,000", batches), ("bulk upsert of 1,000", mixed)):
        for side in _rotated(sides, at):
            if name not in side.lacks:
                results.add(name, tasks, side.name, await measure(operation(side, name), items, tasks))
    for side in sides:
        await side.clear()


def _rotated(sides: Sequence[Side], at: int) -> list[Side]:
    """Each round another one begins, so that none always finds what another left in the caches."""
    start = at % len(sides)
    return [*sides[start:], *sides[:start]]


async def check(side: Side) -> None:
    """Raise unless the side does what the others do."""
    data = new_data(210)
    one, batch = data[0], data[1:]
    changed = {**one, **CHANGE}
    try:
        _expect("create", await side.create(one), one)
        _expect("get", await side.get(one), one)
        _expect("update", await side.update(one), changed)
        _expect("get", await side.get(one), changed)
        for result, given in zip(await side.bulk_insert(batch), batch, strict=True):
            _expect("bulk insert", result, given)
        upserted = [{**each, "name": "another"} for each in batch[::2]]
        assert await side.bulk_upsert(upserted) == len(upserted), "bulk upsert"
        _expect("bulk upsert", await side.get(batch[0]), upserted[0])
        if "get by unique field" not in side.lacks:
            _expect("get by unique field", await side.get_by_unique_field(one), changed)
            assert await side.exists(one), "exists"
            assert not await side.exists(new_data(1)[0]), "exists"
        if "page of 50" not in side.lacks:
            full = batch[100]["category"]
            expected = sorted(each["sku"] for each in data if each["category"] == full)[:PAGE_SIZE]
            assert [each.sku for each in await side.page(batch[100])] == expected, "page"
        assert await side.delete(one), "delete"
        assert await side.get(one) is None, "get of a deleted record"
    except AssertionError as error:
        raise AssertionError(f"{side.name}: {error}") from error


def _expect(name: str, found: Any, data: Data) -> None:
    tags = found.tags if isinstance(found.tags, list) else json.loads(found.tags)
    values = {**{key: getattr(found, key) for key in data}, "id": str(found.id), "tags": tags}
    assert values == data, f"{name}: {values} is not {data}"
    # SQLAlchemy's own datetimes lose their zone on SQLite, which SQLModel leaves at that.
    created_at, updated_at = (each.replace(tzinfo=None) for each in (found.created_at, found.updated_at))
    assert created_at <= updated_at, f"{name}: {created_at}, {updated_at}"


def pin() -> None:
    """Stay on one core: waking a thread on another one costs up to three times as much, and which one is luck."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def unpin() -> None:
    """For the servers that are started next."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _CORES)


_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
