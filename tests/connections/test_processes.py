"""Several processes on one file: killed, forked, and writing at the same time."""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from app.config.settings import SQLiteSettings
from app.connections.sqlite import SQLiteConnectionManager

WRITER = """
import asyncio, sys
from pathlib import Path
from app.config.settings import SQLiteSettings
from app.connections.sqlite import SQLiteConnectionManager

async def main(path, first):
    manager = SQLiteConnectionManager(SQLiteSettings(path=Path(path), timeout=20))
    await manager.execute_command("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)")

    async def write(x):
        await manager.execute_command("INSERT INTO t VALUES (?)", (x,))
        print(x, flush=True)

    for start in range(first, first + 200_000, 10):
        await asyncio.gather(*(write(x) for x in range(start, start + 10)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def at(path: Path, timeout: float = 5) -> SQLiteConnectionManager:
    return SQLiteConnectionManager(SQLiteSettings(path=path, timeout=timeout))


def start_writer(path: Path, first: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True)


def kill_after(writer: "subprocess.Popen[str]", lines: int) -> list[int]:
    """Kill a writer in the middle of its work; return what it had acknowledged."""
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline() for _ in range(lines)]
    writer.kill()
    acknowledged += writer.stdout.readlines()
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    return [int(line) for line in acknowledged if line.endswith("\n")]


async def test_a_killed_writer_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    acknowledged = kill_after(start_writer(path, 0), 500)
    assert len(acknowledged) >= 500
    manager = at(path)
    kept = {x for (x,) in await manager.execute_query("SELECT x FROM t")}
    assert set(acknowledged) <= kept
    assert await manager.execute_query("PRAGMA integrity_check") == [("ok",)]
    await manager.execute_command("INSERT INTO t VALUES (-1)")
    await manager.close()


async def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    writers = [start_writer(path, number * 1_000_000) for number in range(2)]
    counts = [len(await asyncio.to_thread(kill_after, writer, 300)) for writer in writers]
    manager = at(path, timeout=20)
    [[kept]] = await manager.execute_query("SELECT count(*) FROM t")
    assert kept >= sum(counts)
    await manager.close()


RECOVERING = """
import fcntl, sys
with open(sys.argv[1] + "-shm", "r+b") as index:
    for byte in (120, 122):  # the locks of a writer, and of one who recovers the index
        fcntl.lockf(index, fcntl.LOCK_EX, 1, byte)
    index.write(b"!")  # the index has to be recovered
    index.flush()
    print("locked", flush=True)
    sys.stdin.read()
"""


def start_recovery(path: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", RECOVERING, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def test_reads_wait_while_another_process_recovers_the_index(tmp_path: Path) -> None:
    """What a process does that opens the file after another one crashed."""
    path = tmp_path / "app.db"
    for timeout, answer in ((0.2, "DeadlineExceededError"), (10, "[(1,)]")):
        manager = at(path, timeout=timeout)
        await manager.execute_command("CREATE TABLE IF NOT EXISTS t (x)")
        with start_recovery(path) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert await asyncio.to_thread(other.stdout.readline) == b"locked\n"
            read = asyncio.create_task(manager.execute_query("SELECT count(*) + 1 FROM t"))
            await asyncio.wait([read], timeout=0.4)
            assert read.done() == (timeout < 1)
            other.stdin.close()
        outcome = await asyncio.gather(read, return_exceptions=True)
        assert answer in repr(outcome[0])
        await manager.close()


def in_child(work: Callable[[], str], seconds: float = 20) -> str:
    """Run in a forked child, and return what it says; a child that hangs is killed and fails the test."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(int(seconds))
            os.write(writer, work().encode())
        except BaseException as error:  # noqa: BLE001 - the child must never come back into the test run
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the child hung"
    return answer


pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


async def in_child_of_a_thread(work: Callable[[], Coroutine[None, None, str]]) -> str:
    """Fork beside the running loop, so that the child can have one of its own."""
    return await asyncio.to_thread(in_child, lambda: asyncio.run(work()))


def test_a_child_errors_clearly_on_a_file_that_was_open_at_the_fork(tmp_path: Path) -> None:
    """SQLite takes the parent's locks for the child's own: a child that wrote here would lose acknowledged writes."""
    manager = at(tmp_path / "app.db")

    async def use() -> str:
        return str(await manager.execute_query("SELECT count(*) FROM t"))

    async def parent() -> None:
        await manager.execute_command("CREATE TABLE t (x)")
        engine = await manager.connect()
        busy = [engine.write("INSERT INTO t VALUES (1)") for _ in range(200)]
        answers = [await in_child_of_a_thread(each) for each in (use, another_manager, another_file)]
        await asyncio.gather(*busy)
        refused = f"StoreUnavailableError: {tmp_path}/app.db was open when this process was forked"
        assert answers[0].startswith(refused)
        assert answers[1].startswith(refused)
        assert answers[2] == "[(1,)]"
        assert await use() == "[(200,)]"
        await manager.close()

    async def another_manager() -> str:
        return str(await at(tmp_path / "app.db").execute_query("SELECT 1"))

    async def another_file() -> str:
        return str(await at(tmp_path / "other.db").execute_query("SELECT 1"))

    asyncio.run(parent())


def test_a_child_that_kept_the_engine_itself_errors_clearly(tmp_path: Path) -> None:
    async def parent() -> None:
        manager = at(tmp_path / "app.db")
        engine = await manager.connect()

        async def submit() -> str:
            return str(await engine.read("SELECT 1"))

        answer = await in_child_of_a_thread(submit)
        assert answer == f"StoreUnavailableError: sqlite {tmp_path}/app.db is closed"
        await manager.close()

    asyncio.run(parent())


def test_a_child_works_where_nothing_was_open(tmp_path: Path) -> None:
    manager = at(tmp_path / "app.db")

    async def use() -> str:
        await manager.execute_command("CREATE TABLE IF NOT EXISTS t (x)")
        await manager.execute_command("INSERT INTO t VALUES (1)")
        rows = await manager.execute_query("SELECT count(*) FROM t")
        await manager.disconnect()
        return str(rows)

    assert in_child(lambda: asyncio.run(use())) == "[(1,)]"
    assert asyncio.run(use()) == "[(2,)]"
    assert in_child(lambda: asyncio.run(use())) == "[(3,)]"
    asyncio.run(manager.close())


def count(path: str) -> int:
    async def ask() -> int:
        manager = at(Path(path))
        [[number]] = await manager.execute_query("SELECT count(*) FROM t")
        await manager.close()
        return int(number)

    return asyncio.run(ask())


def test_a_spawned_process_shares_the_open_file(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    code = f"from pathlib import Path; import runpy; print(runpy.run_path({__file__!r})['count']({str(path)!r}))"

    async def parent() -> None:
        manager = at(path)
        await manager.execute_command("CREATE TABLE t (x)")
        await manager.execute_command("INSERT INTO t VALUES (1)")
        answer = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", code], text=True)
        assert answer.strip() == "1"
        await manager.close()

    asyncio.run(parent())


def test_forget_in_the_child_does_not_end_the_parents_threads(tmp_path: Path) -> None:
    async def parent() -> None:
        manager = at(tmp_path / "app.db")
        await manager.execute_command("CREATE TABLE t (x)")
        context = multiprocessing.get_context("fork")
        process = context.Process(target=int)  # ends through multiprocessing's own exit
        process.start()
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
        assert await manager.execute_query("SELECT count(*) FROM t") == [(0,)]
        await manager.close()

    asyncio.run(parent())


def test_the_lost_write_that_the_refusal_prevents(tmp_path: Path) -> None:
    """The reason, in plain sqlite3: should this fail one day, a child may be allowed to open the file."""
    path = tmp_path / "app.db"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        return connection

    parent = connect()
    parent.execute("CREATE TABLE t (x)")
    child_opened, child_go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        connection = connect()
        connection.execute("INSERT INTO t VALUES (1)")
        os.write(child_opened[1], b"1")
        os.read(child_go[0], 1)
        connection.execute("INSERT INTO t VALUES (2)")
        os._exit(0)
    os.read(child_opened[0], 1)
    parent.close()
    os.write(child_go[1], b"1")
    os.waitpid(child, 0)
    for descriptor in (*child_opened, *child_go):
        os.close(descriptor)
    check = sqlite3.connect(path)
    assert check.execute("SELECT x FROM t").fetchall() == [(1,)]
    check.close()
