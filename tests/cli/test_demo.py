"""The main job as the first command typed: it runs, and run again it finds what is there."""

import subprocess
import sys
from pathlib import Path

from app.cli.demo import CODE, CONVERSATION


def run(directory: Path, *command: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=directory,
        env={"HOME": str(directory / "nobody"), "PATH": "", "COLUMNS": "160", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr
    return finished.stdout


def test_the_demo_twice(tmp_path: Path) -> None:
    first = run(tmp_path, "-m", "app.cli", "demo")
    assert all(f"{step.name:<9} {step.question}" in first for step in CONVERSATION)
    assert "not an e-mail address" in first
    assert "created ada" in first
    assert "create_user('ADA@EXAMPLE.COM', …) → None" in first
    assert "files into" in first
    assert first.count(" healthy ") == 2
    assert first.endswith(CODE)
    assert "correct horse" not in first
    second = run(tmp_path, "-m", "app.cli", "demo")
    assert "ada@example.com is already a user, from an earlier run" in second
    assert "were already there, unchanged" in second
    assert "created ada" not in second
    assert " files into " not in second


def test_the_code_it_ends_with_is_ten_lines_that_run(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Start\n\nType make demo to start.\n")
    (tmp_path / "code.py").write_text(CODE)
    assert len(CODE.splitlines()) == 10
    assert "Type make demo to start." in run(tmp_path, "code.py")
