"""`manystore vectors`, as a person and as a script use it."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.db import DataLayer
from app.db.vector.store import CollectionVectorStore

from .conftest import Command

Manystore = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def manystore(forked: Command, tmp_path: Path) -> Manystore:
    environment = {"HOME": str(tmp_path / "nobody"), "PATH": os.defpath, "COLUMNS": "160", "NO_COLOR": "1"}

    def run(*arguments: str, stdin: int | None = None) -> subprocess.CompletedProcess[str]:
        if stdin is None:
            return forked(arguments, tmp_path, environment)
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "app.cli", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=stdin,
        )

    return run


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], None]:
    def write(embedding: str) -> None:
        text = f"""
            connections: {{qdrant: {{url: embedded}}}}
            vector_stores:
              documents: {{connection: qdrant, embedding: {embedding}}}
              other: {{connection: qdrant, embedding: small}}
            embeddings:
              default: {{provider: wordllama}}
              small: {{provider: wordllama, dimension: 64}}
            """
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / "default.yaml").write_text(text)

    write("default")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "bread.md").write_text("# Bread\n\nBake the bread in a hot oven.\n")
    (tmp_path / "notes" / "ships.md").write_text("# Ships\n\nA ship needs wind in its sails.\n")
    return write


def test_from_one_embedding_to_another_and_on_to_another_store(
    manystore: Manystore, configured: Callable[[str], None]
) -> None:
    assert "no collection yet" in manystore("vectors", "info").stdout
    assert manystore("ingest", "notes").returncode == 0

    asked = manystore("vectors", "reembed", "--to", "small")
    assert asked.returncode == 1
    assert "2 of 2 texts to embed with small: " in asked.stdout
    assert asked.stderr == "error: nobody is there to be asked: give --yes\n"

    ours, terminal = os.openpty()
    os.write(ours, b"n\n")
    refused = manystore("vectors", "reembed", "--to", "small", stdin=terminal)
    os.close(ours)
    os.close(terminal)
    assert refused.returncode == 1
    assert refused.stdout.endswith("Go on? [y/N]: ")
    assert "2 rows, wordllama/l2_supercat, 256 dimensions" in manystore("vectors", "info").stdout

    done = manystore("vectors", "reembed", "documents", "--to", "small", "--yes")
    assert done.returncode == 0, done.stderr
    assert "2 rows, 2 of them embedded in this run" in done.stdout
    assert done.stdout.endswith("set `embedding: small` for `vector_stores.documents` now\n")

    listed = manystore("vectors", "list")
    assert listed.returncode == 1
    assert "64 dimensions" in listed.stdout
    assert "documents: the collection 'documents' has vectors of 64 dimensions" in listed.stderr
    assert "manystore vectors reembed documents --to default" in listed.stderr

    configured("small")
    found = manystore("search", "How do I make bread?", "-k", "1")
    assert "hot oven" in found.stdout, found.stderr
    again = manystore("vectors", "reembed", "documents", "--to", "small")
    assert (again.returncode, again.stdout.splitlines()[1]) == (
        0,
        "documents is embedded with wordllama/l2_supercat, 64 dimensions, cosine: nothing to do",
    )

    copied = manystore("vectors", "copy", "--from", "documents", "--to", "other")
    assert copied.returncode == 0, copied.stderr
    assert "2 rows written, 0 deleted" in copied.stdout
    assert "other: 2 rows" in copied.stdout
    stores = json.loads(manystore("vectors", "list", "--json").stdout)
    assert stores["ok"] is True
    assert [each["rows"] for each in stores["stores"]] == [2, 2]
    assert stores["stores"][1]["contract"] == {
        "provider": "wordllama",
        "model": "l2_supercat",
        "dimension": 64,
        "distance": "cosine",
        "chunker": "1:1000:100",
    }


@pytest.mark.usefixtures("configured")
def test_what_cannot_be_done_is_one_line(manystore: Manystore) -> None:
    for arguments, says in (
        (("reembed", "--to", "small", "--yes"), "there is no collection 'documents'"),
        (("reembed", "--to", "smal", "--yes"), "did you mean 'small'"),
        (("copy", "--from", "documents", "--to", "documents"), "there is no collection"),
        (("info", "nothing"), "no vector store named 'nothing'"),
    ):
        done = manystore("vectors", *arguments)
        assert done.returncode == 1
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert manystore("ingest", "notes").returncode == 0
    done = manystore("vectors", "copy", "--from", "documents", "--to", "other")
    assert done.returncode == 1
    assert "name another target" in done.stderr


@pytest.mark.usefixtures("configured")
async def test_what_is_left_of_an_older_version_is_told(
    manystore: Manystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manystore("ingest", "notes").returncode == 0
    monkeypatch.chdir(tmp_path)
    async with DataLayer.from_config() as data:
        store = data.vector_store("documents")
        assert isinstance(store, CollectionVectorStore)
        await store.engine.amend(lambda contract: replace(contract, chunker="0:1:2"))
    refused = manystore("ingest", "notes")
    assert refused.returncode == 1
    assert "were cut by the rules 0:1:2" in refused.stderr
    told = manystore("ingest", "notes/bread.md", "--rechunk").stdout.splitlines()
    assert told[1].startswith("1 left as another version has cut them: ingest all sources of the collection in one run")
    assert told[2] == f"  left {tmp_path / 'notes' / 'ships.md'}"
    assert "left" not in manystore("ingest", "notes", "--rechunk").stdout
    assert manystore("ingest", "notes").returncode == 0


@pytest.mark.usefixtures("configured")
def test_a_command_that_an_error_suggests_is_for_the_same_file(manystore: Manystore, tmp_path: Path) -> None:
    assert manystore("ingest", "notes").returncode == 0
    default = tmp_path / "config" / "default.yaml"
    (tmp_path / "my own.yaml").write_text(default.read_text().replace("embedding: default", "embedding: small"))
    refused = manystore("search", "bread", "--config", "my own.yaml")
    assert refused.returncode == 1
    [suggested] = re.findall("`manystore (.*?)`", refused.stderr)
    assert suggested == "vectors reembed documents --to small --config 'my own.yaml'"
    done = manystore(*shlex.split(suggested), "--yes")
    assert done.returncode == 0, done.stderr
    assert "hot oven" in manystore("search", "bread", "--config", "my own.yaml").stdout


def test_a_store_that_is_refused_hides_no_other(manystore: Manystore, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        """
        connections: {qdrant: {url: embedded}, sqlite: {path: app.db}}
        vector_stores:
          named: {connection: qdrant, collection: a/b}
          misplaced: {connection: sqlite}
          documents: {connection: qdrant}
        embeddings: {default: {provider: wordllama}}
        """
    )
    listed = manystore("vectors", "list", "--config", "other.yaml")
    assert listed.returncode == 1
    assert [line.split("  ")[0] for line in listed.stdout.splitlines()] == ["named", "misplaced", "documents", ""]
    assert "documents  qdrant, connection qdrant, collection documents" in listed.stdout
    named, misplaced = listed.stderr.splitlines()
    assert named.startswith("error: named: 'a/b'")
    assert misplaced.startswith("error: misplaced: vector_stores.misplaced: the connection 'sqlite' is of type sqlite")
    stores = json.loads(manystore("vectors", "list", "--config", "other.yaml", "--json").stdout)
    assert [(each["engine"], each["problem"] is None) for each in stores["stores"]] == [
        ("qdrant", False),
        ("sqlite", False),
        ("qdrant", True),
    ]
    [alone] = json.loads(manystore("vectors", "info", "named", "--config", "other.yaml", "--json").stdout)["stores"]
    assert alone == stores["stores"][0]
