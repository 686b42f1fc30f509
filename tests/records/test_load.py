"""Many records, many tasks: what is held stays bounded."""

import asyncio
import gc
import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest

from app.db import DataLayer, Entity, F, Repository
from app.testing.models import Product, Products

MEGABYTE = 2**20


class Reading(Entity):
    sensor: str
    value: float
    note: str = ""


class Readings(Repository[Reading]):
    pass


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of the process from /proc")
async def test_a_stream_holds_one_batch(data: DataLayer, streamed: int) -> None:
    readings = data.repository(Readings)
    numbers = iter(range(streamed))
    while batch := [Reading(sensor=f"s{i % 9}", value=i, note="x" * 100) for i in itertools.islice(numbers, 5000)]:
        await readings.create_many(batch)
    seen = 0
    total = 0.0
    before = 0
    async for reading in readings.stream(batch_size=500):
        seen += 1
        total += reading.value
        if seen == streamed // 10:  # whatever is allocated once is there by now
            before = resident()
    grown = resident() - before
    assert (seen, total) == (streamed, streamed * (streamed - 1) / 2)
    assert grown < 12 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB for {streamed} records"


async def test_a_thousand_tasks_share_a_small_pool(config: dict[str, Any], store: str) -> None:
    if store != "sqlite":
        config["connections"][store]["pool"] = {"max_size": 10, "timeout": 60}
    config["connections"][store]["timeout"] = 60
    async with DataLayer.from_config(config) as data:
        products = data.repository(Products)

        async def work(number: int) -> None:
            product = Product(id=f"{number}", name=f"n{number}", sku=f"s{number}")
            await products.create(product)
            assert await products.get(product.id) == product
            assert await products.increment(product.id, "stock") == 1
            assert await products.find(F.sku == product.sku)
            await products.update(product.id, {"price": 2})

        await asyncio.gather(*map(work, range(1000)))
        assert await products.count({"stock": 1, "price": 2}) == 1000


async def test_the_loop_goes_on_while_many_are_written(data: DataLayer) -> None:
    products = data.repository(Products)
    await products.count()
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            start = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - start)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(products.create(Product(name=f"n{i}", sku=f"s{i}")) for i in range(500)))
    watching.cancel()
    assert longest < 1
