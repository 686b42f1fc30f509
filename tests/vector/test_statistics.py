"""What is told of the vector engines that live in a directory."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from app.core.constants import EmbeddingType
from app.db import DataLayer
from app.db.statistics.base import StoreState, used_space


def on(directory: Path, name: str) -> DataLayer:
    section: dict[str, Any] = {"qdrant": {"url": "embedded"}, "chromadb": {}}[name]
    return DataLayer.from_config({"data_dir": str(directory), "connections": {name: section}})


async def test_embedded_qdrant(tmp_path: Path) -> None:
    async with DataLayer.from_config({"data_dir": str(tmp_path)}) as data:
        store = data.vector_store("documents")
        ids = await store.save_and_embed(
            EmbeddingType.WORDLLAMA, [Document(page_content=word) for word in ("tea", "rye", "oak")]
        )
        [documents] = (await data.statistics("qdrant"))["qdrant"].collections
        assert (documents.name, documents.rows, documents.exact) == ("documents", 3, True)
        assert {index.name: index.kind for index in documents.indexes} == {"terms": "keyword"}
        assert documents.details["vectors"] == "256 cosine"
        assert documents.size_bytes
        await store.delete_by_document_id(ids[0])
    async with on(tmp_path, "qdrant") as data:  # as the command finds it, with nothing open
        found = (await data.statistics())["qdrant"]
    assert found.collections[0].rows == 2
    assert found.size_bytes == used_space(str(tmp_path / "qdrant")) >= (found.collections[0].size_bytes or 0) > 0
    assert found.version
    assert json.dumps(asdict(found))


async def test_a_chroma_directory(tmp_path: Path) -> None:
    async with on(tmp_path, "chromadb") as data:
        engine = await data.connection("chromadb").connect()
        for number in range(3):
            await engine.write(
                lambda client, number=number: client.create_collection(f"some{number}", embedding_function=None).upsert(
                    ids=["1", "2"][:number] or ["0"], embeddings=[[1.0, 2.0, 3.0]] * (number or 1)
                )
            )
        await engine.write(lambda client: client.create_collection("empty", embedding_function=None))
        found = (await data.statistics())["chromadb"]
    assert {each.name: each.rows for each in found.collections} == {"some0": 1, "some1": 1, "some2": 2, "empty": 0}
    assert {each.name: each.details["dimension"] for each in found.collections}["some0"] == 3
    assert found.size_bytes
    assert found.version
    assert json.dumps(asdict(found))


async def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for name in ("qdrant", "chromadb"):
        async with on(tmp_path, name) as data:
            found = (await data.statistics())[name]
            assert (found.state, found.size_bytes) == (StoreState.OK, 0)
    assert list(tmp_path.iterdir()) == []


async def test_files_are_measured_by_what_they_take(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**30)
        file.write(b"x" * 10_000)
    assert 10_000 <= used_space(str(tmp_path)) < 2**20
