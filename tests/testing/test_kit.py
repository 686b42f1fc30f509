"""The kit as others use it: an example of a backend of one's own, run by a pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_backend"


def run(directory: Path) -> subprocess.CompletedProcess[str]:
    plugins = ("-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin")
    arguments = ("-qx", *plugins, "-o", "asyncio_mode=auto", "-c", "/dev/null", "--rootdir", ".", ".")
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # those of others take seconds each time
        check=False,
    )


def test_the_contract_passes_on_the_backend_of_the_example() -> None:
    result = run(EXAMPLE)
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout


def test_the_contract_finds_what_a_backend_does_wrong(tmp_path: Path) -> None:
    for file in EXAMPLE.glob("*.py"):
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    store = tmp_path / "memory_store.py"
    source = store.read_text("utf-8")
    faults = {
        "both(operation.where, operation.guard)": "operation.where",
        "(document[name] or 0) + by": "document[name] + by",
        "(self.schema.key, *operation.keep)": "(self.schema.key,)",
    }
    for right, wrong in faults.items():
        assert right in source
        store.write_text(source.replace(right, wrong), "utf-8")
        result = run(tmp_path)
        assert result.returncode == 1, f"{wrong}: {result.stdout[-2000:]}"
        assert "assert" in result.stdout
