"""Many processes at once: each revision is applied once, and all come up."""

import asyncio
import json
import subprocess
import sys

from .conftest import Database

# It has imported everything when it forks, so that eight workers are eight at once on few processors too.
PROGRAM = """
import asyncio, gc, json, os, sys
from app.db import DataLayer
from app.db.migrations.sql import migrator
from app.db.repositories import user_repository

gc.freeze()

async def main(config, name):
    async with DataLayer.from_config(config, migrate=True) as data:
        assert await data.repository("user").count() == 0
        assert {each.state for each in await data.migrations.of(name).status()} == {"applied"}

for line in sys.stdin:
    workers = []
    for _ in range(8):
        workers.append(os.fork())
        if workers[-1] == 0:
            asyncio.run(main(json.loads(line), sys.argv[1]))
            os._exit(0)
    print([os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in workers], flush=True)
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
    starter = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, database.store],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    try:
        for number in range(4):
            # A revision that commits in between, and one that does not.
            index = f'op.create_index("done_{number}", "done", ["id"], postgresql_concurrently=True)'
            database.write(f"{2 * number + 3:03}_fill", FILL.format(f"fill {number}"))
            block = f"with op.get_context().autocommit_block():\n        {index}\n    "
            database.write(f"{2 * number + 4:03}_index", block + FILL.format(f"index {number}"))
            starter.stdin.write(json.dumps(database.config) + "\n")
            starter.stdin.flush()
            assert starter.stdout.readline() == f"{[0] * 8}\n"
    finally:
        errors = starter.communicate(timeout=30)[1]
    assert errors == ""
    steps = sorted(f"{kind} {number}" for kind in ("fill", "index") for number in range(4))
    assert sorted(step for (step,) in database.execute("SELECT step FROM done")) == steps
    assert database.execute("SELECT count(*) FROM manystore_migrations") == [(10,)]
