"""A process that is killed at any step of a re-embedding or a copy, and run again, leaves what one run leaves."""

import signal
from collections.abc import Callable
from typing import Any

from app.db.query import ALL
from app.db.vector.copy import copy
from app.db.vector.reembed import reembed

from .stepped import NEVER, Stepped, fill, newer, opened, state


async def test_a_reembedding_killed_at_any_step_is_completed_by_the_next(
    stepped: Stepped, fresh: Callable[[int], str]
) -> None:
    clean = fresh(0)
    async with opened(clean) as store:
        await fill(store)
    steps = stepped.killed("reembed", NEVER, clean).steps
    assert steps > 8
    async with opened(clean, newer()) as store:
        expected = await state(store)
    assert len(expected[1]) == 7
    for killed_at in sorted({*range(1, steps - 8, steps // 3), *range(steps - 7, steps + 1)}):
        place = fresh(killed_at)
        async with opened(place) as store:
            await fill(store)
        assert stepped.killed("reembed", killed_at, place).status == -signal.SIGKILL
        async with opened(place) as store:
            known = await store.engine.contract()
            assert known is not None
            assert await store.engine_on("documents", _asking(known)).count(ALL) == 7, "something was lost"
            await reembed(store, newer(), settles=0)
        async with opened(place, newer()) as store:
            assert await state(store) == expected, killed_at


async def test_a_copy_killed_at_any_step_is_completed_by_the_next(
    stepped: Stepped, fresh: Callable[[int], str], postgres_schemas: Callable[[], str]
) -> None:
    source, clean = postgres_schemas(), fresh(0)
    async with opened(source) as store:
        await fill(store)
    steps = stepped.killed("copy", NEVER, source, clean).steps
    async with opened(clean) as store:
        expected = await state(store)
    assert len(expected[1]) == 7
    for killed_at in range(2, steps + 1, max(1, steps // 6)):
        place = fresh(killed_at)
        assert stepped.killed("copy", killed_at, source, place).status == -signal.SIGKILL
        async with opened(source) as origin, opened(place) as store:
            assert (await copy(origin, store)).problems == []
            assert await state(store) == expected


def _asking(contract: Any) -> Any:
    async def asked(_: int | None) -> Any:
        return contract

    return asked
