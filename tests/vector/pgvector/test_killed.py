"""A process that is killed at any statement of an ingestion, and run again, leaves what one run leaves."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.connections.postgres import PostgresConnectionManager
from app.db import DataLayer
from app.db.vector.ingest import ingest

from ..versions import write

SCRIPT = """
import asyncio, os, signal, sys
from app.db import DataLayer
from app.db.vector import pgvector_engine, pgvector_write
from app.db.vector.ingest import ingest

left = int(sys.argv[3])

def counted(call):
    async def counting(*given):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return await call(*given)
    return counting

for module in (pgvector_engine, pgvector_write):
    for name in ("execute", "fetch"):
        setattr(module, name, counted(getattr(module, name)))
pgvector_write._copy = counted(pgvector_write._copy)
pgvector_write.AT_ONCE = 2

async def main():
    stores = {"documents": {"connection": "postgres"}}
    settings = {"connections": {"postgres": {"url": sys.argv[1]}}, "vector_stores": stores}
    async with DataLayer.from_config(settings) as data:
        await ingest(data.vector_store("documents"), [sys.argv[2]])

asyncio.run(main())
print(int(sys.argv[3]) - left)
"""


def run(url: str, files: Path, killed_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, url, str(files), str(killed_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


COLUMNS = "id, document_id, content, source, embedded_at, embedding"


async def ingested(url: str, files: Path) -> list[Any]:
    """What an undisturbed run makes of what is there."""
    stores = {"documents": {"connection": "postgres"}}
    async with DataLayer.from_config({"connections": {"postgres": {"url": url}}, "vector_stores": stores}) as data:
        await ingest(data.vector_store("documents"), [files])
        return await rows(data.connection("postgres"))


async def rows(manager: PostgresConnectionManager) -> list[Any]:
    return await manager.execute_query("SELECT id, document_id, content, source FROM documents ORDER BY id")


async def test_an_ingestion_killed_at_any_statement_is_completed_by_the_next(
    postgres_schemas: Callable[[], str], tmp_path: Path
) -> None:
    url, files = postgres_schemas(), tmp_path / "files"
    write(files, 1)
    await ingested(url, files)
    async with PostgresConnectionManager.around(url) as manager:
        await manager.execute_command(f"CREATE TABLE before AS SELECT {COLUMNS} FROM documents")
        write(files, 2)
        counting = run(url, files, 10**6)
        statements = int(counting.stdout)
        expected = await rows(manager)
        documents = {row[1] for row in expected}
        assert (len(documents), statements > 10) == (2, True)
        for killed_at in range(1, statements + 1, 3):
            await manager.execute_command("TRUNCATE documents")
            await manager.execute_command(f"INSERT INTO documents ({COLUMNS}) SELECT {COLUMNS} FROM before")
            assert run(url, files, killed_at).returncode == -signal.SIGKILL
            assert {row[1] for row in await rows(manager)} == documents, "a document was lost"
            assert await ingested(url, files) == expected
