import asyncio
import gc
import weakref

import pytest

from app.connections._fence import Fence

_SOON = 0.02


async def _late(seconds: float) -> float:
    """How long after its beginning it was cancelled."""
    start = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError), Fence(seconds) as fence:
        await asyncio.sleep(10)
    assert fence.expired
    return asyncio.get_running_loop().time() - start


async def test_what_takes_longer_is_cancelled_then_and_not_before() -> None:
    assert _SOON <= await _late(_SOON) < 1


async def test_each_ends_at_its_own_time_whatever_the_order() -> None:
    limits = [3 * _SOON, _SOON, 5 * _SOON, 2 * _SOON]
    took = await asyncio.gather(*map(_late, limits))
    for limit, each in zip(limits, took, strict=True):
        assert limit <= each < limit + 1
    assert sorted(limits, key=dict(zip(limits, took, strict=True)).__getitem__) == sorted(limits)


async def test_what_ends_in_time_is_left_alone() -> None:
    with Fence(_SOON) as fence:
        await asyncio.sleep(0)
    await asyncio.sleep(2 * _SOON)
    assert not fence.expired
    assert await _late(_SOON) < 1  # and the timer goes on for the next


async def test_an_error_of_its_own_and_a_cancellation_from_outside_stay_what_they_are() -> None:
    with pytest.raises(KeyError), Fence(1):
        raise KeyError

    async def work() -> None:
        with Fence(10):
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_cancelled_and_late_at_once_is_cancelled() -> None:
    async def work() -> None:
        with Fence(_SOON) as fence:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                assert fence.expired
                task.cancel()
                raise

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_what_it_raises_on_being_cancelled_stays_what_it_is() -> None:
    async def work() -> None:
        with Fence(_SOON):
            try:
                await asyncio.sleep(10)
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await work()


async def test_after_the_limit_the_task_can_be_cancelled_again() -> None:
    await _late(_SOON)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await _late(_SOON) < 1


def test_it_does_not_keep_a_loop_alive() -> None:
    async def work() -> weakref.ref[asyncio.AbstractEventLoop]:
        with Fence(60):
            await asyncio.sleep(0)
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(work())
    gc.collect()
    assert loop() is None
