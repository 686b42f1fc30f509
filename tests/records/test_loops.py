"""One repository used from several loops and threads, at once and one after the other."""

import asyncio
import threading
from typing import Any

from app.db import DataLayer, Entity, Repository
from app.db.repositories.user_repository import UserRepository


class Counter(Entity):
    value: int = 0


class Counters(Repository[Counter]):
    pass


def test_two_threads_with_a_loop_each_use_one_repository(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)
    counters = data.repository(Counters)
    users = UserRepository(data)
    ready = threading.Barrier(2)
    failures: list[BaseException] = []

    async def work(name: str) -> None:
        await asyncio.gather(*(counters.put_if_absent(Counter(id="one")) for _ in range(20)))
        await asyncio.gather(*(counters.increment("one", "value") for _ in range(100)))
        created = await asyncio.gather(
            *(users.create_user(f"{name}{i}@x.io", f"{name}{i}", "Jo", "Do", "x") for i in range(50))
        )
        assert all(created)
        assert len(await counters.all()) == 1

    def run(name: str) -> None:
        try:
            ready.wait(10)
            asyncio.run(work(name))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("anna", "bert")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []

    async def totals() -> tuple[int, int]:
        counter = await counters.get_or_raise("one")
        count = await users.count()
        await data.close()
        return counter.value, count

    assert asyncio.run(totals()) == (200, 100)


def test_loops_one_after_the_other(config: dict[str, Any]) -> None:
    data = DataLayer.from_config(config)
    counters = Counters()

    async def once() -> int:
        await counters.create(Counter())
        return await counters.count()

    assert [asyncio.run(once()) for _ in range(3)] == [1, 2, 3]
    asyncio.run(data.close())


async def test_a_repository_without_arguments_follows_the_layer_that_is_entered(
    config: dict[str, Any], elsewhere: dict[str, Any]
) -> None:
    counters = Counters()
    async with DataLayer.from_config(config):
        await counters.create(Counter())
        async with DataLayer.from_config(elsewhere):
            assert await counters.count() == 0
        assert await counters.count() == 1
