"""The texts say what is true now."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_configuration_reference_is_current() -> None:
    script = ROOT / "docs" / "generate_configuration.py"
    result = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_make_target_is_listed_by_help() -> None:
    listed = subprocess.run(["make", "help"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert set(re.findall(r"make (\w+)", listed)) == {
        *("help", "setup", "demo", "test", "lint", "format", "bench", "docs", "clean")
    }


def test_the_samples_run_twice_and_after_the_demo(tmp_path: Path) -> None:
    """As a newcomer has it: everything in one checkout, one after the other."""
    environment = {"HOME": str(tmp_path), "PATH": "", "COLUMNS": "100"}
    subprocess.run(
        [sys.executable, "-m", "app.cli", "demo"], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    for page in (ROOT / "README.md", ROOT / "docs" / "quickstart.md"):
        samples = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
        for _ in range(2):
            result = subprocess.run(
                [sys.executable, "-c", samples],
                cwd=tmp_path,
                env=environment,
                check=False,
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, result.stderr
