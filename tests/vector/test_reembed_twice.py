"""Two re-embeddings of one collection, each stopped at any of its steps while the other goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import AppError
from app.db.query import ALL
from app.db.vector.chroma_steps import Call
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.reembed import reembed
from app.db.vector.store import CollectionVectorStore

from .places import PLACES, Place
from .planned import Planned, doc
from .qdrant_local import LocalManager

ROWS = {f"row {n}": f"text {n}" for n in range(3)}
SETTLES = 0.03
_who: ContextVar[str | None] = ContextVar("who", default=None)


class Turns:
    """`first` stops before its n-th call until `second` has made m calls, and that one waits for its end."""

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

    async def run(self, first: Callable[[], Any], second: Callable[[], Any]) -> list[Any]:
        one = asyncio.create_task(self._as("first", first))
        await self._reached["first"].wait()
        two = asyncio.create_task(self._as("second", second))
        self.results = results = [await one]
        self._go_on["second"].set()
        results.append(await two)
        return results

    def _stop(self, who: str) -> None:
        self._reached[who].set()
        if who == "second":
            self._go_on["first"].set()

    def progress(self, doing: str, *_: int) -> None:
        """Nobody stands still for as long as who waits for the others."""
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


@asynccontextmanager
async def two_runs(place: Place, turns: Turns, other: str) -> AsyncIterator[list[Any]]:
    store = place.store(model("old").langchain)
    await store.save_and_embed(None, [doc(text, row_id=row_id) for row_id, text in ROWS.items()])
    runs = [place.store(model("old").langchain) for _ in range(2)]
    yield await turns.run(
        lambda: reembed(runs[0], model("new"), settles=SETTLES, progress=turns.progress),
        lambda: reembed(runs[1], model(other), settles=SETTLES, progress=turns.progress),
    )
    rows = dict(ROWS)
    assert await check(place, rows) in {"old", "new", other}
    again = place.store(model("old").langchain)
    await reembed(again, model("last"), settles=0)
    now = place.store(model("last").langchain)
    assert await check(place, rows) == "last"
    await now.save_and_embed(None, [doc("late", row_id="late")])
    await check(place, {**rows, "late": "late"})
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


def schedules(steps: int, number: int) -> Iterator[tuple[int, int]]:
    """The end of the first against all of the second, which is where it can hurt, and some of the rest."""
    pairs = [(first, second) for first in range(1, steps + 1) for second in (*range(1, steps + 1, 1), 10**6)]
    return iter(random.Random(7).sample(pairs, min(number, len(pairs))))


@pytest.mark.parametrize("other", ["new", "other", "old"])
async def test_on_a_qdrant_server_nothing_is_lost_or_mixed(other: str, tmp_path: Path) -> None:
    def begin(turns: Turns) -> Place:
        manager = LocalManager()

        async def before(_: str) -> None:
            await turns.before()

        manager.local_server.before = before
        return Place(PLACES_ENGINE, manager)

    await everything(begin, other, NUMBER_QDRANT)


from app.core.constants import VectorDBType  # noqa: E402

PLACES_ENGINE = VectorDBType.QDRANT
import os
NUMBER_QDRANT = int(os.environ.get("NQ", "60"))
NUMBER_CHROMA = int(os.environ.get("NC", "20"))


@pytest.mark.parametrize("other", ["new", "other", "old"])
async def test_on_a_chroma_server_nothing_is_lost_or_mixed(
    other: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    asked = Call.__call__
    now: list[Turns] = []

    def in_turn(call: Call) -> Any:
        async def ask() -> Any:
            await now[-1].before()
            return await asked(call)

        return ask()

    monkeypatch.setattr(Call, "__call__", in_turn)

    def begin(turns: Turns) -> Place:
        now.append(turns)
        return place

    await everything(begin, other, NUMBER_CHROMA)


async def everything(begin: Callable[[Turns], Place], other: str, number: int) -> None:
    outcomes: Counter[str] = Counter()
    steps = await steps_of(begin, "new")
    for first, second in schedules(steps, number):
        turns = Turns(first, second)
        try:
            async with two_runs(begin(turns), turns, other) as results:
                outcomes[" ".join(type(each).__name__ for each in results)] += 1
        except BaseException as error:
            if not os.environ.get("ALL"): raise
            print("FAIL", (first, second), steps, repr(error)[:300], [repr(r)[:120] for r in turns.results])
    print(steps, outcomes)


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES["chroma-http"](request, tmp_path)
