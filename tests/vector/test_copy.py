"""Collections from one engine to another."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from app.config.settings import PostgresSettings
from app.connections.postgres import PostgresConnectionManager
from app.connections.qdrant import QdrantConnectionManager
from app.core.constants import Distance, VectorDBType
from app.core.errors import ConfigurationError, EmbeddingMismatchError
from app.db.query import ALL
from app.db.vector.copy import CopyReport, Side, copy
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.pgvector import PgVectorStore
from app.db.vector.store import CollectionVectorStore

from .places import Place
from .planned import Planned, doc


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Place]:
    """Another place than that of the test: on the default engine."""
    other = Place(VectorDBType.QDRANT, QdrantConnectionManager(data_dir=tmp_path / "other"))
    yield other
    await other.manager.close()


def docs(*numbers: int) -> list[Any]:
    return [
        doc(f"text {n}", {"n": n, "document_id": f"d{n // 2}", "deep": {"a": [1.0, None, "é"]}}, f"row {n}")
        for n in numbers
    ]


async def rows(store: CollectionVectorStore) -> dict[str, Any]:
    return {each.id: each async for page in store.engine.pages(ALL, vectors=True) for each in page}


async def test_a_copy_is_the_same_in_both_directions(store: CollectionVectorStore, embedded: Place) -> None:
    await store.save_and_embed(None, docs(*range(300)))
    await store.save_and_embed(None, docs(7, 8))
    await store.engine.amend(lambda each: replace(each, chunker="9:9:9"))
    there = embedded.store(Planned(), collection="there")
    seen: list[tuple[str, int, int]] = []
    report = await copy(store, there, progress=lambda *each: seen.append(each))
    assert (report.written, report.removed, report.problems) == (300, 0, [])
    assert (report.source.rows, report.source.recall, report.target.recall) == (300, 1.0, 1.0)
    assert ("copying", 300, 300) in seen
    assert await there.engine.contract() == await store.engine.contract()
    before, after = await rows(store), await rows(there)
    for row_id, row in before.items():
        other = after[row_id]
        assert (row.document_id, row.text, row.metadata) == (other.document_id, other.text, other.metadata)
        assert row.embedded_at == other.embedded_at
        assert np.allclose(row.vector, other.vector, atol=1e-6)
    back = type(store)(store.connection, there.embedding, collection="back")
    report = await copy(there, back)
    assert (report.written, report.problems) == (300, [])
    assert (await copy(there, back)).written == 0


async def test_a_second_copy_brings_what_has_changed(store: CollectionVectorStore, embedded: Place) -> None:
    there = embedded.store(Planned())
    await store.save_and_embed(None, docs(*range(6)))
    await copy(store, there)
    await store.delete(["row 0"])
    await store.re_embed_document("d1")
    await store.update_metadata_where({"n": 4}, {"new": True})
    report = await copy(store, there)
    assert report.written == 3
    assert report.problems == ["the source has 5 rows, and the target 6", "the contents of the two differ"]
    report = await copy(store, there, delete_others=True)
    assert (report.written, report.removed, report.problems) == (0, 1, [])
    assert set(await rows(there)) == {f"row {n}" for n in range(1, 6)}


async def test_a_copy_that_could_not_be_used_is_refused(store: CollectionVectorStore, embedded: Place) -> None:
    await store.save_and_embed(None, docs(1))
    other = Planned()
    other.model = "another"
    with pytest.raises(EmbeddingMismatchError, match=r"with Planned/planned.*configured to be.*Planned/another"):
        await copy(store, embedded.store(other))
    with pytest.raises(EmbeddingMismatchError, match=r"by cosine.*configured to be measured by l2"):
        await copy(store, embedded.store(Planned(), distance=Distance.L2))
    there = embedded.store(Planned())
    await embedded.store(other).save_and_embed(None, docs(2))
    with pytest.raises(EmbeddingMismatchError, match=r"collection 'documents' is embedded with Planned/another"):
        await copy(store, there)
    with pytest.raises(ConfigurationError, match="same collection"):
        await copy(store, type(store)(store.connection, store.embedding))
    with pytest.raises(ConfigurationError, match="no collection 'nothing'"):
        await copy(type(store)(store.connection, store.embedding, collection="nothing"), there)


@pytest.mark.parametrize("distance", [Distance.L2, Distance.INNER_PRODUCT])
async def test_other_distances_are_compared_by_themselves(place: Place, embedded: Place, distance: Distance) -> None:
    store, there = place.store(Planned(), distance=distance), embedded.store(Planned(), distance=distance)
    await store.save_and_embed(None, docs(*range(120)))
    report = await copy(store, there)
    assert (report.problems, report.target.recall) == ([], 1.0)
    # By inner product, which is no metric, Chroma's graph does not get everywhere; 0.95 is asked of it.
    assert report.source.recall >= 0.9


def test_what_did_not_arrive_is_told() -> None:
    whole = Side(5, "a", 1.0)
    assert CopyReport(5, 0, 0.95, whole, Side(5, "a", 0.9)).problems == []
    assert CopyReport(5, 0, 0.95, whole, Side(5, "a", 0.85)).problems == [
        "searches find 85% of the nearest rows in the target, and 100% in the source"
    ]
    assert CopyReport(5, 0, 0.95, Side(5, "a", 0.5), Side(5, "a", 0.6)).problems == []


async def test_an_empty_collection_is_copied_as_one(store: CollectionVectorStore, embedded: Place) -> None:
    there = embedded.store(Planned())
    await store.save_and_embed(None, docs(1))
    await store.delete(["row 1"])
    report = await copy(store, there)
    assert (report.source.rows, report.target.rows, report.problems) == (0, 0, [])


async def test_a_copy_whose_vectors_are_others_is_found_out(store: CollectionVectorStore, embedded: Place) -> None:
    """Content and moment are the same, and the vectors are not: what a digest of contents cannot see."""
    there = embedded.store(Planned())
    await store.save_and_embed(None, docs(*range(60)))
    await copy(store, there)
    [[moment, *_]] = [[each.embedded_at for each in page] async for page in there.engine.pages(ALL)]
    wrong = np.random.default_rng(7).normal(size=(60, 4)).astype(np.float32)
    wrong /= np.linalg.norm(wrong, axis=1, keepdims=True)
    await there.engine.upsert([row async for row in _rows(there)], wrong, moment)
    report = await copy(store, there)
    assert report.written == 0
    assert report.source.digest == report.target.digest
    assert len(report.problems) == 1
    assert "of the nearest rows in the target" in report.problems[0]


async def _rows(store: CollectionVectorStore) -> Any:
    from app.db.vector.comparison import row_from  # noqa: PLC0415

    async for page in store.engine.pages(ALL):
        for each in page:
            yield row_from(each)


async def test_an_index_is_asked_what_it_was_measured_for(embedded: Place, postgres_schemas: Callable[[], str]) -> None:
    """Clustered rows are found by a narrow search, which misses much of what lies between two clusters."""
    random = np.random.default_rng(3)
    centres = random.standard_normal((100, 128))
    vectors = (centres[random.integers(0, 100, 6_000)] + 0.5 * random.standard_normal((6_000, 128))).astype(np.float32)
    source = embedded.store(Planned(size=128))
    await source.add_vectors([doc("text", {}, str(n)) for n in range(len(vectors))], vectors)
    async with PostgresConnectionManager(PostgresSettings(url=SecretStr(postgres_schemas()))) as manager:
        target = PgVectorStore(manager, EmbeddingModel.of(Planned(size=128)))
        report = await copy(source, target)
        assert await target.count() == len(vectors)
        index = target.engine._index
        assert index is not None
        assert index.width(0.95, 10) < 100
        assert report.problems == []
