"""Ctrl-C at any moment, from the first line of ours on: one line, exit code 130, no traceback."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVERS = """
connections:
  redis: {url: "redis://127.0.0.1:9", timeout: 5}
  chromadb: {url: "http://127.0.0.1:9", timeout: 5}
  qdrant: {url: "http://10.255.255.1:9", timeout: 5}
"""
MAIN = "import app.cli; print('begun', flush=True); app.cli.main()"


def interrupted(directory: Path, *arguments: str, after: float, times: int = 1) -> tuple[int, str, str]:
    """The command, interrupted some seconds after it has begun: its exit code, output and errors."""
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=directory,
        env={"HOME": str(directory), "PATH": "", "COLUMNS": "160", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        for _ in range(times):
            time.sleep(after)
            os.kill(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


@pytest.mark.parametrize("arguments", [["health"], ["health", "--json", "--config", "servers.yaml"], ["demo"]], ids=str)
def test_one_line_at_any_moment(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "servers.yaml").write_text(SERVERS)
    (tmp_path / "README.md").write_text("# Tea\n\nGreen.\n")
    draw = random.Random(f"20261121 {arguments}")
    codes = []
    for after in sorted(draw.uniform(0, 1.6) for _ in range(7)):
        code, output, errors = interrupted(tmp_path, *arguments, after=after)
        assert "Traceback" not in output + errors, (after, errors)
        assert "KeyboardInterrupt" not in output + errors, (after, errors)
        assert (code, errors) == (130, "error: interrupted\n") or (output and code in (0, 1)), (after, code, errors)
        codes.append(code)
    assert codes[0] == 130


def test_an_impatient_person(tmp_path: Path) -> None:
    (tmp_path / "servers.yaml").write_text(SERVERS)
    for after in (0.02, 0.3, 0.6):
        code, output, errors = interrupted(tmp_path, "health", "--config", "servers.yaml", after=after, times=3)
        assert (code, output) == (130, "")
        assert set(errors.splitlines()) == {"error: interrupted"}
