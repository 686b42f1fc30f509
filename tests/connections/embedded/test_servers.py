"""Both engines: one server per directory, shared, and ended with its last user."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.connections.embedded import server as shared
from app.core.errors import StoreUnavailableError

from .engines import Engine, gone, kill_supervisor, processes, server_of, sockets_of, supervisor_of


def start_user(engine: Engine, home: Path, first: int) -> "subprocess.Popen[str]":
    return start(engine.user, home, first)


def start(code: str, home: Path, first: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, str(home), str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(user: "subprocess.Popen[str]") -> list[str]:
    """Kill a user; return what it had said."""
    user.kill()
    assert user.stdout is not None
    said = [line.strip() for line in user.stdout if line.endswith("\n")]
    user.stdout.close()
    user.wait()
    return said


async def test_it_starts_answers_and_ends(engine: Engine, home: Path) -> None:
    lease = await engine.acquire(home)
    assert engine.answers(lease.url)
    sockets = sockets_of(lease.url)
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert (home / "data").stat().st_mode & 0o777 == 0o700
    await lease.release()
    await lease.release()
    assert processes(home) == [], "it has ended when the last release returns"
    assert not sockets.exists()
    assert {each.name for each in (home / "run").glob("*") if each.suffix != ".lock"} == {"server.log"}


async def test_one_server_for_all_leases(engine: Engine, home: Path) -> None:
    leases = await asyncio.gather(*(engine.acquire(home) for _ in range(50)))
    assert len({lease.url for lease in leases}) == 1
    server = server_of(home)
    for lease in leases[1:]:
        await lease.release()
    assert server_of(home) == server
    assert engine.answers(leases[0].url)
    await leases[0].release()


def test_loops_in_turn_and_in_threads(engine: Engine, home: Path) -> None:
    async def use() -> str:
        lease = await engine.acquire(home)
        assert engine.answers(lease.url)
        await lease.release()
        return str(lease.url)

    urls = [asyncio.run(use()) for _ in range(3)]
    threads = [threading.Thread(target=lambda: urls.append(asyncio.run(use()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 5
    assert len(set(urls)) == 1


async def test_either_of_two_processes_is_killed(engine: Engine, home: Path) -> None:
    """At any moment: the other goes on, what was acknowledged stays, and the last one's death ends the server."""
    draw = random.Random(engine.name)
    acknowledged: set[int] = set()
    for round_ in range(3):
        users = [start_user(engine, home, (2 * round_ + each) * 1_000_000) for each in range(2)]
        draw.shuffle(users)
        await asyncio.sleep(draw.uniform(0, 0.6))
        said = [kill(users[0])]
        assert users[1].stdout is not None
        url = users[1].stdout.readline().strip()  # it may have been starting as well
        lines = [await asyncio.to_thread(users[1].stdout.readline) for _ in range(30)]
        assert engine.answers(url), "the other one goes on"
        said.append([line.strip() for line in lines] + kill(users[1]))
        assert gone(home)
        acknowledged |= {int(line) for lines in said for line in lines if line.isdecimal()}
    assert len(acknowledged) >= 90
    lease = await engine.acquire(home)
    assert acknowledged <= engine.numbers(lease.url)
    await lease.release()


async def test_a_starter_is_killed_at_any_moment_of_the_start(engine: Engine, home: Path) -> None:
    for moment in (0.1, 0.14, 0.18, 0.22, 0.26):
        user = start_user(engine, home, 0)
        await asyncio.sleep(moment)
        kill(user)
    lease = await engine.acquire(home)
    assert engine.answers(lease.url)
    await lease.release()
    assert gone(home)


async def test_a_killed_supervisor_takes_its_server_along(engine: Engine, home: Path) -> None:
    user = start_user(engine, home, 0)
    assert user.stdout is not None
    said = [(await asyncio.to_thread(user.stdout.readline)).strip() for _ in range(20)]
    kill_supervisor(home)
    said += kill(user)
    assert gone(home)
    lease = await engine.acquire(home)
    assert {int(each) for each in said if each.isdecimal()} <= engine.numbers(lease.url)
    kill_supervisor(home)
    await lease.revive()
    assert engine.answers(lease.url), "a user that stayed has a server again, at the same place"
    kill_supervisor(home)
    sockets = sockets_of(lease.url)
    await lease.release()
    assert not sockets.exists()


async def test_a_killed_server_comes_back_by_itself(engine: Engine, home: Path) -> None:
    user = start_user(engine, home, 0)
    assert user.stdout is not None
    said = [(await asyncio.to_thread(user.stdout.readline)).strip() for _ in range(20)]
    killed = server_of(home)
    os.kill(killed, signal.SIGKILL)
    lease = await engine.acquire(home)  # at once: not the dead one's address
    assert engine.answers(lease.url)
    said += kill(user)
    assert {int(each) for each in said if each.isdecimal()} <= engine.numbers(lease.url)
    assert server_of(home) != killed
    await lease.release()


async def test_everything_is_killed_at_once(engine: Engine, home: Path) -> None:
    user = start_user(engine, home, 0)
    assert user.stdout is not None
    said = [(await asyncio.to_thread(user.stdout.readline)).strip() for _ in range(20)]
    for pid in (supervisor_of(home), server_of(home)):
        os.kill(pid, signal.SIGKILL)
    said += kill(user)
    assert gone(home)
    assert list((home / "run").glob("server.json")), "the stale files that the next start has to deal with"
    lease = await engine.acquire(home)
    assert {int(each) for each in said if each.isdecimal()} <= engine.numbers(lease.url)
    await lease.release()


async def test_a_child_does_not_keep_its_parents_server(engine: Engine, home: Path) -> None:
    code = engine.user.replace("write = connect", "import os; child = os.fork() or time.sleep(60)\n    write = connect")
    user = start(code, home, 0)
    assert user.stdout is not None
    for _ in range(3):
        await asyncio.to_thread(user.stdout.readline)
    children = Path(f"/proc/{user.pid}/task/{user.pid}/children").read_text().split()
    user.kill()
    user.wait()
    try:
        assert gone(home), "although the child lives"
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        user.stdout.close()


async def test_long_paths(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = home / ("d" * 120) / ("é" * 60)
    temporary = home / ("t" * 100)
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    if (home / "data").exists():
        deep.mkdir(parents=True)
        (home / "data").rename(deep / "data")
    lease = await engine.acquire(deep)
    assert engine.answers(lease.url)
    assert len(str(sockets_of(lease.url))) < 60
    await lease.release()
    assert gone(deep)


async def test_a_relative_path_and_a_link_are_the_same_directory(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home.parent / "link").symlink_to(home)
    leases = [await engine.acquire(each) for each in (Path(), home, home.parent / "link")]
    assert len({lease.url for lease in leases}) == 1
    for lease in leases:
        await lease.release()


async def test_the_place_of_the_sockets_is_taken(engine: Engine, home: Path) -> None:
    """Somebody else made a directory, or a link, where ours would be: the server gets another, users follow."""
    (home / "run").mkdir(mode=0o700)
    taken = shared._Share(shared.Engine("x", None, "s", None, None), home)._sockets()  # type: ignore[arg-type]
    trap = home.parent / "trap"
    trap.mkdir()
    (trap / "precious").touch()
    taken.symlink_to(trap)
    try:
        lease = await engine.acquire(home)
        assert sockets_of(lease.url) != taken
        assert engine.answers(lease.url)
        await lease.release()
        assert [each.name for each in trap.iterdir()] == ["precious"]
    finally:
        taken.unlink()


async def test_the_directory_is_another_users(engine: Engine, home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory another user's")
    (home / "run").mkdir(mode=0o700)
    os.chown(home / "run", 65534, 65534)
    with pytest.raises(StoreUnavailableError, match="belongs to another user"):
        await engine.acquire(home)


async def test_a_cancelled_caller_leaves_nothing(engine: Engine, home: Path) -> None:
    for moment in (0, 0.02, 0.1):
        caller = asyncio.create_task(engine.acquire(home))
        await asyncio.sleep(moment)
        caller.cancel()
        await asyncio.wait([caller])
        if not caller.cancelled():  # it was quicker
            await caller.result().release()
    await asyncio.get_running_loop().shutdown_default_executor()  # what was begun is finished, and undone
    assert [path for _, path in shared._shares._shares if path == str(home)] == []
    assert gone(home)


async def test_what_cannot_start_says_why(engine: Engine, home: Path) -> None:
    shutil.rmtree(home / "data", ignore_errors=True)
    (home / "data").mkdir()
    name = {"redis": "appendonly.aof", "postgres": "PG_VERSION"}[engine.name]
    (home / "data" / name).write_text("no such thing\nREDIS0009\n")
    with pytest.raises(StoreUnavailableError, match=r"does not run: .*server\.log"):
        await engine.acquire(home)
    assert gone(home)


async def test_the_environment_stays_outside(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the supervisor inherits it keeps, and PGPORT and its like would reach the server."""
    for name in ("PGPORT", "PGDATA", "PGUSER", "SECRET_KEY"):
        monkeypatch.setenv(name, "hunter2swordfish")
    lease = await engine.acquire(home)
    for pid in (supervisor_of(home), server_of(home)):
        assert b"hunter2swordfish" not in Path(f"/proc/{pid}/environ").read_bytes()
    await lease.release()


async def test_a_directory_that_was_deleted_under_the_server(engine: Engine, home: Path) -> None:
    first = await engine.acquire(home)
    old = [supervisor_of(home), *processes(home)]
    kept = home.parent / "moved"
    home.rename(kept)
    second = await asyncio.to_thread(asyncio.run, engine.acquire(home))
    await second.revive()
    assert second.url != first.url
    assert engine.answers(second.url)
    assert supervisor_of(home) not in old
    await first.release()
    await second.release()
    assert gone(kept)
