"""The command as a person uses it, mistakes included: one clear line, exit code 1; 2 for a wrong call."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ENVIRONMENT, Command

Manystore = Callable[..., subprocess.CompletedProcess[str]]

COMMAND = [sys.executable, "-W", "error", "-m", "app.cli"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "nobody"), **ENVIRONMENT}


@pytest.fixture
def manystore(tmp_path: Path, environment: dict[str, str], forked: Command) -> Manystore:
    def run(*arguments: str, command: list[str] | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        if command is None:
            return forked(arguments, tmp_path, {**environment, **variables})
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "ships.md").write_text("# Ships\n\nA sailing ship needs wind in its canvas sails.\n")
    (folder / "bread.txt").write_text("Knead the dough, let it rise, and bake the bread in a hot oven.\n")
    return folder


def fails(finished: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    assert finished.returncode == code, (finished.stdout, finished.stderr)
    assert "Traceback" not in finished.stderr + finished.stdout
    assert finished.stderr.startswith("error: ") or code == 2
    assert len(finished.stderr.strip().splitlines()) == 1 or code == 2
    for word in words:
        assert word in finished.stderr, finished.stderr


def test_ingest_search_and_again(manystore: Manystore, notes: Path) -> None:
    first = manystore("ingest", str(notes))
    assert first.returncode == 0, first.stderr
    assert "2 added, 0 updated, 0 unchanged" in first.stdout
    found = manystore("search", "How do I make bread?", "-k", "1")
    assert found.returncode == 0, found.stderr
    assert "Knead the dough" in found.stdout
    score = re.match(r"(0\.\d{3}) ", found.stdout)
    assert score
    assert 0.5 < float(score[1]) < 1
    assert "0 added, 0 updated, 2 unchanged" in manystore("ingest", str(notes)).stdout
    (notes / "bread.txt").write_text("Rye bread wants sourdough.\n")
    assert "0 added, 1 updated, 1 unchanged" in manystore("ingest", str(notes)).stdout
    assert "Knead" not in manystore("search", "bread").stdout


def test_search_with_a_filter(manystore: Manystore, notes: Path) -> None:
    manystore("ingest", str(notes))
    ships = str(notes / "ships.md")
    for condition in (
        f"source_path={ships}",
        f'{{"source_path": "{ships}"}}',
        '{"source_path": {"$contains": "ships"}}',
    ):
        found = manystore("search", "bread", "--filter", condition)
        assert "canvas sails" in found.stdout
        assert "dough" not in found.stdout
    assert manystore("search", "bread", "--filter", "source_path=nowhere").stdout == "nothing found\n"
    fails(manystore("search", "bread", "--filter", '{"source": {"$regex": "."}}'), "unknown operator '$regex'")


def test_health(manystore: Manystore) -> None:
    assert manystore("health", command=COMMAND).returncode == 0
    healthy = manystore("health")
    assert healthy.returncode == 0, healthy.stderr
    assert healthy.stdout.count(" healthy ") == 2


def test_health_of_a_store_that_is_not_there(manystore: Manystore, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("connections:\n  sqlite: {path: /proc/nowhere/app.db}\n")
    unhealthy = manystore("health", "--config", "app.yaml")
    assert unhealthy.returncode == 1
    assert "unhealthy" in unhealthy.stdout
    assert "Traceback" not in unhealthy.stderr


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("connections:\n  sqlite: {pth: app.db}\n", ["app.yaml, line 2", "'pth'", "did you mean 'path'"]),
        ("conections: {}\n", ["app.yaml, line 1", "did you mean 'connections'"]),
        ("connections: [\n", ["app.yaml, line 2", "not valid YAML"]),
        ("connections:\n  sqlit: {path: app.db}\n", ["app.yaml, line 2", "did you mean 'sqlite'"]),
        ("repositories:\n  user: {connection: sqlit}\n", ["app.yaml, line 2", "did you mean 'sqlite'"]),
    ],
)
def test_a_wrong_configuration(manystore: Manystore, tmp_path: Path, yaml: str, words: list[str]) -> None:
    (tmp_path / "app.yaml").write_text(yaml)
    fails(manystore("health", "--config", "app.yaml"), *words)
    fails(manystore("health", MANYSTORE_CONFIG="app.yaml"), *words)


def test_a_configuration_that_is_not_there(manystore: Manystore) -> None:
    fails(manystore("health", "--config", "nowhere.yaml"), "nowhere.yaml", "No such file")


def test_an_unknown_store(manystore: Manystore, notes: Path) -> None:
    fails(manystore("ingest", str(notes), "--store", "document"), "'document'", "did you mean 'documents'")
    fails(manystore("search", "x", "--store", "document"), "'document'", "did you mean 'documents'")


def test_a_path_that_is_not_there(manystore: Manystore, tmp_path: Path) -> None:
    fails(manystore("ingest", "nowhere.md"), "nowhere.md")
    assert not (tmp_path / ".manystore" / "qdrant" / "documents").exists()


def test_a_data_directory_that_cannot_be_written(manystore: Manystore, notes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "app.yaml").write_text("data_dir: file/inside\n")
    fails(manystore("ingest", str(notes), "--config", "app.yaml"), str(tmp_path / "file"))


def test_a_second_process_on_the_embedded_vectors(
    manystore: Manystore, notes: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    manystore("ingest", str(notes))
    hold = (
        "import asyncio, sys\nfrom app.db import DataLayer\n"
        "async def main():\n"
        "    async with DataLayer.from_config() as data:\n"
        "        await data.connection('qdrant').connect()\n"
        "        print('open', flush=True)\n"
        "        await asyncio.to_thread(sys.stdin.read)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        fails(manystore("ingest", str(notes)), str(tmp_path / ".manystore" / "qdrant"), "one process")
        fails(manystore("search", "bread"), str(tmp_path / ".manystore" / "qdrant"))
        holder.communicate()
    assert "2 unchanged" in manystore("ingest", str(notes)).stdout


@pytest.mark.parametrize(("package", "extra"), [("qdrant_edge", "embedded"), ("wordllama", "embedded")])
def test_a_missing_extra(manystore: Manystore, notes: Path, package: str, extra: str) -> None:
    without = f"import sys; sys.modules[{package!r}] = None; from app.cli import main; main()"
    finished = manystore("ingest", str(notes), command=[sys.executable, "-c", without])
    fails(finished, f"pip install 'manystore[{extra}]'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest"],
        ["serch", "x"],
        ["search", "x", "-k", "0"],
        ["search", "x", "--filter", "nothing"],
        ["search", "--no"],
    ],
)
def test_a_wrong_call_exits_with_2(manystore: Manystore, arguments: list[str]) -> None:
    fails(manystore(*arguments), "Usage:", code=2)


def test_an_interrupted_ingest_leaves_what_the_next_one_completes(
    manystore: Manystore, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03}.txt").write_text(f"Passage number {number} of the collection.\n" * 40)
    with subprocess.Popen(
        [*COMMAND, "ingest", str(folder)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / ".manystore" / "qdrant" / "documents").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode in (0, 130)
    assert errors == ("error: interrupted; the same command goes on where it stopped\n" if process.returncode else "")
    assert manystore("ingest", str(folder)).returncode == 0
    assert "300 unchanged" in manystore("ingest", str(folder)).stdout
