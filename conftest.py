"""Runs the samples of README.md and docs/ as tests, each document in a directory of its own."""

import os
import tempfile
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser


def _enter_directory(namespace: dict[str, Any]) -> None:
    # A dict that is handed to `_leave_directory` as well; names of the samples cannot meet this one.
    directory = tempfile.TemporaryDirectory(prefix="manystore-docs-")
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
