"""Several processes on one SQLite file: first use together, and a death in the middle of writing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from app.db import DataLayer
from app.db.repositories.user_repository import UserRepository

ROOT = Path(__file__).parents[2]

FIRST_USE = """
import asyncio, sys
from app.db import DataLayer
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository
from tests.records.eight import at_once

async def main(directory, number, begin):
    config = {"data_dir": directory, "connections": {"sqlite": {"path": "records.db", "timeout": 30}}}
    async with DataLayer.from_config(config) as data:
        users, sessions = data.repository(UserRepository), data.repository(SignupSessionRepository)
        begin.read()
        user = await users.create_user(f"u{number}@x.io", f"user{number}", "Jo", "Do", "hash")
        assert user is not None
        assert await sessions.create_session(f"s{number}")
        assert await users.get(user.id) == user

at_once(main, *sys.argv[1:])
"""

WRITING = """
import asyncio, sys
from app.db import DataLayer
from app.db.repositories.user_repository import UserRepository

async def main(directory):
    config = {"data_dir": directory, "connections": {"sqlite": {"path": "records.db"}}}
    async with DataLayer.from_config(config) as data:
        users = data.repository(UserRepository)
        async def write(name):
            number = 0
            while True:
                number += 1
                user = await users.create_user(f"{name}{number}@x.io", f"{name}{number}", "Jo", "Do", "hash")
                if number % 3 == 0:
                    await users.update_user(user.id, {"firstname": "Jane"})
                print(user.id, "Jane" if number % 3 == 0 else "Jo", flush=True)
        await asyncio.gather(*(write(name) for name in ("anna", "bert", "cleo")))

asyncio.run(main(sys.argv[1]))
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MANYSTORE_CONFIG": ""},
        cwd=ROOT,
    )


def test_eight_processes_first_use_an_empty_database_together(tmp_path: Path) -> None:
    process = start(FIRST_USE, *(str(tmp_path / name) for name in ("alone", "0", "1", "2", "3")))
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 0)
    assert len([*tmp_path.glob("?/records.db")]) == 4


async def test_acknowledged_writes_survive_a_killed_process(tmp_path: Path) -> None:
    process = start(WRITING, str(tmp_path))
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(60)]
    process.send_signal(signal.SIGKILL)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert errors == ""
    complete = [line for line in (*lines, *rest.splitlines(keepends=True)) if line.endswith("\n")]
    acknowledged = dict(line.split() for line in complete)
    assert len(acknowledged) >= 60
    async with DataLayer.from_config(
        {"data_dir": str(tmp_path), "connections": {"sqlite": {"path": "records.db"}}}
    ) as data:
        users = data.repository(UserRepository)
        assert {user.id: user.firstname for user in await users.get_many(acknowledged)} == acknowledged
        assert await users.create_user("new@x.io", "newuser", "Jo", "Do", "hash")
        [[verdict]] = await data.connection("sqlite").execute_query("PRAGMA integrity_check")
        assert verdict == "ok"
