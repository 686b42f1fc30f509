"""Records on SQLite: our repository against aiosqlite's one-hop calls, the same pydantic model validated in and out.

Both sides run interleaved in one process, on a database file each with the same pragmas and indexes. What is measured
is the CPU time of the process for one operation; the table has medians over the rounds, and their ratio. The process
stays on one core: waking a thread on another one costs up to three times as much, and which one it is, is luck.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite

from app.db import DataLayer, UserInDB
from app.db.models.base import new_object_id
from app.db.repositories.user_repository import UserRepository

OPERATIONS = 320
ROUNDS = 9
TASKS = (1, 32)
NAMES = ("create", "get", "get by unique field", "update", "delete")

COLUMNS = tuple(UserInDB.model_fields)
LISTED = ", ".join(COLUMNS)
LIVE = "AND deleted_at IS NULL"


def new_user(number: int) -> UserInDB:
    return UserInDB(
        id=new_object_id(),
        email=f"user{number}@example.com",
        username=f"user{number}",
        firstname="John",
        lastname="Doe",
        password_hash="$2b$12$" + "x" * 53,
    )


def to_row(user: UserInDB) -> tuple[Any, ...]:
    values = (getattr(user, name) for name in COLUMNS)
    return tuple(value.isoformat() if isinstance(value, datetime) else value for value in values)


def to_user(row: Any) -> UserInDB:
    return UserInDB.model_validate(dict(zip(COLUMNS, row, strict=True)))


class Raw:
    """What one would write by hand. A write is one call and commits by itself."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def create(self, user: UserInDB) -> UserInDB:
        sql = f"INSERT INTO users ({LISTED}) VALUES ({', '.join('?' * len(COLUMNS))})"
        await self._connection.execute_insert(sql, to_row(user))
        return UserInDB.model_validate(user.model_dump())

    async def get(self, user: UserInDB) -> UserInDB:
        return await self._one(f"SELECT {LISTED} FROM users WHERE id = ? {LIVE}", user.id)

    async def get_by_unique_field(self, user: UserInDB) -> UserInDB:
        return await self._one(f"SELECT {LISTED} FROM users WHERE email = ? {LIVE}", user.email)

    async def update(self, user: UserInDB) -> UserInDB:
        sql = f"UPDATE users SET firstname = ?, updated_at = ? WHERE id = ? {LIVE} RETURNING {LISTED}"
        return await self._one(sql, "Jane", datetime.now(UTC).isoformat(), user.id)

    async def delete(self, user: UserInDB) -> None:
        await self._connection.execute_fetchall(f"DELETE FROM users WHERE id = ? {LIVE}", (user.id,))

    async def _one(self, sql: str, *parameters: Any) -> UserInDB:
        [row] = await self._connection.execute_fetchall(sql, parameters)
        return to_user(row)


class Ours:
    def __init__(self, users: UserRepository) -> None:
        self._users = users

    async def create(self, user: UserInDB) -> UserInDB:
        return await self._users.create(user)

    async def get(self, user: UserInDB) -> UserInDB | None:
        return await self._users.get(user.id)

    async def get_by_unique_field(self, user: UserInDB) -> UserInDB | None:
        return await self._users.find_one({"email": user.email})

    async def update(self, user: UserInDB) -> UserInDB | None:
        return await self._users.update(user.id, {"firstname": "Jane"})

    async def delete(self, user: UserInDB) -> bool:
        return await self._users.delete(user.id, hard=True)


async def measure(operation: Callable[[UserInDB], Awaitable[object]], users: list[UserInDB], tasks: int) -> float:
    """CPU microseconds for one operation."""

    async def work(share: list[UserInDB]) -> None:
        for user in share:
            await operation(user)

    start = time.process_time()
    await asyncio.gather(*(work(users[i::tasks]) for i in range(tasks)))
    return (time.process_time() - start) / len(users) * 1e6


async def run(directory: Path) -> dict[tuple[str, int], tuple[float, float]]:
    config = {"data_dir": str(directory), "connections": {"sqlite": {"path": "ours.db", "synchronous": "normal"}}}
    async with (
        DataLayer.from_config(config) as data,
        aiosqlite.connect(directory / "raw.db", isolation_level=None) as raw,
    ):
        users = data.repository(UserRepository)
        await users.count()
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            await raw.execute_fetchall(f"PRAGMA {pragma}")
        tables = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC"
        for [sql] in await users.manager.execute_query(tables):  # type: ignore[attr-defined]
            await raw.execute_fetchall(sql)
        times: dict[tuple[str, int], tuple[list[float], list[float]]] = {}
        number = 0
        for _ in range(ROUNDS):
            for tasks in TASKS:
                entities = [new_user(number + i) for i in range(OPERATIONS)]
                number += OPERATIONS
                for name in NAMES:
                    for side, store in enumerate((Ours(users), Raw(raw))):
                        operation = getattr(store, name.replace(" ", "_"))
                        times.setdefault((name, tasks), ([], []))[side].append(
                            await measure(operation, entities, tasks)
                        )
    return {key: (statistics.median(ours), statistics.median(raw)) for key, (ours, raw) in times.items()}


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(run(Path(directory)))
    print(f"records on SQLite, Python {sys.version.split()[0]}: CPU µs for one operation, medians of {ROUNDS} rounds")
    print(f"{'operation':<22}{'tasks':>6}{'ours':>9}{'raw':>9}{'ratio':>8}")
    for name in NAMES:
        for tasks in TASKS:
            ours, raw = results[name, tasks]
            print(f"{name:<22}{tasks:>6}{ours:>9.1f}{raw:>9.1f}{ours / raw:>8.2f}")
    for tasks in TASKS:
        mean = statistics.geometric_mean(results[name, tasks][0] / results[name, tasks][1] for name in NAMES)
        print(f"{'geometric mean':<22}{tasks:>6}{'':>18}{mean:>8.2f}")


if __name__ == "__main__":
    main()
