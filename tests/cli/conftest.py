"""The command in processes of its own, forked from one that has imported it: what takes a second is done once."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

Command = Callable[[Sequence[str], Path, Mapping[str, str]], subprocess.CompletedProcess[str]]

ENVIRONMENT = {"PATH": "", "COLUMNS": "160", "NO_COLOR": "1"}
PROGRAM = """
import gc, json, os, sys
from app.cli import commands, main
from app.db.relational import engine
from app.db.vector import qdrant

gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, place in enumerate(asked["output"], 1):
            os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(asked["directory"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = ["manystore", *asked["arguments"]]
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# pymongo leaves the socket of an attempt to connect that it gives up to the collector.
WARNINGS = ("-W", "error", "-W", "ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run the command as `subprocess.run` would, with no input."""
    output = [tmp_path_factory.mktemp("output") / name for name in ("out", "err")]
    warm = subprocess.Popen(
        [sys.executable, *WARNINGS, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )

    def run(
        arguments: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        assert warm.stdin is not None
        assert warm.stdout is not None
        asked = {"arguments": arguments, "directory": str(directory), "environment": environment}
        warm.stdin.write(json.dumps({**asked, "output": [str(each) for each in output]}) + "\n")
        warm.stdin.flush()
        code = int(warm.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, *(each.read_text("utf-8") for each in output))

    yield run
    warm.communicate()
