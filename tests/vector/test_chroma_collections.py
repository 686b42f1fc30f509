"""Collections of Chroma by name: made at once by many, gone, of other programs, and taking another's place."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.connections._chroma_embedded import ChromaEngine
from app.core.errors import ConfigurationError, OutcomeUnknownError, StoreUnavailableError
from app.db.vector import chroma_catalog
from app.db.vector.chroma_collection import ChromaCollection
from app.db.vector.chroma_filter import Where
from app.db.vector.chroma_steps import Call, Steps, chroma_errors, take
from app.db.vector.contract import CollectionContract, staged_name
from app.db.vector.payload import to_row

from .places import PLACES, Place
from .planned import Planned, doc


@pytest.fixture(params=[name for name in PLACES if name.startswith("chroma")])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](request, tmp_path)


async def names(place: Place) -> list[str]:
    manager: Any = place.manager
    client = await manager.connect()
    if isinstance(client, ChromaEngine):
        return await client.read(lambda owned: sorted(each.name for each in owned.list_collections()))
    return sorted(each.name for each in await manager.read(lambda _: client.list_collections()))


async def ids(store: Any) -> set[str]:
    return {str(document.id) async for document in store.documents()}


async def test_who_reads_in_the_middle_of_a_drop_looks_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has deleted a part of the collection by then, and says so with an error of no class of its own."""
    one, count = place.store(Planned()), ChromaCollection.count
    await one.save_and_embed(None, [doc("t", row_id="old")])
    asked: list[Where] = []

    def half_gone(self: ChromaCollection, where: Where) -> Steps[int]:
        asked.append(where)
        if len(asked) == 1:
            raise chroma_errors.InvalidArgumentError("Missing field: [Missing metadata segment]")
        return count(self, where)

    monkeypatch.setattr(ChromaCollection, "count", half_gone)
    assert await one.count() == 1
    assert len(asked) == 2


async def test_many_that_write_first_make_one_collection(place: Place) -> None:
    stores = [place.store(Planned()) for _ in range(8)]
    await asyncio.gather(*(store.save_and_embed(None, [doc("t", row_id=str(n))]) for n, store in enumerate(stores)))
    assert await ids(stores[0]) == {str(n) for n in range(8)}
    assert await names(place) == ["documents"]


async def test_a_collection_that_was_dropped_or_made_anew_by_others_is_looked_for_again(place: Place) -> None:
    one = place.store(Planned())
    await one.save_and_embed(None, [doc("t", row_id="old")])
    assert await one.count() == 1
    manager: Any = place.manager
    client = await manager.connect()
    if isinstance(client, ChromaEngine):
        await client.write(lambda owned: owned.delete_collection("documents"))
    else:
        await manager.write(lambda _: client.delete_collection("documents"))
    assert await one.count() == 0
    assert await one.search_similar("q") == []
    await one.save_and_embed(None, [doc("t", row_id="new")])
    assert await ids(one) == {"new"}


async def test_a_collection_of_another_program_is_refused(place: Place) -> None:
    manager: Any = place.manager
    client = await manager.connect()
    for name, metadata in (("documents", {"a": "b"}), ("broken", {"manystore": "{}"})):
        options: Any = {"embedding_function": None, "metadata": metadata}
        if isinstance(client, ChromaEngine):
            await client.write(lambda owned, n=name, o=options: owned.create_collection(n, **o))  # type: ignore[misc]
        else:
            await manager.write(lambda _, n=name, o=options: client.create_collection(n, **o))
    with pytest.raises(ConfigurationError, match="made by another program"):
        await place.store(Planned()).save_and_embed(None, [doc("t")])
    with pytest.raises(StoreUnavailableError, match="contract that cannot be read"):
        await place.store(Planned(), collection="broken").count()


async def staged(place: Place) -> tuple[Any, str]:
    """A collection, and one beside it that is to take its place."""
    store = place.store(Planned())
    await store.save_and_embed(None, [doc("t", row_id="old")])

    async def asked(dimension: int | None) -> CollectionContract:
        return CollectionContract("Planned", "newer", dimension, store.distance, replaces="documents")

    name = staged_name("documents")
    beside = store.engine_on(name, asked)
    rows = [to_row(doc("t", row_id="new"))]
    await beside.upsert(rows, np.ones((1, 4), dtype=np.float32), "2026-01-01T00:00:00+00:00")
    return store, name


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_a_switch_that_was_stopped_is_finished_by_who_looks_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    store, name = await staged(place)
    asked, writes = Call.__call__, 0

    def until(call: Call) -> Any:
        nonlocal writes
        if call.write and writes == steps:
            raise OutcomeUnknownError("killed here")
        writes += call.write
        return asked(call)

    monkeypatch.setattr(Call, "__call__", until)
    with pytest.raises(OutcomeUnknownError):
        await store.engine.replace_by(name)
    monkeypatch.undo()
    newer = Planned()
    newer.model = "newer"
    if steps < 2:
        assert await ids(place.store(Planned())) == {"old"}
        assert await names(place) == ["documents", name]
    else:
        assert await ids(place.store(newer)) == {"new"}
        assert await names(place) == ["documents"]
    await store.engine.replace_by(name)
    await store.engine.replace_by(name)
    after = place.store(newer)
    assert await ids(after) == {"new"}
    assert await after.engine.contract() == CollectionContract("Planned", "newer", 4, store.distance)
    await after.save_and_embed(None, [doc("t", row_id="newer")])
    assert await names(place) == ["documents"]


async def test_what_is_dropped_does_not_come_back_from_beside(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store, name = await staged(place)
    monkeypatch.setattr(chroma_catalog, "_put_away", _stop)
    with pytest.raises(StoreUnavailableError):
        await store.engine.replace_by(name)
    monkeypatch.undo()
    assert await names(place) == ["documents", name]
    assert await store.drop_collection()
    assert await names(place) == []
    assert await place.store(Planned()).count() == 0
    assert not await store.drop_collection()


def _stop(*_: Any) -> Steps[bool]:
    raise StoreUnavailableError("killed here")


@pytest.mark.parametrize("made", ["chroma-directory"], indirect=True)
async def test_of_two_that_replace_a_document_at_once_neither_removes_all_of_the_others(place: Place) -> None:
    """On a server nothing keeps their steps apart: here they take turns at each."""
    store = place.store(Planned())
    await store.save_and_embed(None, [doc("t", {"document_id": "d"}, "old")])
    manager: Any = place.manager
    owner = await manager.connect()

    def work(owned: Any) -> set[str]:
        found = take(chroma_catalog.find(owned, "documents"))
        assert found is not None
        vectors = np.ones((1, 4), dtype=np.float32)
        both = [
            found.replace("d", [to_row(doc("t", row_id=name), document_id="d")], vectors, "", only_present=False)
            for name in ("one", "two")
        ]
        answers: list[Any] = [None, None]
        left = {0, 1}
        while left:
            for each in sorted(left):
                try:
                    answers[each] = both[each].send(answers[each])()
                except StopIteration:
                    left.discard(each)
        return set(take(found.ids(where=True)))

    kept = await owner.write(work)
    assert kept
    assert "old" not in kept
