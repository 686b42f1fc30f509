"""A process that dies at any request, and another that goes on."""

from pathlib import Path
from typing import Any

import pytest

from app.db.query import ALL
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.ingest import ingest
from app.db.vector.qdrant import QdrantVectorStore
from app.db.vector.reembed import reembed

from ..planned import Planned, doc, store_on
from ..qdrant_local import LocalManager, LocalServer
from .killing import kill_at, rows

OLD = {f"c{n}": f"old {n}" for n in range(4)}
NEW = {f"c{n}": f"new {n}" for n in (1, 2, 5)}


def chunks(texts: dict[str, str]) -> list[Any]:
    return [doc(text, {"document_id": "d", "n": n}, row_id) for n, (row_id, text) in enumerate(texts.items())]


@pytest.mark.parametrize("work", ["save", "update", "re-embed", "embed anew", "metadata"])
async def test_a_write_killed_at_any_call_loses_nothing_and_is_completed_by_the_next(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.vector.qdrant_server_points.BATCH", 2)
    monkeypatch.setattr("app.db.vector.qdrant_server.BATCH", 2)

    async def run(store: QdrantVectorStore) -> None:
        match work:
            case "save":
                await store.upsert(chunks(NEW))
            case "update":
                await store.update_document("d", doc("new", {"document_id": "d"}))
            case "re-embed":
                await store.re_embed_document("d", chunks(NEW))
            case "embed anew":
                assert isinstance(store.embedding.langchain, Planned)
                store.embedding.langchain.vectors |= {text: [0.0, 0.0, 1.0, 0.0] for text in OLD.values()}
                await store.re_embed_document("d")
            case "metadata":
                await store.update_metadata_where({"document_id": "d"}, {"changed": True})

    expected: Any = None
    for number in range(200):
        server = LocalServer()
        async with LocalManager(server) as manager, LocalManager(server) as next_manager:
            store = store_on(manager, Planned())
            if work != "save":
                await store.upsert(chunks(OLD))
            killed = await kill_at(server, number, run(store))
            store = store_on(next_manager, Planned())
            if number == 0:
                expected = await state(store)
                continue
            if killed:
                there = await rows(store)
                if work in ("update", "re-embed"):
                    new = NEW if work == "re-embed" else {"d": "new"}
                    assert OLD.keys() <= there.keys() or new.items() <= there.items(), "the old went first"
                elif work != "save":
                    assert there == OLD
                await run(store)
            assert await state(store) == expected, number
            if not killed:
                assert number > 5
                return


async def test_an_ingestion_killed_at_any_call_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.vector.qdrant_server_points.BATCH", 2)
    file = tmp_path / "a.md"

    def write(version: int, sections: int) -> None:
        file.write_text("".join(f"# {n}\n\n{version} {'word ' * 300}\n\n" for n in range(sections)))

    expected: Any = None
    for number in range(100):
        server = LocalServer()
        async with LocalManager(server) as manager, LocalManager(server) as next_manager:
            write(1, 5)
            await ingest(store_on(manager, Planned()), [file])
            old = await rows(store_on(manager, Planned()))
            write(2, 3)
            killed = await kill_at(server, number, ingest(store_on(manager, Planned()), [file]))
            store = store_on(next_manager, Planned())
            there = await rows(store)
            assert old.keys() <= there.keys() or expected is None or there.keys() >= {row[0] for row in expected}
            await ingest(store, [file])
            expected = expected or await state(store)
            assert await state(store) == expected, number
        if number and not killed:
            assert number > 10
            return
    raise AssertionError


async def state(store: QdrantVectorStore) -> Any:
    found = [each async for page in store.engine.pages(ALL, vectors=True) for each in page]
    assert await store.count({"n": {"$gte": 0}}) == sum("n" in each.metadata for each in found)
    return sorted(
        (
            each.id,
            each.text,
            each.metadata["document_id"],
            str(each.metadata),
            [] if each.vector is None else each.vector.tolist(),
        )
        for each in found
    )


async def test_a_reembedding_killed_at_any_call_is_completed_by_the_next() -> None:
    newer = Planned(size=6)
    newer.model = "newer"
    for number in (0, *range(1, 400, 3)):
        server = LocalServer()
        async with LocalManager(server) as manager, LocalManager(server) as next_manager:
            store = store_on(manager, Planned())
            await store.upsert(chunks(OLD))
            killed = await kill_at(server, number, reembed(store, EmbeddingModel.of(newer), settles=0))
            there = await rows(store_on(next_manager, newer if await _is_new(next_manager) else Planned()))
            assert there == OLD
            await reembed(store_on(next_manager, Planned()), EmbeddingModel.of(newer), settles=0)
            assert await rows(store_on(next_manager, newer)) == OLD
            assert len((await server.run("get_collections")).collections) == 1
        if number and not killed:
            assert number > 30
            return
    raise AssertionError


async def _is_new(manager: LocalManager) -> bool:
    contract = await store_on(manager, Planned()).engine.contract()
    assert contract is not None
    return contract.model == "newer"
