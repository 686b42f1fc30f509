"""Files become documents, once, whatever happens on the way."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import qdrant_edge
from langchain_core.documents import Document

from app.connections.qdrant import QdrantConnectionManager
from app.core.errors import AppError
from app.db.vector.base import DocumentMetadata
from app.db.vector.ingest import SourceNotFoundError, ingest
from app.db.vector.qdrant import QdrantVectorStore
from app.db.vector.qdrant_rows import ROW, read_row
from app.db.vector.sources import MAX_BYTES
from app.db.vector.split import CHUNK_SIZE, split_text

from .planned import Planned, store_on

GUIDE = """# Guide

## Install

Type one command.

```sh
# this is no heading
    make demo
```

## Use

### Search

Ask a question.
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "guide.md").write_text(GUIDE)
    (folder / "sub" / "notes.txt").write_text("Some notes.\n")
    return folder


async def stored(store: QdrantVectorStore) -> list[Document]:
    return sorted([each async for each in store.documents()], key=lambda each: str(each.id))


async def test_what_is_stored_of_a_file(store: QdrantVectorStore, files: Path) -> None:
    report = await ingest(store, [files])
    assert (report.added, report.updated, report.unchanged, report.skipped, report.chunks) == (2, 0, 0, (), 3)
    source = str(files / "guide.md")
    rows = [each async for each in store.documents({"source_path": source})]
    rows.sort(key=lambda each: each.metadata["chunk_index"])
    assert [each.id for each in rows] == [DocumentMetadata.generate_chunk_id(source, n) for n in range(2)]
    assert [each.metadata["headings"] for each in rows] == [["Guide", "Install"], ["Guide", "Use", "Search"]]
    assert [each.metadata["heading"] for each in rows] == ["Install", "Search"]
    assert "    make demo\n```" in rows[0].page_content
    assert rows[1].page_content == "## Use\n\n### Search\n\nAsk a question."
    known = await store.get_document_metadata(DocumentMetadata.generate_document_id(source))
    assert known is not None
    assert (known.source_path, known.file_type) == (source, "md")


async def test_again_changes_nothing(store: QdrantVectorStore, planned: Planned, files: Path) -> None:
    await ingest(store, [files])
    before, asked = await stored(store), len(planned.asked)
    report = await ingest(store, [files])
    assert (report.added, report.updated, report.unchanged, report.chunks) == (0, 0, 2, 0)
    assert await stored(store) == before
    assert len(planned.asked) == asked


async def test_a_changed_file_is_replaced_and_its_surplus_goes(store: QdrantVectorStore, files: Path) -> None:
    path = files / "sub" / "notes.txt"
    path.write_text("word " * 2_000)
    await ingest(store, [path])
    assert await store.count() > 5
    path.write_text("Short now.\n")
    report = await ingest(store, [path])
    assert (report.added, report.updated, report.unchanged, report.chunks) == (0, 1, 0, 1)
    [row] = await stored(store)
    assert row.page_content == "Short now."
    path.write_text("  \n")
    report = await ingest(store, [path])
    assert [each.reason for each in report.skipped] == ["empty"]
    assert await store.count() == 0


async def test_a_file_that_has_no_text_any_more_loses_its_chunks(store: QdrantVectorStore, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content, reason in ((b"a\0b", "binary"), (b"\xff\xfe\xff", "not UTF-8 text")):
        path.write_text("Some text.\n")
        await ingest(store, [path])
        assert await store.count() == 1
        path.write_bytes(content)
        assert [each.reason for each in (await ingest(store, [path])).skipped] == [reason]
        assert await store.count() == 0


@pytest.fixture
def deep_folder(files: Path) -> Iterator[None]:
    """Deeper than calls of Python may nest."""
    deep = os.open(files, os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    yield
    subprocess.run(["rm", "-rf", str(files / "d")], check=True)


@pytest.mark.usefixtures("deep_folder")
async def test_odd_entries_do_not_keep_the_others_out(store: QdrantVectorStore, files: Path) -> None:
    (files / "loop.md").symlink_to("loop.md")
    (files / "around").symlink_to(files)
    Path(os.fsdecode(os.fsencode(files) + b"/\xff.txt")).write_text("A name that is not UTF-8.\n")
    report = await ingest(store, [files])
    assert report.added == 2
    reasons = {each.path.name: each.reason for each in report.skipped}
    assert "Too many levels" in reasons["loop.md"]
    assert reasons["around"] == "a link to a folder"
    assert reasons["\udcff.txt"] == "its name is not UTF-8"


async def test_every_spelling_of_a_path_is_one_document(
    store: QdrantVectorStore, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    report = await ingest(store, ["guide.md", files / "guide.md", "./sub/../guide.md", "."])
    assert (report.added, report.unchanged) == (2, 0)
    assert (await ingest(store, [files / "guide.md"])).unchanged == 1


async def test_line_ends_and_a_byte_order_mark_are_no_change(store: QdrantVectorStore, files: Path) -> None:
    await ingest(store, [files / "guide.md"])
    before = await stored(store)
    (files / "guide.md").write_bytes(b"\xef\xbb\xbf" + GUIDE.replace("\n", "\r\n").encode())
    assert (await ingest(store, [files / "guide.md"])).unchanged == 1
    (files / "guide.md").write_bytes(GUIDE.encode("utf-16"))
    assert (await ingest(store, [files / "guide.md"])).unchanged == 1
    assert await stored(store) == before


async def test_what_is_left_out_is_reported(store: QdrantVectorStore, files: Path) -> None:
    (files / ".hidden.md").write_text("x")
    (files / ".git").mkdir()
    (files / ".git" / "config.txt").write_text("x")
    (files / "image.md").write_bytes(b"\x89PNG\0\0")
    (files / "latin.txt").write_bytes("Müller".encode("latin-1"))
    (files / "code.py").write_text("x = 1")
    (files / "empty.txt").write_text("\n")
    (files / "huge.log").write_bytes(b"x" * (MAX_BYTES + 1))
    (files / "loop").symlink_to(files)
    (files / "broken.md").symlink_to(files / "absent")
    os.mkfifo(files / "pipe.txt")
    report = await ingest(store, [files])
    assert report.added == 2
    assert {each.path.name: each.reason for each in report.skipped} == {
        ".hidden.md": "hidden",
        ".git": "hidden",
        "image.md": "binary",
        "latin.txt": "not UTF-8 text",
        "code.py": "not a text or Markdown file",
        "empty.txt": "empty",
        "huge.log": "larger than 16 MiB",
        "loop": "a link to a folder",
        "broken.md": "cannot be read: No such file or directory",
        "pipe.txt": "not a regular file",
    }
    assert (await ingest(store, [files / "code.py"])).added == 1, "a file that is named itself is taken"


async def test_a_missing_path_is_named_before_anything_is_read(store: QdrantVectorStore, files: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"absent\.md") as raised:
        await ingest(store, [files, files / "absent.md"])
    assert isinstance(raised.value, FileNotFoundError | AppError)
    assert await store.count() == 0


async def test_progress_names_each_file_in_order(store: QdrantVectorStore, files: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    await ingest(store, [files], progress=lambda done, total, path: seen.append((done, total, path.name)))
    assert seen == [(1, 2, "guide.md"), (2, 2, "notes.txt")]


async def test_a_half_written_document_is_not_taken_for_complete(store: QdrantVectorStore, files: Path) -> None:
    path = files / "sub" / "notes.txt"
    path.write_text("word " * 20_000)
    await ingest(store, [path])
    whole = await stored(store)
    for gone in ([whole[0].id], [each.id for each in whole[1:]]):
        await store.delete([str(each) for each in gone])
        report = await ingest(store, [path])
        assert (report.updated, report.chunks) == (1, len(whole))
        assert await stored(store) == whole


def test_a_piece_is_never_too_long_and_nothing_is_lost() -> None:
    text = "".join(f"## Part {n}\n\n{'word ' * (n * 40)}\n\n" for n in range(20))
    chunks = split_text(text, markdown=True)
    assert all(len(chunk.text) <= CHUNK_SIZE for chunk in chunks)
    assert {chunk.headings for chunk in chunks} == {(f"Part {n}",) for n in range(1, 20)}
    assert split_text("x" * 5_000, markdown=False)[0].text == "x" * CHUNK_SIZE


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("text", [()]),
        ("# A\n\ntext\n\n# B", [("A",), ("B",)]),
        ("# A #\n## B\ntext\n# C\ntext", [("A", "B"), ("C",)]),
        ("~~~\n# no\n```\n# no\n~~~\n# yes\ntext", [(), ("yes",)]),
        ("# A\n```a`b\n# B\ntext", [("A",), ("B",)]),
        ("#no heading\n####### neither", [()]),
        ("# A\n### C\nx\n## B\ny", [("A", "C"), ("A", "B")]),
    ],
)
def test_headings(text: str, headings: list[tuple[str, ...]]) -> None:
    assert [chunk.headings for chunk in split_text(text, markdown=True)] == headings


SCRIPT = """
import asyncio, os, signal, sys
from pathlib import Path
from app.config import load
from app.connections import ConnectionFactory
from app.db.vector.ingest import ingest
from app.db.vector.providers.db_provider import VectorStoreFactory
from app.db.vector.providers.embedding_provider import EmbeddingFactory
from app.db.vector.qdrant_collection import QdrantCollection
from app.connections._qdrant_embedded import Collections

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv[3]
if moment == "before the old goes":
    QdrantCollection._delete = die
elif moment.startswith("batch"):
    left, wrote = [int(moment.split()[1])], Collections.wrote
    def count(*args):
        wrote(*args)
        left[0] -= 1
        if not left[0]:
            die()
    Collections.wrote = count

async def main():
    settings = load({"data_dir": sys.argv[1]})
    connections = ConnectionFactory(settings)
    store = VectorStoreFactory(settings, connections, EmbeddingFactory(settings)).get_vector_store("documents")
    await store.embedding.measure()
    print("started", flush=True)
    await ingest(store, [sys.argv[2]])
    await connections.close_all()

asyncio.run(main())
"""


def corpus(folder: Path, version: int) -> None:
    words = ["duck", "water", "stone", "river", "light", "house", "paper", "green", "music", "winter"]
    folder.mkdir(exist_ok=True)
    for n in range(30):
        choose = random.Random(f"{n} {version if n % 2 == 0 else 1}")  # every other file changes
        sections = 3 if n else 150  # the first is written in several batches
        text = "".join(f"# Part {s}\n\n{' '.join(choose.choices(words, k=150))}.\n\n" for s in range(sections))
        (folder / f"{n:02}.md").write_text(text)


async def everything(data_dir: Path) -> list[Any]:
    async with QdrantConnectionManager(data_dir=data_dir) as manager:
        engine = await manager.engine()

        def read(collections: Any) -> list[Any]:
            records, _ = collections.shard("documents").scroll(
                qdrant_edge.ScrollRequest(limit=100_000, with_payload=True, with_vector=True)
            )
            return sorted(
                (str(each.id), each.vector, {**each.payload, ROW: read_row(each.payload)._replace(embedded_at="")})
                for each in records
            )

        return await engine.read(read)


def run(data_dir: Path, files: Path, moment: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(data_dir), str(files), moment]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    files, data_dir = tmp_path_factory.mktemp("corpus") / "files", tmp_path_factory.mktemp("undisturbed")
    corpus(files, 2)
    assert run(data_dir, files).returncode == 0
    return files, asyncio.run(everything(data_dir))


@pytest.fixture(scope="module")
def earlier(undisturbed: tuple[Path, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was stored before every other file changed."""
    files, _ = undisturbed
    data_dir = tmp_path_factory.mktemp("earlier")
    corpus(files, 1)
    assert run(data_dir, files).returncode == 0
    corpus(files, 2)
    return data_dir


@pytest.mark.parametrize("moment", ["batch 1", "batch 2", "batch 7", "before the old goes"])
async def test_a_run_killed_at_a_chosen_moment_is_completed_by_the_next(
    undisturbed: tuple[Path, list[Any]], earlier: Path, tmp_path: Path, moment: str
) -> None:
    files, expected = undisturbed
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    assert run(tmp_path, files, moment).returncode == -signal.SIGKILL
    assert await everything(tmp_path) != expected
    assert run(tmp_path, files).returncode == 0
    assert await everything(tmp_path) == expected


def test_a_run_killed_at_random_moments_is_completed_by_the_next(
    undisturbed: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    files, expected = undisturbed
    killed = 0
    choose = random.Random()
    for _ in range(4):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(files), ""]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            time.sleep(choose.uniform(0, 0.3))
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    assert killed
    assert run(tmp_path, files).returncode == 0
    assert asyncio.run(everything(tmp_path)) == expected


async def test_it_works_over_a_store_of_one_loop_with_others_writing(
    manager: QdrantConnectionManager, files: Path
) -> None:
    store = store_on(manager, Planned())
    reports = await asyncio.gather(*(ingest(store, [files]) for _ in range(5)))
    assert await store.count() == 3
    assert all(report.added + report.updated + report.unchanged == 2 for report in reports)
