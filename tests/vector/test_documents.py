"""How documents are identified, how a change is seen, and what a store needs at the least."""

import hashlib
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document

from app.core.errors import UnsupportedOperationError
from app.db.query import Filter
from app.db.vector.base import DocumentMetadata, VectorDB


def test_create_hash_is_sha_256() -> None:
    assert DocumentMetadata.create_hash("é") == hashlib.sha256("é".encode()).hexdigest()


@pytest.mark.parametrize("source", ["/a/b.txt", "https://x.io/a/../b?c#d", "s3://bucket/./x"])
def test_absolute_normal_paths_and_urls_are_themselves(source: str) -> None:
    assert DocumentMetadata._normalize_source_path(source) == source
    assert DocumentMetadata.generate_document_id(source) == hashlib.sha256(source.encode()).hexdigest()[:32]


def test_every_spelling_of_a_path_is_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spellings: list[str | Path] = [
        "b.txt",
        "./a/../b.txt",
        f"{tmp_path}/b.txt",
        f"{tmp_path}//a/./../b.txt",
        Path("b.txt"),
    ]
    assert len({DocumentMetadata.generate_document_id(each) for each in spellings}) == 1
    assert len({DocumentMetadata.generate_chunk_id(each, 3) for each in spellings}) == 1


def test_chunk_ids_are_uuids_of_their_own() -> None:
    made = [DocumentMetadata.generate_chunk_id(source, n) for source in ("/a", "/b") for n in range(3)]
    assert len(set(made)) == 6
    assert [str(uuid.UUID(each)) for each in made] == made
    assert DocumentMetadata.generate_chunk_id("/a") == made[0]


def test_change_detection_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    missing = DocumentMetadata.get_change_detection_info(str(path))
    assert set(missing) == {"source_path", "source_type", "timestamp"}
    path.write_text("one")
    first = DocumentMetadata.get_change_detection_info(str(path))
    assert first["source_type"] == "local_file"
    assert first["source_path"] == str(path)
    assert first["file_size"] == 3
    assert {"modified_time", "creation_time", "inode"} <= set(first)
    again = DocumentMetadata.get_change_detection_info(str(path))
    assert not DocumentMetadata.has_changed(first, again)
    assert DocumentMetadata.has_changed(missing, first)
    os.utime(path, (1, 1))
    assert DocumentMetadata.has_changed(first, DocumentMetadata.get_change_detection_info(path))


def test_change_detection_of_a_url_and_a_folder(tmp_path: Path) -> None:
    info = DocumentMetadata.get_change_detection_info("https://x.io/a")
    assert (info["source_type"], set(info)) == ("url", {"source_path", "source_type", "timestamp"})
    assert "file_size" not in DocumentMetadata.get_change_detection_info(tmp_path)
    assert "file_size" not in DocumentMetadata.get_change_detection_info("a\0b")


class Least(VectorDB):
    """The nine abstract methods and nothing else."""

    # ruff: noqa: ARG002

    def get_vector_db_config(self) -> dict[str, Any]:
        return {}

    async def _create_connection(self) -> None:
        self.connected = True

    async def _close_connection(self) -> None:
        self.connected = False

    async def save_and_embed(self, embedding_type: str | None, docs: Sequence[Document]) -> list[str]:
        return [str(n) for n, _ in enumerate(docs)]

    async def update_document(self, document_id: str, updated_doc: Document, embedding_type: str | None = None) -> bool:
        return False

    async def delete_by_document_id(self, document_id: str) -> bool:
        return False

    async def get_document_metadata(self, document_id: str) -> DocumentMetadata | None:
        return None

    async def search_similar(self, query: str, k: int = 5, filter_criteria: Filter = None) -> list[Document]:
        return [Document(page_content=query)]

    def as_retriever(self, search_kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        return None


ABSTRACT = {
    *("get_vector_db_config", "_create_connection", "_close_connection", "save_and_embed", "update_document"),
    *("delete_by_document_id", "get_document_metadata", "search_similar", "as_retriever"),
}


def test_the_abstract_methods_are_these() -> None:
    assert VectorDB.__abstractmethods__ == ABSTRACT


async def test_a_store_with_just_these_works_and_refuses_the_rest() -> None:
    async with Least() as least:
        assert vars(least) == {"connected": True}
        assert await least.save_and_embed(None, [Document(page_content="x")]) == ["0"]
        assert (await least.search_similar("q"))[0].page_content == "q"
        optional = {
            "search_with_scores": ("q",),
            "search_by_vector": ([1.0],),
            "search_diverse": ("q",),
            "search_diverse_by_vector": ([1.0],),
            "get_by_ids": (["1"],),
            "delete": (["1"],),
            "delete_where": ({"a": 1},),
            "count": (),
            "documents": (),
            "document_ids": (),
            "re_embed_document": ("x",),
            "search_hybrid": ("q",),
            "add": ([],),
            "add_vectors": ([], []),
            "update_metadata_where": ({"a": 1}, {"b": 2}),
            "export": (),
            "as_langchain": (),
            "drop_collection": (),
        }
        for name, arguments in optional.items():
            with pytest.raises(UnsupportedOperationError, match=f"Least cannot do {name}"):
                await getattr(least, name)(*arguments)
    assert vars(least) == {"connected": False}
    public = {name for name, value in vars(VectorDB).items() if callable(value) and not name.startswith("_")}
    assert public == set(optional) | {"upsert"} | {name for name in ABSTRACT if not name.startswith("_")}


def test_importing_the_base_loads_nothing_heavy() -> None:
    heavy = ("langchain_core", "numpy", "qdrant_edge", "wordllama", "langchain_text_splitters", "filelock")
    code = (
        "import sys, app.db.vector.base, app.db.vector.providers.db_provider, app.db.vector.unified;"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
