"""Two re-embeddings of one collection, each stopped at any of its steps while the other goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from app.core.constants import VectorDBType
from app.core.errors import AppError
from app.db.query import ALL
from app.db.vector.chroma_steps import Call
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.reembed import reembed

from .places import Place
from .planned import Planned, doc
from .qdrant_local import LocalManager

ROWS = {f"row {n}": f"text {n}" for n in range(3)}
SETTLES = 0.03
_SWITCH = 14
_who: ContextVar[str | None] = ContextVar("who", default=None)


class Turns:
    """The first run stops before one of its calls until the second, which begins then, stops before one of its own;
    that one stands still until the first has ended. Nobody does for as long as a run waits for others (`settles`).
    """

    def __init__(self, first: int, second: int) -> None:
        self.calls: Counter[str] = Counter()
        self.results: list[Any] = []
        self._stops = {"first": first, "second": second}
        self._reached = {"first": asyncio.Event(), "second": asyncio.Event()}
        self._go_on = {"first": asyncio.Event(), "second": asyncio.Event()}

    async def before(self) -> None:
        who = _who.get()
        if who is None:
            return
        self.calls[who] += 1
        if self.calls[who] == self._stops[who]:
            self._stop(who)
            await self._go_on[who].wait()

    async def run(self, first: Callable[[], Any], second: Callable[[], Any]) -> None:
        one = asyncio.create_task(self._as("first", first))
        await self._reached["first"].wait()
        two = asyncio.create_task(self._as("second", second))
        self.results.append(await one)
        self._go_on["second"].set()
        self.results.append(await two)

    def _stop(self, who: str) -> None:
        self._reached[who].set()
        if who == "second":
            self._go_on["first"].set()

    def progress(self, doing: str, *_: int) -> None:
        if doing.startswith("waiting"):
            self._go_on["second" if _who.get() == "first" else "first"].set()

    async def _as(self, who: str, work: Callable[[], Any]) -> Any:
        _who.set(who)
        try:
            return await work()
        except AppError as error:
            return error
        finally:
            self._stop(who)


def model(name: str) -> EmbeddingModel:
    """Vectors of one length, so that nothing but their values tells whose they are."""
    embeddings = Planned({text: [MODELS.index(name) + 1.0, n + 1.0, 1.0, 2.0] for n, text in enumerate(TEXTS)})
    embeddings.model = name
    return EmbeddingModel.of(embeddings)


MODELS = ("old", "new", "other", "last")
TEXTS = [*ROWS.values(), "late"]


async def check(place: Place, rows: dict[str, str]) -> str:
    """All rows are there, with the vectors of the model that the collection says; return which that is."""
    contract = await place.store(model("old").langchain).engine.contract()
    assert contract is not None
    assert contract.model is not None
    store = place.store(model(contract.model).langchain)
    found = {each.id: each async for page in store.engine.pages(ALL, vectors=True) for each in page}
    assert {key: each.text for key, each in found.items()} == rows
    for each in found.values():
        [expected] = await model(contract.model).array([each.text])
        assert each.vector is not None
        assert each.vector @ expected / (each.vector @ each.vector * (expected @ expected)) ** 0.5 > 0.99999
    return contract.model


async def two_runs(place: Place, turns: Turns, other: str) -> None:
    store = place.store(model("old").langchain)
    await store.save_and_embed(None, [doc(text, row_id=row_id) for row_id, text in ROWS.items()])
    runs = [place.store(model("old").langchain) for _ in range(2)]
    await turns.run(
        lambda: reembed(runs[0], model("new"), settles=SETTLES, progress=turns.progress),
        lambda: reembed(runs[1], model(other), settles=SETTLES, progress=turns.progress),
    )
    assert await check(place, ROWS) in {"old", "new", other}
    await reembed(store, model("last"), settles=0)
    assert await check(place, ROWS) == "last"
    now = place.store(model("last").langchain)
    await now.save_and_embed(None, [doc("late", row_id="late")])
    await check(place, {**ROWS, "late": "late"})
    await now.drop_collection()


async def steps_of(begin: Callable[[Turns], Place], other: str) -> int:
    """How many calls a run makes that nobody disturbs."""
    turns = Turns(10**9, 10**9)
    place = begin(turns)
    store = place.store(model("old").langchain)
    await store.save_and_embed(None, [doc(text, row_id=row_id) for row_id, text in ROWS.items()])
    await asyncio.create_task(turns._as("first", lambda: reembed(store, model(other), settles=0)))
    await place.store(model(other).langchain).drop_collection()
    return turns.calls["first"]


def schedules(steps: int, number: int) -> list[tuple[int, int]]:
    """Some of all pairs of steps, always the same, and most where the first is about to switch."""
    chance = random.Random(7)
    pairs = [(first, second) for first in range(1, steps + 1) for second in range(1, steps + 1)]
    switching = [pair for pair in pairs if steps - _SWITCH < pair[0]]
    return chance.sample(switching, number * 2 // 3) + chance.sample(pairs, number // 3)


async def none_hurts(begin: Callable[[Turns], Place], other: str, number: int) -> None:
    outcomes: Counter[str] = Counter()
    for first, second in schedules(await steps_of(begin, "new"), number):
        turns = Turns(first, second)
        try:
            await two_runs(begin(turns), turns, other)
        except BaseException as error:
            error.add_note(f"the first stopped at {first}, the second at {second}: {turns.results}")
            raise
        outcomes[type(turns.results[1]).__name__] += 1
    assert outcomes["ReembedReport"] > number // 2, "the one that began last goes on"


@pytest.mark.parametrize("other", ["new", "other", "old"])
async def test_on_a_qdrant_server_nothing_is_lost_or_mixed(other: str) -> None:
    def begin(turns: Turns) -> Place:
        manager = LocalManager()

        async def before(_: str) -> None:
            await turns.before()

        manager.local_server.before = before
        return Place(VectorDBType.QDRANT, manager)

    await none_hurts(begin, other, 45)


@pytest.mark.parametrize("made", ["chroma-http"], indirect=True)
@pytest.mark.parametrize("other", ["new", "other", "old"])
async def test_on_a_chroma_server_nothing_is_lost_or_mixed(
    other: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Call.__call__
    now: list[Turns] = []

    def in_turn(call: Call) -> Any:
        async def ask() -> Any:
            await now[-1].before()
            return await asked(call)

        return ask()

    def begin(turns: Turns) -> Place:
        now.append(turns)
        return place

    monkeypatch.setattr(Call, "__call__", in_turn)
    await none_hurts(begin, other, 6)
