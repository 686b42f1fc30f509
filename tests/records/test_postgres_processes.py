"""Several processes on one PostgreSQL: first use together, and a death in the middle of writing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from app.db import DataLayer
from app.testing.models import Products

START = """
import asyncio, json, sys
from app.db import DataLayer
from app.db.repositories.signup_session_repository import SignupSessionRepository
from app.db.repositories.user_repository import UserRepository
from app.testing.models import Product, Products

config = {"connections": {"postgres": {"url": sys.argv[1], "timeout": 30, "pool": {"max_size": 4}}}}
names = ("user", "signup_session")
config["repositories"] = {name: {"connection": "postgres"} for name in names}
"""

ROOT = Path(__file__).parents[2]

FIRST_USE = """
from tests.records.eight import at_once

async def main(url, number, begin):
    config["connections"]["postgres"]["url"] = url
    async with DataLayer.from_config(config) as data:
        users, sessions = data.repository(UserRepository), data.repository(SignupSessionRepository)
        await data.connection("postgres").execute_query("SELECT 1")
        begin.read()
        user, begun, _ = await asyncio.gather(
            users.create_user(f"u{number}@x.io", f"user{number}", "Jo", "Do", "hash"),
            sessions.create_session(f"s{number}"),
            data.repository(Products).create(Product(name=str(number), sku=str(number))),
        )
        assert begun
        assert await users.get(user.id) == user

at_once(main, *sys.argv[1:])
"""

WRITING = """
async def main():
    async with DataLayer.from_config(config) as data:
        products = data.repository(Products)
        async def write(name):
            for turn in range(1_000_000):
                pair = [Product(id=f"{name}{turn}{side}", name=f"{name}{turn}{side}") for side in "ab"]
                if turn % 2:
                    async with products.transaction() as tx:
                        for each in pair:
                            await tx.create(each)
                else:
                    await products.create_many(pair)
                print(json.dumps([each.id for each in pair]), flush=True)
        await asyncio.gather(*map(write, ("anna", "bert", "cleo")))

asyncio.run(main())
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MANYSTORE_CONFIG": ""},
        cwd=ROOT,
    )


def test_eight_processes_first_use_an_empty_database_together(postgres_schemas: Callable[[], str]) -> None:
    urls = [postgres_schemas() for _ in range(5)]
    process = start(FIRST_USE, *urls)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 0)
    for url in urls[1:]:
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM users").fetchone() == (8,)


async def test_acknowledged_writes_survive_a_killed_process(postgres_schemas: Callable[[], str]) -> None:
    url = postgres_schemas()
    process = start(WRITING, url)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(60)]
    process.send_signal(signal.SIGKILL)
    rest, errors = process.communicate(timeout=60)
    assert errors == ""
    complete = [line for line in (*lines, *rest.splitlines(keepends=True)) if line.endswith("\n")]
    acknowledged = {each for line in complete for each in json.loads(line)}
    async with DataLayer.from_config({"connections": {"postgres": {"url": url}}}) as data:
        found = {product.id async for product in data.repository(Products).stream()}
    assert acknowledged <= found
    assert {each[:-1] + "b" for each in found} == {each[:-1] + "b" for each in found if each.endswith("a")}
    assert len(found) % 2 == 0, "half of a pair was stored"
