"""The first use of a store imports its driver, which takes up to two seconds: never on the loop."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, json, sys, threading

class Finder:
    on_loop = set()

    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            self.on_loop.add(name.partition(".")[0])

async def main():
    from app.db import DataLayer
    from app.core.errors import StoreUnavailableError
    async with DataLayer.from_config(json.loads(sys.argv[1])) as data:
        store = data.vector_store("documents")
        sys.meta_path.insert(0, Finder())
        try:
            await store.count()
        except StoreUnavailableError:
            pass

asyncio.run(main())
print(json.dumps([sorted(Finder.on_loop), sorted(sys.modules)]))
"""
DRIVERS = {
    "qdrant_edge": {"type": "qdrant", "url": "embedded"},
    "qdrant_client": {"type": "qdrant", "url": "http://127.0.0.1:9", "timeout": 1},
    "chromadb": {"type": "chromadb", "path": "chroma"},
    "psycopg": {"type": "postgres", "url": "postgresql://127.0.0.1:9/none", "timeout": 1},
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_driver_is_imported_off_the_loop(driver: str, tmp_path: Path) -> None:
    store = {"connection": "vectors"}
    config = {
        "data_dir": str(tmp_path),
        "connections": {"vectors": DRIVERS[driver]},
        "vector_stores": {"documents": store},
    }
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(config)], check=False, capture_output=True, text=True, timeout=60
    )
    assert not answer.returncode, answer.stderr
    on_loop, loaded = json.loads(answer.stdout)
    assert {driver, "langchain_core"} <= {*loaded}
    assert not {driver, "langchain_core", "numpy", "langsmith"} & {*on_loop}
