"""`url: embedded` of Redis as an application uses it: through a DataLayer, with sessions on it."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from app.connections.embedded import redis as embedded
from app.core.errors import MissingDependencyError, StoreUnavailableError, UnsupportedOperationError
from app.db import DataLayer
from app.db.repositories.signup_session_repository import SignupSessionRepository

try:
    embedded.binary()
except (MissingDependencyError, UnsupportedOperationError) as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "data_dir": str(tmp_path),
        "connections": {"redis": {"url": "embedded"}},
        "repositories": {"signup_session": {"connection": "redis"}},
    }


async def server_pid(data: DataLayer) -> int:
    return int((await data.connection("redis").info("server"))["process_id"])


def ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


def test_sessions_over_three_runs_and_nothing_left(settings: dict[str, Any]) -> None:
    async def use(number: int) -> int:
        async with DataLayer.from_config(settings) as data:
            sessions = data.repository(SignupSessionRepository)
            await asyncio.gather(*(data.connection("redis").connect() for _ in range(1_000)))
            assert await sessions.create_session(f"s{number}", {"step": "EMAIL"})
            assert [await sessions.session_exists(f"s{each}") for each in range(number + 1)] == [True] * (number + 1)
            assert (await data.health())["redis"].healthy
            return await server_pid(data)

    for number in range(3):
        assert ended(asyncio.run(use(number)))


async def test_an_acknowledged_count_is_never_given_twice(settings: dict[str, Any]) -> None:
    """Killed right behind a reply, while the file may still be on its way to the disk."""
    async with DataLayer.from_config(settings) as data:
        sessions = data.repository(SignupSessionRepository)
        assert await sessions.create_session("counted")
        for round_number in range(8):
            counts = [await sessions.increment_attempt("counted") for _ in range(4)]
            assert counts == [4 * round_number + number for number in (1, 2, 3, 4)]
            os.kill(await server_pid(data), signal.SIGKILL)
            assert (await read_again(sessions, "counted"))["attempt_count"] == counts[-1]


async def read_again(sessions: SignupSessionRepository, session_id: str) -> dict[str, Any]:
    for _ in range(100):
        try:
            session = await sessions.get_session(session_id)
        except StoreUnavailableError:  # the server reads its file
            await asyncio.sleep(0.02)
            continue
        assert session is not None
        return session
    raise AssertionError("the server did not come back")


async def test_a_killed_server_comes_back_with_what_it_acknowledged(settings: dict[str, Any]) -> None:
    async with DataLayer.from_config(settings) as data:
        sessions = data.repository(SignupSessionRepository)
        assert await sessions.create_session("kept", {"step": "EMAIL"})
        for _ in range(3):
            pid = await server_pid(data)
            os.kill(pid, signal.SIGKILL)
            assert (await read_again(sessions, "kept"))["step"] == "EMAIL"
            assert await server_pid(data) != pid
        last = await server_pid(data)
    assert ended(last)
