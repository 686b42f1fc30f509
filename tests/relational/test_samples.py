"""The samples of the specification, as programs: with nothing configured, and with DATABASE_URL."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

# As the text has it, but for the path of the import.
CORE = '''
from app.db.relational import Base, FullModel, get_db, engine
from sqlalchemy import Column, String, Float, Integer

# Define a model using provided base classes
class Campaign(FullModel):
    """Campaign data model."""
    name = Column(String(255), nullable=False, index=True)
    budget = Column(Float, nullable=False)
    platform = Column(String(50), nullable=False)
    impressions = Column(Integer, default=0)

    # Custom methods can be added
    def is_active(self):
        return self.deleted_at is None and self.budget > 0

# Create tables
Base.metadata.create_all(bind=engine)

# Use the database session
def get_campaigns():
    db = next(get_db())
    campaigns = db.query(Campaign).filter(Campaign.is_deleted.is_(False)).all()
    return [campaign.to_dict() for campaign in campaigns]
'''

AND_THEN = """
import asyncio
from sqlalchemy import insert

async def write():
    async with get_db() as db:
        # Perform database operations
        await db.execute(insert(Campaign).values(name="spring", budget=10.5, platform="web"))
        await db.commit()

async def write_more():
    async with get_db() as db:
        db.add(gone := Campaign(name="gone", budget=1, platform="web"))
        await db.commit()
        await db.delete(gone)
        await db.commit()
        db.add(Campaign(name="forgotten", budget=1, platform="web"))

asyncio.run(write())
asyncio.run(write_more())
[spring] = get_campaigns()
assert (spring["name"], spring["budget"], spring["impressions"]) == ("spring", 10.5, 0), spring
db = next(get_db())
assert {each.name: each.is_active() for each in db.query(Campaign)} == {"spring": True, "gone": False}
print(engine.dialect.name)
"""


def run(program: str, directory: Path, **environment: str) -> str:
    """Warnings, also those of a connection that was left open, are errors."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "MANYSTORE_CONFIG")}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={**kept, **environment},
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_with_nothing_configured(tmp_path: Path) -> None:
    assert run(CORE + AND_THEN, tmp_path) == "sqlite\n"
    assert (tmp_path / ".manystore" / "app.db").is_file()


def test_with_the_url_of_a_file(tmp_path: Path) -> None:
    assert run(CORE + AND_THEN, tmp_path, DATABASE_URL="sqlite:///here.db") == "sqlite\n"
    assert (tmp_path / "here.db").is_file()


def test_with_the_url_of_a_server(tmp_path: Path, postgres_schemas: Callable[[], str]) -> None:
    url = postgres_schemas().replace("postgresql://", "postgresql+asyncpg://")
    assert run(CORE + AND_THEN, tmp_path, DATABASE_URL=url) == "postgresql\n"


@pytest.mark.parametrize("statement", ["import app.db.relational", "from app.db.relational import engine, get_db"])
def test_importing_it_opens_nothing(tmp_path: Path, statement: str) -> None:
    code = f"import sys, os; {statement}; print({{'psycopg', 'aiosqlite', 'fastapi'}} & set(sys.modules), os.listdir())"
    assert run(code, tmp_path) == "set() []\n"
