"""Keeps files of tests in memory; runs the samples of README.md and docs/, each document in a directory of its own."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the directory in it is ours alone
_ENOUGH: Final = 4 * 2**30
_OURS: Final = "manystore-"


def pytest_configure(config: pytest.Config) -> None:
    """Stores make their writes last, and thousands of tests would wait for the disk. `--basetemp` chooses otherwise."""
    chosen = config.option.basetemp or "PYTEST_DEBUG_TEMPROOT" in os.environ
    if chosen or not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ENOUGH:
        return
    for left in _MEMORY.glob(f"{_OURS}[0-9]*-*"):  # by a run that was killed
        if not Path("/proc", left.name.removeprefix(_OURS).partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    place = tempfile.mkdtemp(prefix=f"{_OURS}{os.getpid()}-", dir=_MEMORY)
    config.add_cleanup(lambda: shutil.rmtree(place, ignore_errors=True))
    os.environ["PYTEST_DEBUG_TEMPROOT"] = place  # for the programs of tests
    config.option.basetemp = f"{place}/t"  # short: the path of a socket has at most 107 characters


def _enter_directory(namespace: dict[str, Any]) -> None:
    # A dict that is handed to `_leave_directory` as well; names of the samples cannot meet this one.
    directory = tempfile.TemporaryDirectory(prefix="manystore-docs-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
    namespace["-directory"] = (directory, os.getcwd())  # noqa: PTH109 - to go back to
    os.chdir(directory.name)


def _leave_directory(namespace: dict[str, Any]) -> None:
    directory, before = namespace["-directory"]
    os.chdir(before)
    directory.cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_enter_directory,
    teardown=_leave_directory,
).pytest()
