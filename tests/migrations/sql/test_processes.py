"""Many processes at once: each revision is applied once, and all come up."""

import asyncio
import json
import subprocess
import sys

from .conftest import Database

STARTING = """
import asyncio, json, sys
from app.db import DataLayer
from app.db.migrations.sql import migrator

async def main(config, name):
    async with DataLayer.from_config(config, migrate=True) as data:
        assert await data.repository("user").count() == 0
        assert {each.state for each in await data.migrations.of(name).status()} == {"applied"}

for line in sys.stdin:
    asyncio.run(main(json.loads(line), sys.argv[1]))
    print("up", flush=True)
"""

FILL = "op.execute(\"INSERT INTO done (step) VALUES ('{0}')\")"


def test_eight_workers_start_together_four_times(database: Database) -> None:
    database.models = ()

    async def begin() -> None:
        async with database.opened() as (_, migrator):
            await migrator.new("create")

    asyncio.run(begin())
    make = 'op.create_table("done", sa.Column("id", sa.Integer, primary_key=True), sa.Column("step", sa.Text))'
    database.write("002_make", make)
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STARTING, database.store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        for number in range(4):
            # A revision that commits in between, and one that does not.
            index = f'op.create_index("done_{number}", "done", ["id"], postgresql_concurrently=True)'
            database.write(f"{2 * number + 3:03}_fill", FILL.format(f"fill {number}"))
            block = f"with op.get_context().autocommit_block():\n        {index}\n    "
            database.write(f"{2 * number + 4:03}_index", block + FILL.format(f"index {number}"))
            for each in workers:
                assert each.stdin is not None
                each.stdin.write(json.dumps(database.config) + "\n")
                each.stdin.flush()
            for each in workers:
                assert each.stdout is not None
                assert each.stdout.readline() == "up\n", each.communicate()[1]
    finally:
        ended = [each.communicate(timeout=30)[1] for each in workers]
    assert ended == [""] * 8
    steps = sorted(f"{kind} {number}" for kind in ("fill", "index") for number in range(4))
    assert sorted(step for (step,) in database.execute("SELECT step FROM done")) == steps
    assert database.execute("SELECT count(*) FROM manystore_migrations") == [(10,)]
