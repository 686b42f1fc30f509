"""`manystore init`, `config check` and `health --json`: for people who set up, and for the scripts they write."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import Settings, load

from .conftest import ENVIRONMENT, Command

Manystore = Callable[..., subprocess.CompletedProcess[str]]

SECRET = "hunter2swordfish"
USER = "repositories: {user: {connection: mongodb}}"
SERVERS = Path(__file__).parents[2] / "config" / "servers.yaml"
VARIABLES = {
    "MONGODB_URI": f"mongodb://user:{SECRET}@127.0.0.1:9/",
    "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:9/0",
    "DATABASE_URL": f"postgresql://user:{SECRET}@127.0.0.1:9/app",
    "QDRANT_URL": "http://127.0.0.1:9",
    "QDRANT_API_KEY": SECRET,
    "CHROMADB_URL": f"http://user:{SECRET}@127.0.0.1:9",
    "OPENAI_API_KEY": SECRET,
}


@pytest.fixture
def manystore(tmp_path: Path, forked: Command) -> Manystore:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        finished = forked(arguments, tmp_path, {"HOME": str(tmp_path / "nobody"), **ENVIRONMENT, **variables})
        assert "Traceback" not in finished.stderr + finished.stdout
        assert SECRET not in finished.stderr + finished.stdout
        return finished

    return run


def test_what_init_writes_is_the_default_and_is_used(manystore: Manystore, tmp_path: Path) -> None:
    done = manystore("init")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote config/default.yaml\n")
    text = (tmp_path / "config" / "default.yaml").read_text("utf-8")
    assert load(tmp_path / "config" / "default.yaml") == Settings()
    assert text.count("#") > 10
    check = manystore("config", "check")
    assert check.returncode == 0, check.stderr
    assert check.stdout.count(" ok") == 5
    assert "warning" not in check.stdout


def test_init_does_not_overwrite_without_being_told(manystore: Manystore, tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("mine")
    refused = manystore("init", "app.yaml")
    assert refused.returncode == 1
    assert "error: app.yaml is already there" in refused.stderr
    assert file.read_text() == "mine"
    forced = manystore("init", "app.yaml", "--force")
    assert forced.returncode == 0
    assert "MANYSTORE_CONFIG=app.yaml" in forced.stdout
    assert load(file) == Settings()
    (tmp_path / "file").touch()
    assert manystore("init", "file/app.yaml").returncode == 1


def test_every_commented_connection_of_the_starter_is_a_real_one(manystore: Manystore, tmp_path: Path) -> None:
    manystore("init", "app.yaml")
    file = tmp_path / "app.yaml"
    file.write_text(re.sub(r"(?m)^  # ", "  ", file.read_text("utf-8")))
    assert set(load(file).connections) == {"sqlite", "qdrant", "mongodb", "postgres", "redis", "chromadb"}


def test_check_of_servers_whose_variables_are_not_set(manystore: Manystore) -> None:
    check = manystore("config", "check", "--config", str(SERVERS))
    assert check.returncode == 1
    for variable in ("MONGODB_URI", "REDIS_URL", "QDRANT_URL"):
        assert f"set {variable}\n" in check.stderr
    assert "CHROMADB_URL (nothing uses it)" in check.stdout
    assert "embeddings.openai: no vector store uses it" in check.stdout


def test_check_knows_what_sessions_use(manystore: Manystore, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(
        "connections:\n  sqlite: {}\n  other: {type: sqlite, path: other.db}\n"
        "repositories:\n  user: {connection: sqlite}\nrelational: {connection: other}\n"
    )
    check = manystore("config", "check", "-c", "app.yaml")
    assert (check.returncode, "connections.other:" in check.stdout) == (0, False)


def test_check_masks_every_secret_and_connects_to_nothing(manystore: Manystore, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(
        'connections:\n  mongodb: {url: "${MONGODB_URI}"}\n  chromadb: {url: "${CHROMADB_URL}"}\n'
        '  qdrant: {url: "${QDRANT_URL}", api_key: "${QDRANT_API_KEY}"}\n  sqlite: {}\n'
        "repositories:\n  user: {connection: sqlite}\n"
        'embeddings:\n  openai: {api_key: "${OPENAI_API_KEY}"}\n'
    )
    check = manystore("config", "check", "-c", "app.yaml", **VARIABLES)
    assert check.returncode == 0, check.stderr
    assert check.stdout.count("••••") == 3
    assert "127.0.0.1:9" in check.stdout
    assert "connections.mongodb: no repository or vector store uses it" in check.stdout
    assert not (tmp_path / ".manystore").exists()


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("connections:\n  sqlite: {pth: app.db}\n", ["app.yaml, line 2", "did you mean 'path'"]),
        (f"connections:\n  mongodb: {{url: embedded}}\n{USER}", ["silently wrong"]),
        (f"connections: {{mongodb: {{url: 'mongodb://u:{SECRET}/@h'}}}}\n{USER}",
         ["connections.mongodb", "not one that the MongoDB driver understands"]),
    ],
)  # fmt: skip
def test_check_names_what_is_wrong(manystore: Manystore, tmp_path: Path, yaml: str, words: list[str]) -> None:
    (tmp_path / "app.yaml").write_text(yaml)
    check = manystore("config", "check", "-c", "app.yaml")
    assert check.returncode == 1
    for word in words:
        assert word in check.stderr


def test_check_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(
        "connections: {chromadb: {}, sqlite: {}}\nrepositories: {user: {connection: chromadb}}"
    )
    code = (
        "import importlib.util as u, app.cli.check as c; c.find_spec = lambda m: None if m == 'chromadb' else 1\n"
        "from app.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "config", "check", "-c", "app.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'manystore[chromadb]'" in done.stderr


def test_a_repository_of_the_application_is_a_warning(manystore: Manystore, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("repositories: {usr: {connection: sqlite}}\n")
    check = manystore("config", "check", "-c", "app.yaml")
    assert check.returncode == 0
    assert "did you mean 'user'" in check.stdout


def test_health_as_json(manystore: Manystore, tmp_path: Path) -> None:
    done = manystore("health", "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["healthy"] is True
    assert set(answer["connections"]) == {"sqlite", "qdrant"}
    assert set(answer["connections"]["sqlite"]) == {"type", "healthy", "latency", "server_version", "detail", "pool"}
    servers = tmp_path / "servers.yaml"
    servers.write_text(
        'connections:\n  mongodb: {url: "${MONGODB_URI}", timeout: 0.5}\n  sqlite: {}\n'
        '  qdrant: {url: "${QDRANT_URL}", api_key: "${QDRANT_API_KEY}"}\n  chromadb: {url: "${CHROMADB_URL}"}\n'
    )
    done = manystore("health", "--json", "-c", str(servers), **VARIABLES)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["healthy"] is False
    assert {name: each["healthy"] for name, each in answer["connections"].items()} == {
        "mongodb": False,
        "sqlite": True,
        "qdrant": False,
        "chromadb": False,
    }
    for name in ("mongodb", "qdrant", "chromadb"):
        assert "127.0.0.1:9 cannot be reached" in answer["connections"][name]["detail"]
