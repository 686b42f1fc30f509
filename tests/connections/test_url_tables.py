"""The tables of docs/deployment.md say what the tests of the addresses hold."""

from pathlib import Path
from typing import Any

import pytest

from . import test_mongodb_urls as mongodb
from . import test_postgres_urls as postgres
from . import test_redis_addresses as redis

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
# What is in the address as it is in the outcome.
SAME = {"user", "password", "host", "port", "dbname", "hosts", "who", "kind", "path", "db", "auth"}

NAMES = {
    "connect_within": "connect_timeout",
    "max_size": "pool.max_size",
    "max": "pool.max_size",
    "wait": "pool.timeout",
    "max_lifetime": "pool.max_lifetime",
    "max_idle": "pool.max_idle",
}


def row(url: str, outcome: dict[str, Any]) -> str:
    told = [
        f"`{NAMES.get(key, key)}={value}`" for key, value in outcome.items() if key not in SAME and value is not None
    ]
    return f"| `{url}` | {' '.join(told) or 'as it stands'} |"


ROWS = [row(url, found) for each in (postgres, redis, mongodb) for url, found in each.UNDERSTOOD.items()]


def test_there_are_more_than_thirty() -> None:
    assert len(ROWS) >= 30


@pytest.mark.parametrize("row", ROWS)
def test_each_is_on_the_page(row: str) -> None:
    assert row in PAGE.read_text("utf-8"), f"write this row there:\n{row}"


@pytest.mark.parametrize("url", [*postgres.REFUSED, *redis.REFUSED, *mongodb.REFUSED])
def test_the_page_promises_nothing_that_is_refused(url: str) -> None:
    understood = PAGE.read_text("utf-8").partition("## What is refused")[0]
    assert f"`{url}`" not in understood
