"""The stores, each with a place of its own for the run, and the sides that are measured on it."""

import asyncio
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from redis.asyncio import Redis

from app.connections.embedded import postgres as embedded_postgres
from app.connections.embedded import redis as embedded_redis

from .ours import CachedInProcess, CachedInRedis, Managed, Ours
from .peers.alchemy import AdvancedAlchemy
from .peers.beanie import Beanie
from .peers.pydantic_mongo import PydanticMongo
from .peers.redis_om import RedisOM
from .peers.sqlmodel import SQLModelSide
from .peers.tortoise import TortoiseORM
from .raw.mongodb import RawMongoDB
from .raw.postgres import RawPostgres
from .raw.redis import RawRedis
from .raw.sqlite import RawSQLite
from .side import POOL_SIZE, Side

# As patient as the others: 32 batches at once wait longer for a connection than an application would want to.
_LIMITS = {"timeout": 60, "pool": {"max_size": POOL_SIZE, "timeout": 60}}


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[tuple[str, list[Side]]]:
    yield (
        f"SQLite {sqlite3.sqlite_version}",
        [
            Ours("sqlite", {"path": "ours.db", "synchronous": "normal"}, directory),
            RawSQLite(directory),
            AdvancedAlchemy("sqlite", str(directory / "alchemy.db")),
            SQLModelSide("sqlite", str(directory / "sqlmodel.db")),
            TortoiseORM("sqlite", str(directory / "tortoise.db")),
            Managed("sqlite", {"path": "managed.db", "synchronous": "normal"}, directory),
        ],
    )


@asynccontextmanager
async def postgres(directory: Path) -> AsyncIterator[tuple[str, list[Side]]]:
    lease = await embedded_postgres.acquire(directory / "postgres")
    try:
        async with await psycopg.AsyncConnection.connect(lease.url) as connection:
            version = connection.info.parameter_status("server_version")
        yield (
            f"PostgreSQL {version}",
            [
                Ours("postgres", {"url": lease.url, **_LIMITS}, directory),
                RawPostgres(lease.url),
                AdvancedAlchemy("postgres", lease.url),
                SQLModelSide("postgres", lease.url),
                TortoiseORM("postgres", lease.url),
                Managed("postgres", {"url": lease.url, **_LIMITS}, directory),
            ],
        )
    finally:
        lease.let_go()


@asynccontextmanager
async def redis(directory: Path) -> AsyncIterator[tuple[str, list[Side]]]:
    lease = await embedded_redis.acquire(directory / "redis")
    try:
        async with Redis.from_url(lease.url) as client:
            version = (await client.info())["redis_version"]
        yield (
            f"Redis {version}",
            [
                Ours("redis", {"url": f"{lease.url}?db=0", **_LIMITS}, directory),
                RawRedis(f"{lease.url}?db=1"),
                RedisOM(f"{lease.url}?db=2"),
                Managed("redis", {"url": f"{lease.url}?db=3", **_LIMITS}, directory),
                CachedInRedis("redis", {"url": f"{lease.url}?db=4", **_LIMITS}, directory),
                CachedInProcess("redis", {"url": f"{lease.url}?db=5", **_LIMITS}, directory),
            ],
        )
    finally:
        lease.let_go()


@asynccontextmanager
async def mongodb(directory: Path) -> AsyncIterator[tuple[str, list[Side]]]:
    url = os.environ.get("MANYSTORE_TEST_MONGODB_URI")
    server = None if url else await _stand_in()
    if server is not None:
        process, url = server
    assert url
    # The stand-in knows no partial indexes, which soft deletes need.
    more = (
        [Managed("mongodb", {"url": url, "database": "bench_managed", **_LIMITS}, directory)] if server is None else []
    )
    try:
        yield (
            "MongoDB" if server is None else "a stand-in for MongoDB",
            [
                Ours("mongodb", {"url": url, "database": "bench", **_LIMITS}, directory),
                RawMongoDB(url),
                Beanie(url),
                PydanticMongo(url),
                *more,
            ],
        )
    finally:
        if server is not None:
            process.terminate()
            await process.wait()


STORES = {"sqlite": sqlite, "postgres": postgres, "redis": redis, "mongodb": mongodb}


async def _stand_in() -> tuple[asyncio.subprocess.Process, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("mongodb_wire.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), str(port))
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            break
    return process, f"mongodb://127.0.0.1:{port}/?replicaSet=bench"
