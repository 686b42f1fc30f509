"""By which rules a collection's texts were cut."""

from pathlib import Path

import pytest
from langchain_core.documents import Document

from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import AppError, EmbeddingMismatchError
from app.db.vector import ingest as ingest_module
from app.db.vector import split
from app.db.vector.base import DocumentMetadata
from app.db.vector.ingest import ingest
from app.db.vector.qdrant import QdrantVectorStore

from .planned import Planned, store_on


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "guide.md").write_text("# Guide\n\nRead it.\n")
    (folder / "notes.txt").write_text("Some notes.\n")
    return folder


async def ids(store: QdrantVectorStore) -> set[str | None]:
    return {each.id async for each in store.documents()}


async def test_a_collection_remembers_how_its_texts_were_cut(
    manager: QdrantConnectionManager, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(manager, Planned())
    await ingest(store, [files])
    assert (known := await store.engine.contract()) is not None
    assert known.chunker == split.RULES
    before = await ids(store)

    monkeypatch.setattr(ingest_module, "RULES", "2:20:0")
    later = store_on(manager, Planned())
    with pytest.raises(EmbeddingMismatchError, match=r"rules 1:1000:100, and this .* 2:20:0: .* --rechunk"):
        await ingest(later, [files])
    report = await ingest(later, [files], rechunk=True)
    assert (report.updated, report.unchanged) == (2, 0)
    assert await ids(later) == before
    assert (known := await later.engine.contract()) is not None
    assert known.chunker == "2:20:0"
    assert (await ingest(later, [files])).unchanged == 2


async def test_other_rules_are_remembered_until_one_run_has_cut_all(
    manager: QdrantConnectionManager, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(manager, Planned())
    await store.save_and_embed(None, [Document(page_content="of my own")])  # which nothing has cut
    (files / "gone.txt").write_text("word " * 1_000)
    await ingest(store, [files])
    (files / "gone.txt").unlink()
    monkeypatch.setattr(ingest_module, "RULES", "2:20:0")
    later = store_on(manager, Planned())

    report = await ingest(later, [files / "guide.md"], rechunk=True)
    assert report.left == (str(files / "gone.txt"), str(files / "notes.txt"))
    assert (await ingest(later, [files], rechunk=True)).left == (str(files / "gone.txt"),)
    assert (known := await later.engine.contract()) is not None
    assert known.chunker == split.RULES
    with pytest.raises(EmbeddingMismatchError, match="--rechunk"):
        await ingest(later, [files])

    await later.delete_by_document_id(DocumentMetadata.generate_document_id(files / "gone.txt"))
    report = await ingest(later, [files], rechunk=True)
    assert (report.unchanged, report.left) == (2, ())
    assert (known := await later.engine.contract()) is not None
    assert known.chunker == "2:20:0"
    assert (await ingest(later, [files])).unchanged == 2


async def test_an_unfinished_ingestion_is_remembered_as_well(manager: QdrantConnectionManager, files: Path) -> None:
    class Failing(Planned):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if texts == ["Some notes."]:
                raise AppError("no more credit")
            return super().embed_documents(texts)

    store = store_on(manager, Failing())
    with pytest.raises(AppError, match="credit"):
        await ingest(store, [files])
    assert (known := await store.engine.contract()) is not None
    assert known.chunker == split.RULES


async def test_a_collection_that_was_there_before_remembers_it_as_well(
    manager: QdrantConnectionManager, files: Path
) -> None:
    store = store_on(manager, Planned())
    await store.save_and_embed(None, [Document(page_content="of my own")])
    assert (known := await store.engine.contract()) is not None
    assert known.chunker is None
    await ingest(store, [files])
    assert (known := await store.engine.contract()) is not None
    assert known.chunker == split.RULES
