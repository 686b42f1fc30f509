"""What moves: the master behind sentinels fails over, a slot of a cluster goes to another node."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import RedisSettings
from app.connections.redis import RedisConnectionManager
from app.core.errors import DeadlineExceededError, OutcomeUnknownError, StoreUnavailableError
from app.db import DataLayer
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository

from ..redis_server import RedisServer, free_port

TYPED = (StoreUnavailableError, DeadlineExceededError, OutcomeUnknownError)


def until(true: Callable[[], bool], seconds: float = 45) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_role(server: RedisServer, role: str) -> bool:
    """Whether a server has a role. One that takes another hangs up on whoever is asking."""
    with suppress(ConnectionError):
        return f"role:{role}".encode() in server.command("INFO", "replication")
    return False


async def in_time(work: Callable[[], Awaitable[Any]], seconds: float = 20) -> tuple[Any, int]:
    """The first answer, and how many errors of ours came before it. Any other error fails the test."""
    errors = 0
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await work(), errors
            except TYPED:
                errors += 1
                await asyncio.sleep(0.02)


# ---------------------------------------------------------------- sentinels


@pytest.fixture
def replicated() -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica and the sentinel that watches them."""
    master = RedisServer(port=free_port())
    replica = RedisServer("--replicaof", "127.0.0.1", str(master.port), port=free_port())
    watching = RedisServer(port=free_port())
    try:
        master.start()
        replica.start()
        until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        file = watching.directory / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 3000\n"
        )
        watching.start(str(file), "--sentinel")
        until(lambda: b"slaves=1" in watching.command("INFO", "sentinel"))
        yield master, replica, watching
    finally:
        for each in (watching, replica, master):
            each.end()


@pytest.fixture
async def manager(replicated: tuple[RedisServer, RedisServer, RedisServer]) -> AsyncIterator[RedisConnectionManager]:
    url = SecretStr(f"redis://127.0.0.1:{replicated[2].port}")
    manager = RedisConnectionManager(RedisSettings(url=url, mode="sentinel", service="main", timeout=1))
    yield manager
    await manager.close()


async def test_a_replica_takes_over_from_a_killed_master(
    replicated: tuple[RedisServer, RedisServer, RedisServer], manager: RedisConnectionManager
) -> None:
    master, replica, _ = replicated
    counts = await asyncio.gather(*(manager.incr("n") for _ in range(100)))
    assert max(counts) == 100
    until(lambda: replica.command("GET", "n").endswith(b"100\r\n"))
    master.kill()
    value, errors = await in_time(lambda: manager.get("n"))
    assert value == "100", "the replica has what was acknowledged and replicated"
    assert errors, "the master was away for a moment"
    until(lambda: has_role(replica, "master"))
    value, _ = await in_time(lambda: manager.incr("n"))
    assert value > 100
    assert len(set(await asyncio.gather(*(manager.incr("n") for _ in range(40))))) == 40
    assert (await manager.health()).healthy
    master.start()
    # The sentinel would say so too, after a while that differs from run to run.
    master.command("REPLICAOF", "127.0.0.1", str(replica.port))
    until(lambda: has_role(master, "slave"))
    before = int(await manager.get("n"))
    assert await manager.incr("n") == before + 1, "and not to the old master, which is a replica now"


async def test_a_failover_that_was_ordered_counts_nothing_twice(
    replicated: tuple[RedisServer, RedisServer, RedisServer], manager: RedisConnectionManager
) -> None:
    """The old master lives, and refuses writes once it is told. What it did last may be lost, as Redis has it."""
    master, replica, watching = replicated
    acknowledged = unknown = 0
    ordered = False
    async with asyncio.timeout(30):
        while not has_role(replica, "master") or acknowledged < 200:
            try:
                await manager.incr("n")
                acknowledged += 1
            except OutcomeUnknownError:
                unknown += 1
            except TYPED:
                await asyncio.sleep(0.01)
            if acknowledged == 100 and not ordered:
                ordered = True
                until(lambda: replica.command("GET", "n").endswith(b"100\r\n"))
                until(lambda: watching.command("SENTINEL", "FAILOVER", "main") == b"+OK\r\n")
    until(lambda: has_role(master, "slave"))
    final, _ = await in_time(lambda: manager.get("n"))
    assert int(final) <= acknowledged + unknown, "no increment was sent twice"


# ---------------------------------------------------------------- a cluster


@pytest.fixture
def nodes() -> Iterator[list[RedisServer]]:
    """Three masters, each with a third of the slots."""
    servers = [RedisServer("--cluster-enabled", "yes", "--cluster-node-timeout", "3000") for _ in range(3)]
    try:
        for number, server in enumerate(servers):
            server.port = free_port()
            server.start()
            assert server.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1)) == b"+OK\r\n"
            slots = range(number * 16384 // 3, (number + 1) * 16384 // 3)
            for start in range(slots.start, slots.stop, 4096):
                part = range(start, min(start + 4096, slots.stop))
                assert server.command("CLUSTER", "ADDSLOTS", *map(str, part)) == b"+OK\r\n"
        for other in servers[1:]:
            servers[0].command("CLUSTER", "MEET", "127.0.0.1", str(other.port))
        until(lambda: all(ready(each) for each in servers), 30)
        yield servers
    finally:
        for each in servers:
            each.end()


def ready(server: RedisServer) -> bool:
    info = server.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


def move(nodes: list[RedisServer], key: str) -> RedisServer:
    """Move the slot of a key with all it holds to another node, which is returned."""
    slot = nodes[0].command("CLUSTER", "KEYSLOT", key)[1:-2].decode()
    [source] = [each for each in nodes if each.command("EXISTS", key) == b":1\r\n"]
    target = nodes[(nodes.index(source) + 1) % 3]
    ids = {each.port: each.command("CLUSTER", "MYID").split(b"\r\n")[1].decode() for each in nodes}
    assert target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port]) == b"+OK\r\n"
    assert source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port]) == b"+OK\r\n"
    found = source.command("CLUSTER", "GETKEYSINSLOT", slot, "1000").split(b"\r\n")[2::2]
    for each in found:
        moved = source.command("MIGRATE", "127.0.0.1", str(target.port), each.decode(), "0", "5000")
        assert moved == b"+OK\r\n"
    for node in (target, source, *nodes):
        with suppress(AssertionError):  # a node may know it by then
            assert node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port]) == b"+OK\r\n"
    assert target.command("EXISTS", key) == b":1\r\n"
    return target


async def test_records_of_a_cluster_of_three_and_slots_that_move(nodes: list[RedisServer]) -> None:
    config: dict[str, Any] = {
        "connections": {"redis": {"url": f"redis://127.0.0.1:{nodes[0].port}", "mode": "cluster"}},
        "repositories": {"user": {"connection": "redis"}, "signup_session": {"connection": "redis"}},
    }
    async with DataLayer.from_config(config) as data:
        health = (await data.health())["redis"]
        assert health.healthy, health.detail
        assert health.pool is not None
        assert health.pool["nodes"] == 3
        sessions = data.repository(SignupSessionRepository)
        names = [f"s{number}" for number in range(60)]
        assert all(await asyncio.gather(*(sessions.create_session(name, {"step": 1}) for name in names)))
        held = [sum(each.command("EXISTS", f"signup:{name}") == b":1\r\n" for name in names) for each in nodes]
        assert sum(held) == 60
        assert min(held) >= 5, "they are spread over the nodes"
        users = data.repository(UserRepository)
        user = await users.create_user("a@x.io", "anna", "Anna", "Do", "x")
        assert user is not None

        # The client's map of the cluster is now wrong, and it is told so by MOVED.
        move(nodes, "signup:s7")
        assert (await sessions.get_session("s7") or {})["step"] == 1
        counts = await asyncio.gather(*(sessions.increment_attempt("s7") for _ in range(20)))
        assert sorted(counts) == list(range(1, 21))
        target = move(nodes, "signup:s7")
        assert await sessions.increment_attempt("s7") == 21, "a write alone follows as well, and is done once"
        assert await sessions.update_session("s7", {"step": 2})
        assert target.command("EXISTS", "signup:s7") == b":1\r\n"

        move(nodes, f"{{users}}:{user.id}")
        assert await users.get_user_by_email("a@x.io") == user
        move(nodes, f"{{users}}:{user.id}")
        assert await users.create_user("a@x.io", "other", "Anna", "Do", "x") is None
        assert await users.create_user("b@x.io", "bo_1", "Bo", "Ek", "x") is not None
        assert await users.count() == 2
