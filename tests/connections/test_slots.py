import asyncio

import pytest

from app.connections._slots import Slots


async def test_there_are_so_many_and_one_that_comes_back_can_be_taken() -> None:
    slots = Slots(2)
    assert [slots.take() for _ in range(3)] == [True, True, False]
    slots.give_back()
    assert [slots.take() for _ in range(2)] == [True, False]


async def test_who_waits_goes_in_turn_and_before_whoever_comes_later() -> None:
    slots = Slots(1)
    slots.take()
    done: list[int] = []

    async def work(number: int) -> None:
        await slots.wait()
        done.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(2)]
    await asyncio.sleep(0)
    slots.give_back()
    assert not slots.take()
    await tasks[0]
    assert done == [0]
    slots.give_back()
    await tasks[1]
    slots.give_back()
    assert slots.take()


@pytest.mark.parametrize("late", [False, True], ids=["before its turn", "as its turn comes"])
async def test_who_is_cancelled_keeps_no_slot(*, late: bool) -> None:
    slots = Slots(1)
    slots.take()
    waiting = asyncio.create_task(slots.wait())
    await asyncio.sleep(0)
    if late:
        slots.give_back()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not late:
        assert not slots.take()
        slots.give_back()
    assert slots.take()
