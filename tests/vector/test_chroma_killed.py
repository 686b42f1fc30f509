"""A process that changes a Chroma directory, is killed at any moment, and run again, leaves what one run leaves."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.connections._chroma_embedded import ChromaEngine
from app.connections.chromadb import ChromaDBConnectionManager
from app.db.query import ALL
from app.db.vector.chromadb import ChromaVectorStore
from app.db.vector.contract import CollectionContract
from app.db.vector.embeddings.model import EmbeddingModel
from app.db.vector.ingest import ingest
from app.db.vector.reembed import reembed

from .planned import Planned, doc
from .versions import write

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, json, os, random, shutil, signal, sys, threading, time
import chromadb.api.rust, chromadb.config  # once for all children, which are forked before anything is open
from app.db.vector import chroma_collection, chroma_engine, chroma_steps
from app.db.vector.chroma_steps import Call
from tests.vector.test_chroma_killed import ACTIONS

action, before, scratch, files, most = *sys.argv[1:5], int(sys.argv[5])
chroma_collection.BATCH = chroma_engine.BATCH = chroma_collection.PAGE = chroma_engine.PAGE = 2
asked, made = Call.__call__, 0

def child(place, killed_at):
    if killed_at < 0:
        delay = random.uniform(0, 0.4)
        threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGKILL)), daemon=True).start()

    def counted(call):
        global made
        made += call.write
        if call.write and made == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return asked(call)

    Call.__call__ = counted
    asyncio.run(ACTIONS[action](place, files))
    return made

def run(place, killed_at):
    shutil.copytree(before, place)
    receive, send = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(send, str(child(place, killed_at)).encode())
        os._exit(0)
    os.close(send)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), os.read(receive, 20).decode()

status, writes = run(f"{scratch}/clean", 0)
assert status == 0
places = {}
step = max(1, int(writes) // most)
for killed_at in [*range(1, int(writes) + 1, step), -1, -2]:
    status, _ = run(f"{scratch}/{killed_at}", killed_at)
    places[killed_at] = status
print(json.dumps({"writes": int(writes), "places": places}))
"""


class Newer(Planned):
    def __init__(self) -> None:
        super().__init__(size=6)
        self.model = "newer"


@asynccontextmanager
async def opened(place: str | Path, embeddings: Planned | None = None) -> AsyncIterator[ChromaVectorStore]:
    async with ChromaDBConnectionManager(data_dir=Path(place)) as manager:
        yield ChromaVectorStore(manager, EmbeddingModel.of(embeddings or Planned()))


async def ingested(place: str, files: str) -> None:
    async with opened(place) as store:
        await ingest(store, [files])


async def updated(place: str, files: str) -> None:
    del files
    async with opened(place) as store:
        chunks = [doc(f"new {n}", {"document_id": "d0", "n": n}, f"new {n}") for n in range(5)]
        await store.re_embed_document("d0", chunks)
        await store.update_document("d1", doc("one", {"only": True}))
        await store.update_metadata_where({"n": {"$lt": 9}}, {"seen": True})
        await store.delete_by_document_id("d2")


async def embedded_anew(place: str, files: str) -> None:
    del files
    async with opened(place) as store:
        known = await store.engine.contract()
        assert known is not None
        if known.model != "newer":
            await reembed(store, EmbeddingModel.of(Newer()), settles=0)


ACTIONS = {"ingest": ingested, "update": updated, "reembed": embedded_anew}


async def state(place: Path) -> Any:
    """All that there is, without the moments."""
    async with ChromaDBConnectionManager(data_dir=place) as manager:
        engine = await manager.connect()
        assert isinstance(engine, ChromaEngine)
        names = await engine.read(lambda client: sorted(each.name for each in client.list_collections()))
        store = ChromaVectorStore(manager, EmbeddingModel.of(Planned()))
        known = await store.engine.contract()
        assert known is not None, "the collection was lost"

        async def asked(_: int | None) -> CollectionContract:
            return known

        pages = store.engine_on(store.collection, asked).pages(ALL, vectors=True)
        rows = [each async for page in pages for each in page]
        content = sorted(
            (each.id, each.document_id, each.text, each.metadata, [] if each.vector is None else each.vector.tolist())
            for each in rows
        )
        keys = await engine.read(lambda client: client.get_collection("documents", embedding_function=None).get())
        terms = {row_id: sorted(kept) for row_id, kept in zip(keys["ids"], keys["metadatas"] or [], strict=True)}
        return names, known, content, terms


def killed_at_each(action: str, path: Path) -> dict[str, int]:
    """Below the path are `before`, what an undisturbed run made of it as `clean`, and what was left by each kill."""
    command = [sys.executable, "-c", SCRIPT, action, str(path / "before"), str(path), str(path / "files"), "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["writes"] > 5
    return dict(told["places"])


@pytest.mark.parametrize("action", ACTIONS)
async def test_it_is_completed_by_the_next_run(action: str, tmp_path: Path) -> None:
    before, files = tmp_path / "before", tmp_path / "files"
    write(files, 1)
    if action == "ingest":
        await ingested(str(before), str(files))
        write(files, 2)
    else:
        async with opened(before) as store:
            docs = [doc(f"text {n}", {"n": n, "document_id": f"d{n // 3}"}, f"row {n}") for n in range(9)]
            await store.save_and_embed(None, docs)
    documents = {row[1] for row in (await state(before))[2]}
    places = killed_at_each(action, tmp_path)
    expected = await state(tmp_path / "clean")
    assert expected != await state(before)
    for killed_at, status in places.items():
        place = tmp_path / killed_at
        assert status == -signal.SIGKILL or int(killed_at) < 0, killed_at
        if action != "update":  # which deletes one
            assert {row[1] for row in (await state(place))[2]} == documents, f"a document was lost at {killed_at}"
        await ACTIONS[action](str(place), str(files))
        assert await state(place) == expected, killed_at
        shutil.rmtree(place)
