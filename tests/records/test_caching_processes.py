"""A cache that processes share: one loads for all, and one that is killed leaves nothing stale."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.db import DataLayer
from app.testing.contract.caching import Kept, KeptDrafts

from ..redis_server import RedisServer
from .test_caching import config

LOADER = """
import asyncio, json, sys
from app.db import DataLayer, Entity, Repository, cached

class Thing(Entity):
    name: str = ""

class Things(Repository[Thing]):
    calls = 0

    @cached(ttl=60)
    async def slow(self, name: str) -> int:
        type(self).calls += 1
        await asyncio.sleep(0.3)
        return await self.count()

async def main(text):
    async with DataLayer.from_config(json.loads(text)) as data:
        things = data.repository(Things)
        await things.count()
        await data.connection("redis").ping()
        print("ready", flush=True)
        sys.stdin.readline()
        results = await asyncio.gather(*(things.slow("x") for _ in range(250)))
        assert set(results) == {0}, results
        print(Things.calls, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def test_misses_of_several_processes_load_once(tmp_path: Path, server: RedisServer) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOADER, json.dumps(config(tmp_path, server))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in processes:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        counts = [int(each.communicate(timeout=30)[0]) for each in processes]
    finally:
        for each in processes:
            each.kill()
            each.wait(10)
    assert sum(counts) == 1


KILLED = """
import asyncio, json, os, signal, sys
from app.db import DataLayer
from app.testing.contract.caching import KeptDrafts

async def main(text, when):
    async with DataLayer.from_config(json.loads(text)) as data:
        drafts = data.repository(KeptDrafts)
        await drafts.get("1")
        store = data.cache.store
        opened = store.open
        async def open(*arguments):
            if when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            await opened(*arguments)
            if when == "marked":
                os.kill(os.getpid(), signal.SIGKILL)
        async def settle(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        store.open, store.settle = open, settle
        await drafts.update("1", {"body": "new"})

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(("when", "body"), [("before", "old"), ("marked", "old"), ("committed", "new")])
async def test_a_writer_that_is_killed_leaves_nothing_stale(
    tmp_path: Path, server: RedisServer, when: str, body: str
) -> None:
    async with DataLayer.from_config(config(tmp_path, server)) as data:
        drafts = data.repository(KeptDrafts)
        await drafts.create(Kept(id="1", title="a", body="old"))
        assert (await drafts.get_or_raise("1")).body == "old"
        killed = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", KILLED, json.dumps(config(tmp_path, server)), when],
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        for _ in range(3):
            assert (await drafts.get_or_raise("1")).body == body
